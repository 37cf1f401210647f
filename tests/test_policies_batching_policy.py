"""Tests of plans that several episodes make together."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.config import EvalConfig
from eval.evaluation import set_up
from policies.action_chunk import ActionChunk
from policies.batched_forwards import BatchedForwards
from policies.batching_policy import BatchingPolicy, choose_row
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import make_memory
from policies.simple_policy import SimplePolicy
from sim.flags import make_config
from sim.observation import Observation
from tests.observations import make_random_memories
from tests.processes import wait_for
from tests.small_checkpoints import shrunken_paligemma

N_ROWS = 3
BATCHED = [*(name for name, row in LEROBOT_TYPES.items() if not row.plans_alone), "act ensembling"]
# Of several lengths.
INSTRUCTIONS = (
    "Pick up the red block and place it in the bowl",
    "Wait",
    "Put it down",
    "Take the small blue cylinder beside the plate to the far end of the table",
    "Pick up the red block and place it in the bowl",
)


def rng(*seed):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module", params=BATCHED)
def network_policy(request, small_checkpoint, small_act_ensembling):
    """Return the small policy of a type, as `eval --batch 3` loads it."""
    is_ensembling = request.param == "act ensembling"
    folder = small_act_ensembling if is_ensembling else small_checkpoint(request.param)
    config = make_config(
        EvalConfig,
        checkpoint=str(folder),
        batch=N_ROWS,
        trust_remote_code=True,
    )
    with shrunken_paligemma():
        setup = set_up(config)
    setup.env.close()
    return setup.policy


def test_a_plan_has_the_same_bits_whatever_is_beside_it(network_policy):
    """For each row of a batch, beside two sets of other episodes, and alone."""
    policy = network_policy
    own, *others = make_random_memories(policy.spec, INSTRUCTIONS)
    with closing(BatchedForwards(policy, N_ROWS)) as forwards:
        for row in range(N_ROWS):
            alone = forwards.plan(row, own.copy(), rng(0))
            assert np.isfinite(alone.actions).all()
            for neighbours in (others[:2], others[2:]):
                memories = [memory.copy() for memory in neighbours]
                rngs = [rng(1), rng(2)]
                memories.insert(row, own.copy())
                rngs.insert(row, rng(0))
                together = policy.predict(memories, rngs).actions
                assert_array_equal(together[row], alone.actions[0])
                assert np.abs(together - together[row]).max() > 0.1, "they are different episodes"
    # Kernels round a batch of one differently.
    single = policy.predict([own.copy()], [rng(0)]).actions
    assert_allclose(alone.actions, single, rtol=0, atol=0.002)


def test_the_one_length_of_instructions_can_be_taken_back(network_policy):
    """A server plans for clients with and without batches."""
    (memory,) = make_random_memories(network_policy.spec, INSTRUCTIONS[:1])

    def plan(is_on):
        network_policy.pad_instructions(is_on)
        return network_policy.predict([memory.copy()], [rng(0)]).actions

    first = {is_on: plan(is_on) for is_on in (False, True)}
    for is_on in (False, False, True):
        assert_array_equal(plan(is_on), first[is_on])


def test_instructions_of_one_length_are_no_other_instructions(small_setup, small_checkpoint):
    """Padding changes the last bits of SmolVLA's plan alone."""
    policy = small_setup("smolvla").policy
    config = make_config(EvalConfig, checkpoint=str(small_checkpoint("smolvla")), batch=2)
    with closing((setup := set_up(config)).env):
        memory, *_ = make_random_memories(policy.spec, INSTRUCTIONS)
        padded = setup.policy.predict([memory], [rng(0)]).actions
        expected = policy.predict([memory], [rng(0)]).actions
    assert_allclose(padded, expected, rtol=0, atol=0.002)


class Wave(SimplePolicy):
    """Plans from state and noise, counts its forward passes, and refuses an instruction."""

    def __init__(self, env, **declared):
        super().__init__("wave", env, chunk_size=4, stochastic=True, **declared)
        self.batches = []

    def plan(self, observation, rng):
        if observation.instruction == "fail":
            raise ValueError("it cannot be planned")
        return observation.state + rng.normal(size=(4, 6))

    def predict(self, memories, rngs):
        self.batches.append([memory.present.instruction for memory in memories])
        for memory in memories:
            memory.recurrent_state = (memory.recurrent_state or 0) + 1
        actions = super().predict(memories, rngs).actions
        return ActionChunk(
            actions,
            intermediate_plans=actions[:, None] + 1,
            features={"embedding": actions[:, 0] + 2},
            signals={"first": actions[:, 0, 0].astype(np.float64)},
            alternatives=actions[:, None] + 3,
        )


@pytest.fixture
def wave(blind_env):
    return Wave(blind_env.spec)


@pytest.fixture
def forwards(wave):
    with closing(BatchedForwards(wave, N_ROWS)) as made:
        yield made


def remember(instruction, state=0.0):
    return make_memory(Observation({}, np.full(6, state, np.float32), instruction))


def hold(forwards, pool):
    """Keep the thread of the forward passes busy; return what frees it, and what comes of it."""
    begun = Event()
    gate = Event()

    def wait(policy):
        begun.set()
        return gate.wait(60)

    busy = pool.submit(forwards.run, wait)
    assert begun.wait(60)
    return gate, busy


