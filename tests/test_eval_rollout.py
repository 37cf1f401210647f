from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from eval.drivers import continue_episode, play_episode
from eval.episode_row import make_row
from eval.rollout import ControlStep, Decision, Request, RolloutSettings, RolloutState, rollout
from eval.run import Run
from eval.run_folder import RunFolder, arrays_path
from policies.action_chunk import ActionChunk
from policies.baselines import BASELINES
from policies.policy import PolicySpec, make_memory
from sim.errors import WhiskerError
from tests.point_env import Point
from tests.recordings import record_episode
from tests.runs import describe_run
from viz.whiskers import load_planned_arrays

SETTINGS = RolloutSettings(n_action_steps=4, max_steps=10)


class ScheduledPolicy:
    """A policy whose actions encode when they were planned. It counts its resets."""

    spec = PolicySpec(
        "scheduled",
        {},
        6,
        6,
        6,
        6,
        6,
        stochastic=False,
    )

    def __init__(self, env, spoil_at=None):
        self._home = env.state()
        self._spoil_at = spoil_at
        self.n_resets = 0
        self.n_predictions = 0

    def reset(self):
        self.n_resets += 1
        return make_memory()

    def sample(self, memory, rngs):
        raise NotImplementedError

    def predict(self, memories, rngs):
        if self._spoil_at == self.n_predictions:
            raise ZeroDivisionError("spoilt\non purpose")
        plan = np.tile(
            self._home,
            (1, 6, 1),
        )
        plan[..., 0] = self.n_predictions + np.arange(6) / 100
        self.n_predictions += 1
        return ActionChunk(plan.astype(np.float32))


@pytest.fixture
def env(blind_env):
    blind_env.reset(0)
    return blind_env


def of_kind(kind, events):
    return [event for event in events if isinstance(event, kind)]


def test_a_new_plan_is_made_every_n_action_steps(env):
    events = list(play_episode(env, ScheduledPolicy(env), 0, SETTINGS))
    assert [event.step for event in of_kind(Decision, events)] == [0, 4, 8]
    executed = [event.action[0] for event in of_kind(ControlStep, events)]
    planned = [0, 0.01, 0.02, 0.03, 1, 1.01, 1.02, 1.03, 2, 2.01]
    assert executed == pytest.approx(planned)


def test_the_policy_is_reset_at_every_start_and_no_plan_outlives_its_episode(env):
    policy = ScheduledPolicy(env)
    for n_starts in (1, 2):
        settings = RolloutSettings(n_action_steps=6, max_steps=2)
        first, *_ = play_episode(env, policy, 0, settings)
        assert policy.n_resets == n_starts
        assert isinstance(first, Decision)


def test_nothing_happens_between_two_events(env):
    """A viewer may wait between two events for as long as it likes."""
    events = play_episode(env, ScheduledPolicy(env), 0, SETTINGS)
    next(events), next(events)
    before = env.snapshot()
    env.step(env.state() + 5)
    env.restore(before)
    assert next(events).step == 2


def record(env, policy, episode_index=0):
    return record_episode(
        env,
        policy,
        episode_index,
        n_action_steps=4,
        max_steps=10,
    )


def test_the_record_is_what_happened(env):
    recorded = record(env, ScheduledPolicy(env), 3)
    assert recorded.episode_index == 3
    assert not recorded.success
    assert recorded.error == ""
    arrays = recorded.arrays
    assert arrays.action.shape == (10, 6)
    assert arrays.state.shape == (11, 6)
    assert arrays.chunk.shape == (3, 6, 6)
    assert arrays.prediction_step.tolist() == [0, 4, 8]
    assert arrays.n_executed.tolist() == [4, 4, 2]
    assert_array_equal(
        arrays.snapshot,
        arrays.step_snapshot[[0, 4, 8]],
    )
    env.restore(arrays.step_snapshot[5])
    for action in arrays.action[5:]:
        env.step(action)
    assert_array_equal(env.snapshot(), arrays.step_snapshot[-1])
    assert_array_equal(env.ee_pos_world(), arrays.ee_pos_world[-1])


@pytest.mark.parametrize("n_samples", [1, 3])
def test_a_rollout_driven_by_hand_is_the_recorded_episode(env, n_samples):
    """The test answers the requests itself, without one of the project's drivers.

    It draws the plans of each request from that request's generators.
    """
    policy = BASELINES["random"](env)
    settings = RolloutSettings(1, 12, n_samples)
    recorded = record_episode(
        env,
        policy,
        2,
        max_steps=12,
        n_samples=n_samples,
    ).arrays
    env.reset(2)
    start = RolloutState(
        0,
        0,
        policy.reset(),
    )
    events = rollout(env, policy.spec, start, 2, settings)
    n_requests = 0
    actions = []
    answer = None
    with suppress(StopIteration):
        while True:
            event = events.send(answer)
            answer = None
            if isinstance(event, Request):
                assert event.step == event.prediction_index == n_requests
                assert len(event.rngs) == n_samples
                assert_array_equal(event.snapshot, recorded.step_snapshot[event.step])
                plans = [policy.predict([event.memory], [rng]).actions for rng in event.rngs]
                others = np.stack(plans[1:], axis=1) if n_samples > 1 else None
                answer = ActionChunk(plans[0], alternatives=others)
                n_requests += 1
            elif isinstance(event, Decision):
                index = event.prediction_index
                assert_array_equal(event.plan, recorded.chunk[index])
                if n_samples > 1:
                    assert_array_equal(event.alternatives, recorded.alternative_chunk[index])
            else:
                actions.append(event.action)
                assert_array_equal(env.state(), recorded.state[event.step])
    assert n_requests == 12
    assert_array_equal(actions, recorded.action)


class WithoutSnapshots(Point):
    """An environment on which the methods of the snapshot capability cannot be called."""

    snapshot = restore = simulate_ee_path = ""


def test_an_environment_without_snapshots_is_evaluated(tmp_path):
    env = WithoutSnapshots()
    whole = record_episode(Point(), "random", 100, max_steps=4).arrays
    record = record_episode(env, "random", 100, max_steps=4)
    assert not record.error
    assert record.arrays.snapshot is record.arrays.step_snapshot is None
    assert_array_equal(record.arrays.state, whole.state)
    with closing(RunFolder.create(tmp_path, describe_run(env))) as folder:
        folder.append(record, make_row(record))
    run = Run.open(folder.path)
    (row,) = run.rows
    with np.load(run.path / arrays_path(row)) as stored:
        assert not {"snapshot", "step_snapshot"} & set(stored.files)
    assert run.load_arrays(row).snapshot is None
    with pytest.raises(WhiskerError, match="an array 'step_snapshot'"):
        load_planned_arrays(run, row)


def test_a_crash_of_the_policy_is_an_error_not_a_failure(env):
    crashed = record(env, ScheduledPolicy(env, spoil_at=1))
    assert crashed.error == "ZeroDivisionError: spoilt on purpose"
    assert not crashed.success
    assert len(crashed.arrays.action) == 4


def test_a_crash_before_the_first_decision_leaves_no_arrays(env):
    crashed = record(env, ScheduledPolicy(env, spoil_at=0))
    assert crashed.arrays is None
    assert crashed.error


def test_a_plan_that_is_not_finite_is_an_error(env):
    policy = ScheduledPolicy(env)
    policy._home *= np.nan
    assert "NaN" in record(env, policy).error


def test_success_ends_the_episode(env):
    succeeded = record_episode(env, "scripted", max_steps=300)
    assert succeeded.success
    assert len(succeeded.arrays.action) < 160