def plan_at_once(forwards, memories):
    """Return what comes of requests that all wait before the first forward pass begins."""
    with ThreadPoolExecutor(2 * len(memories)) as pool:
        gate, _ = hold(forwards, pool)
        answers = []
        for index, memory in enumerate(memories):
            answers.append(pool.submit(forwards.plan, index % N_ROWS, memory, rng(index)))
            wait_for(lambda n=index: forwards.n_waiting == n + 1)
        gate.set()
        return [answer.exception(60) or answer.result() for answer in answers]


def test_each_episode_gets_its_own_row_of_everything(wave, forwards):
    memories = [remember(name, state) for name, state in (("a", 0), ("b", 100), ("c", 200))]
    memories[1].recurrent_state = 7
    chunks = plan_at_once(forwards, memories)
    assert wave.batches == [["a", "b", "c"]]
    assert [memory.recurrent_state for memory in memories] == [1, 8, 1]
    for index, chunk in enumerate(chunks):
        expected = np.float32(100 * index + rng(index).normal(size=(4, 6)))
        assert_array_equal(chunk.actions, expected[None])
        assert_array_equal(chunk.intermediate_plans, expected[None, None] + 1)
        assert_array_equal(chunk.features["embedding"], expected[None, 0] + 2)
        assert_array_equal(chunk.signals["first"], expected[None, 0, 0])
        assert_array_equal(chunk.alternatives, expected[None, None] + 3)


def test_a_forward_pass_has_as_many_rows_as_ever(wave, forwards):
    plan_at_once(forwards, [remember("a")])
    plan_at_once(forwards, [remember(name) for name in "abcde"])
    assert sorted(map(len, wave.batches)) == [3, 3, 3]
    assert wave.batches[0] == ["a", "a", "a"]
    # The fourth has the row of the first, and the fifth that of the second.
    assert wave.batches[1:] == [["a", "b", "c"], ["d", "e", "d"]]


def test_an_error_is_that_of_its_own_episode(wave, forwards):
    memories = [remember("a"), remember("fail"), remember("c", 200)]
    first, error, last = plan_at_once(forwards, memories)
    assert isinstance(error, ValueError)
    assert memories[1].recurrent_state is None
    # The others have the plans, and the memories, that they have without it.
    for index, chunk in ((0, first), (2, last)):
        expected = np.float32(100 * index + rng(index).normal(size=(4, 6)))
        assert_array_equal(chunk.actions, expected[None])
        assert memories[index].recurrent_state == 1


def test_nobody_waits_for_an_episode_that_has_ended(wave, forwards):
    with ThreadPoolExecutor(1) as pool, forwards.episode():
        with forwards.episode():
            answer = pool.submit(forwards.plan, 0, remember("a"), rng(0))
        assert answer.result(60).actions.shape == (1, 4, 6)


def test_episodes_of_different_lengths_all_come_to_an_end(wave, forwards):
    """More run at once than a batch has rows, and each ends by itself."""

    def run(index):
        policy = BatchingPolicy(forwards)
        plans = []
        with policy.episode("task", index):
            memory = policy.reset()
            for step in range(3 + 5 * index % 7):
                memory.observations.append(Observation({}, np.zeros(6, np.float32), str(index)))
                plans.append(policy.predict([memory], [rng(index, step)]).actions[0])
        return plans

    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(run, range(20), timeout=300))
    for index, plans in enumerate(runs):
        assert len(plans) == 3 + 5 * index % 7
        for step, plan in enumerate(plans):
            assert_array_equal(plan, np.float32(rng(index, step).normal(size=(4, 6))))
    n_plans = sum(map(len, runs))
    assert n_plans / N_ROWS <= len(wave.batches) < n_plans, "some were made together"


def test_samples_are_those_of_the_policy(wave, forwards):
    memory = remember("a")
    rngs = [rng(1), rng(2)]
    sampled = BatchingPolicy(forwards).sample(memory, rngs).actions
    expected = wave.predict([replace(memory)] * 2, [rng(1), rng(2)]).actions
    assert_array_equal(sampled, expected)


def test_whoever_waits_when_it_is_closed_gets_an_error(forwards):
    with ThreadPoolExecutor(3) as pool:
        gate, busy = hold(forwards, pool)
        waiting = pool.submit(forwards.plan, 0, remember("a"), rng(0))
        wait_for(lambda: forwards.n_waiting)
        closing_it = pool.submit(forwards.close)
        wait_for(lambda: forwards.closed_s is not None)
        gate.set()
        assert busy.result(60)
        assert str(waiting.exception(60)) == "the policy is closed"
        closing_it.result(60)
    with pytest.raises(RuntimeError, match="closed"):
        forwards.plan(0, remember("a"), rng(0))
    with pytest.raises(RuntimeError, match="closed"), forwards.episode():
        pass


def test_a_row_depends_on_the_episode_alone_and_neighbours_differ():
    rows = [choose_row("libero_spatial/3", index, 4) for index in range(8)]
    assert sorted(rows[:4]) == [0, 1, 2, 3]
    assert rows[4:] == rows[:4]
    assert len({choose_row(f"task {index}", 0, 4) for index in range(10)}) > 1