def test_the_order_of_episodes_does_not_matter(env):
    policy = BASELINES["random"](env)

    def finals(indices):
        records = [record_episode(env, policy, index) for index in indices]
        return [record.arrays.step_snapshot[-1].tobytes() for record in records]

    assert finals([0, 1, 2]) == finals([2, 1, 0])[::-1]


def actions_of(events):
    return [event.action.tolist() for event in of_kind(ControlStep, events)]


@pytest.mark.parametrize(
    "policy_type",
    ["smolvla", "diffusion", "tdmpc", "act ensembling"],
)
def test_a_rollout_goes_on_from_each_decision_as_it_did(policy_type, small_setup):
    """The types differ in what they carry on.

    SmolVLA draws noise, the diffusion policy has a history, TD-MPC keeps its plan, and an
    ensembling ACT keeps its average.
    """
    setup = small_setup(policy_type)
    env = setup.env
    policy = setup.policy
    n = setup.n_action_steps
    settings = RolloutSettings(n, max_steps=2 * n + 1)
    events = list(play_episode(env, policy, 1, settings))
    actions = actions_of(events)
    decisions = of_kind(Decision, events)
    assert len(decisions) > 2

    def go_on(seed):
        env.restore(decision.snapshot)
        return list(
            continue_episode(
                env,
                policy,
                start,
                1,
                replace(settings, seed=seed),
            )
        )

    env.reset(5)  # By then the world is in another state.
    for decision in reversed(decisions):
        start = decision.start()
        for _ in range(2):  # A start can be used more than once.
            again = go_on(seed=0)
            assert actions_of(again) == actions[decision.step :]
        assert again[0].step == decision.step
        assert again[0].prediction_index == decision.prediction_index
        assert_array_equal(again[0].plan, decision.plan)
        assert_array_equal(again[0].snapshot, decision.snapshot)
        elsewhere = actions_of(go_on(seed=1))
        assert (elsewhere != actions[decision.step :]) == policy.spec.stochastic


def decide(env, policy, **settings):
    """Return the third decision of an episode."""
    events = play_episode(
        env,
        policy,
        0,
        RolloutSettings(1, 6, **settings),
    )
    return next(islice(events, 4, None))


def test_a_branch_draws_its_noise_from_its_seed_alone(env):
    policy = BASELINES["random"](env)
    decision = decide(env, policy, n_samples=3)

    def branch(seed):
        env.restore(decision.snapshot)
        settings = RolloutSettings(1, 6, seed=seed)
        return actions_of(
            continue_episode(
                env,
                policy,
                decision.start(),
                0,
                settings,
            )
        )

    assert branch(1) == branch(1) != branch(2)
    assert branch(0) != branch(1)
    # A branch begins with the noise of the alternative with that seed.
    assert [branch(seed)[0] for seed in range(3)] == decision.alternatives[:, 0].tolist()


def test_a_decision_remembers_what_was_asked_and_sees_what_is_there_now(env):
    policy = BASELINES["zero"](env)
    decision = decide(env, policy)
    assert decision.step == 2
    assert decision.observation is decision.memory.present
    env.restore(decision.snapshot)
    env.step(env.state() + 9)
    moved = next(
        continue_episode(
            env,
            policy,
            decision.start(),
            0,
            RolloutSettings(1, 6),
        )
    )
    assert np.abs(moved.observation.state - decision.observation.state).max() > 0.1
    # The memory holds the targets of the start, so the plan stays the same.
    assert_array_equal(moved.plan, decision.plan)


def test_a_copied_memory_has_a_future_of_its_own(env):
    before, now, later = (env.observe() for _ in range(3))
    memory = make_memory(before, now, n_obs_steps=2)
    memory.recurrent_state = {"mean": torch.zeros(2)}
    copy = memory.copy()
    memory.recurrent_state["mean"] += 1
    memory.observations.append(later)
    assert copy.observations[0] is before
    assert copy.present is now
    assert copy.observations.maxlen == 2
    assert copy.recurrent_state["mean"].tolist() == [0, 0]
