from contextlib import closing, suppress
from itertools import islice

import numpy as np
import pytest
import torch

from eval.config import SubjectConfig
from eval.drivers import continue_episode, play_episode, run_episode
from eval.episode_row import make_row
from eval.evaluation import set_up
from eval.recorder import EpisodeRecorder
from eval.rollout import ControlStep, Decision, Request, RolloutSettings, RolloutState, rollout
from eval.run import Run
from eval.run_folder import RunFolder, arrays_path
from eval.subject import name_policy
from policies.action_chunk import ActionChunk
from policies.baselines import BASELINES
from policies.policy import PolicySpec, make_memory
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.point_env import Point
from tests.runs import describe_run
from tests.small_checkpoints import save_small_checkpoint
from viz.whiskers import load_planned_arrays


class ScheduledPolicy:
    """A policy whose actions encode when they were planned. It counts its resets."""

    def __init__(self, env, horizon=6, spoil_at=None):
        self.spec = PolicySpec(
            "scheduled",
            {},
            6,
            6,
            horizon,
            horizon,
            horizon,
            stochastic=False,
        )
        self._home = env.state()
        self._horizon = horizon
        self._spoil_at = spoil_at
        self.n_resets = 0
        self.n_predictions = 0

    def reset(self):
        self.n_resets += 1
        return make_memory(n_obs_steps=self.spec.n_obs_steps)

    def sample(self, memory, rngs):
        raise NotImplementedError

    def predict(self, memories, rngs):
        if self._spoil_at == self.n_predictions:
            raise ZeroDivisionError("spoilt\non purpose")
        plan = np.repeat(self._home[None], self._horizon, axis=0)
        plan[:, 0] = self.n_predictions + np.arange(self._horizon) / 100
        self.n_predictions += 1
        return ActionChunk(plan[None].astype(np.float32))


@pytest.fixture
def env(blind_env):
    blind_env.reset(0)
    return blind_env


def test_a_new_plan_is_made_every_n_action_steps(env):
    events = list(
        play_episode(
            env,
            ScheduledPolicy(env),
            0,
            RolloutSettings(n_action_steps=4, max_steps=10),
        )
    )
    assert [e.step for e in events if isinstance(e, Decision)] == [0, 4, 8]
    executed = [round(float(e.action[0]), 2) for e in events if isinstance(e, ControlStep)]
    assert executed == [0.0, 0.01, 0.02, 0.03, 1.0, 1.01, 1.02, 1.03, 2.0, 2.01]


def test_the_policy_is_reset_at_every_start_and_no_plan_outlives_its_episode(env):
    policy = ScheduledPolicy(env)
    for n in (1, 2):
        events = list(
            play_episode(
                env,
                policy,
                0,
                RolloutSettings(n_action_steps=6, max_steps=2),
            )
        )
        assert policy.n_resets == n and isinstance(events[0], Decision)


def test_nothing_happens_between_two_events(env):
    """A viewer may wait between two events for as long as it likes."""
    events = play_episode(
        env,
        ScheduledPolicy(env),
        0,
        RolloutSettings(4, 10),
    )
    next(events), next(events)
    before = env.snapshot()
    env.step(env.state() + 5)
    env.restore(before)
    assert next(events).step == 2


def test_the_record_is_what_happened(env):
    record = run_episode(
        env,
        ScheduledPolicy(env),
        3,
        EpisodeRecorder(),
        RolloutSettings(n_action_steps=4, max_steps=10),
    )
    arrays = record.arrays
    assert (record.episode_index, record.success, record.error) == (3, False, "")
    assert (
        arrays.action.shape == (10, 6)
        and arrays.state.shape == (11, 6)
        and arrays.chunk.shape == (3, 6, 6)
    )
    assert arrays.prediction_step.tolist() == [0, 4, 8] and arrays.n_executed.tolist() == [4, 4, 2]
    np.testing.assert_array_equal(
        arrays.snapshot,
        arrays.step_snapshot[arrays.prediction_step],
    )
    env.restore(arrays.step_snapshot[5])
    for action in arrays.action[5:]:
        env.step(action)
    np.testing.assert_array_equal(env.snapshot(), arrays.step_snapshot[-1])
    np.testing.assert_array_equal(env.ee_pos_world(), arrays.ee_pos_world[-1])


@pytest.mark.parametrize("n_samples", [1, 3])
def test_a_rollout_driven_by_hand_is_the_recorded_episode(env, n_samples):
    """The test answers the requests itself, without one of the project's drivers.

    It draws the plans of each request from that request's generators.
    """
    policy = BASELINES["random"](env)
    settings = RolloutSettings(1, 12, n_samples)
    recorded = run_episode(
        env,
        policy,
        2,
        EpisodeRecorder(),
        settings,
    ).arrays
    env.reset(2)
    events = rollout(
        env,
        policy.spec,
        RolloutState(0, 0, policy.reset()),
        2,
        settings,
    )
    n_requests = 0
    actions = []
    answer = None
    with suppress(StopIteration):
        while True:
            event = events.send(answer)
            answer = None
            if isinstance(event, Request):
                assert (event.step, event.prediction_index, len(event.rngs)) == (
                    n_requests,
                    n_requests,
                    n_samples,
                )
                np.testing.assert_array_equal(
                    event.snapshot,
                    recorded.step_snapshot[event.step],
                )
                plans = [policy.predict([event.memory], [rng]).actions for rng in event.rngs]
                others = np.stack(plans[1:], axis=1) if n_samples > 1 else None
                answer = ActionChunk(plans[0], alternatives=others)
                n_requests = n_requests + 1
            elif isinstance(event, Decision):
                np.testing.assert_array_equal(
                    event.plan,
                    recorded.chunk[event.prediction_index],
                )
                if n_samples > 1:
                    np.testing.assert_array_equal(
                        event.alternatives, recorded.alternative_chunk[event.prediction_index]
                    )
            else:
                actions.append(event.action)
                np.testing.assert_array_equal(env.state(), recorded.state[event.step])
    assert n_requests == 12
    np.testing.assert_array_equal(actions, recorded.action)


class WithoutSnapshots(Point):
    """An environment on which the methods of the snapshot capability cannot be called."""

    snapshot = restore = simulate_ee_path = ""


def test_an_environment_without_snapshots_is_evaluated(tmp_path):
    env = WithoutSnapshots()
    settings = RolloutSettings(1, 4)
    record = run_episode(
        env,
        BASELINES["random"](env),
        100,
        EpisodeRecorder(),
        settings,
    )
    whole = run_episode(
        Point(),
        BASELINES["random"](env),
        100,
        EpisodeRecorder(),
        settings,
    ).arrays
    assert not record.error and record.arrays.snapshot is record.arrays.step_snapshot is None
    np.testing.assert_array_equal(record.arrays.state, whole.state)
    with closing(RunFolder.create(tmp_path, describe_run(env))) as folder:
        folder.append(record, make_row(record))
    run = Run.open(folder.path)
    with np.load(run.path / arrays_path(run.rows[0])) as stored:
        assert not {"snapshot", "step_snapshot"} & set(stored.files)
    assert run.load_arrays(run.rows[0]).snapshot is None
    with pytest.raises(WhiskerError, match="an array 'step_snapshot'"):
        load_planned_arrays(run, run.rows[0])


def test_a_crash_of_the_policy_is_an_error_not_a_failure(env):
    record = run_episode(
        env,
        ScheduledPolicy(env, spoil_at=1),
        0,
        EpisodeRecorder(),
        RolloutSettings(n_action_steps=4, max_steps=10),
    )
    assert record.error == "ZeroDivisionError: spoilt on purpose" and not record.success
    assert len(record.arrays.action) == 4


def test_a_crash_before_the_first_decision_leaves_no_arrays(env):
    record = run_episode(
        env, ScheduledPolicy(env, spoil_at=0), 0, EpisodeRecorder(), RolloutSettings(4, 10)
    )
    assert record.arrays is None and record.error


def test_a_plan_that_is_not_finite_is_an_error(env):
    policy = ScheduledPolicy(env)
    policy._home = np.full(6, np.nan, np.float32)
    record = run_episode(
        env,
        policy,
        0,
        EpisodeRecorder(),
        RolloutSettings(4, 10),
    )
    assert "NaN" in record.error


def test_success_ends_the_episode(env):
    policy = BASELINES["scripted"](env)
    record = run_episode(
        env,
        policy,
        0,
        EpisodeRecorder(),
        RolloutSettings(1, 300),
    )
    assert record.success and len(record.arrays.action) < 160


def test_the_order_of_episodes_does_not_matter(env):
    def final(indices):
        policy = BASELINES["random"](env)
        records = {
            i: run_episode(
                env,
                policy,
                i,
                EpisodeRecorder(),
                RolloutSettings(1, 20),
            )
            for i in indices
        }
        return {i: record.arrays.step_snapshot[-1].tobytes() for i, record in records.items()}

    assert final([0, 1, 2]) == final([2, 0, 1])


def actions_of(events):
    return [event.action.tolist() for event in events if isinstance(event, ControlStep)]


def set_up_small(policy_type, folder, **config):
    camera_map = "overhead_cam=image" if policy_type == "tdmpc" else None
    folder = save_small_checkpoint(policy_type, folder, **config)
    return set_up(
        name_policy(
            make_config(
                SubjectConfig,
                checkpoint=str(folder),
                camera_map=camera_map,
            )
        )
    )


@pytest.mark.parametrize(
    ("policy_type", "config"),
    [
        ("smolvla", {}),
        ("act", {"n_action_steps": 1, "temporal_ensemble_coeff": 0.01}),
        ("diffusion", {}),
        ("tdmpc", {}),
    ],
    ids=["stochastic", "temporal ensembling", "history", "carried plan"],
)
def test_a_rollout_goes_on_from_each_decision_as_it_did(policy_type, config, tmp_path):
    n_steps = 9
    setup = set_up_small(policy_type, tmp_path, **config)
    env = setup.env
    policy = setup.policy
    n = setup.n_action_steps
    with closing(env):
        events = list(
            play_episode(
                env,
                policy,
                1,
                RolloutSettings(n, n_steps),
            )
        )
        actions = actions_of(events)
        decisions = [event for event in events if isinstance(event, Decision)]
        assert len(decisions) > 2
        env.reset(5)  # By then the world is in another state.
        for decision in reversed(decisions):
            start = decision.start()
            for _ in range(2):  # A start can be used more than once.
                env.restore(decision.snapshot)
                again = list(
                    continue_episode(
                        env,
                        policy,
                        start,
                        1,
                        RolloutSettings(n, n_steps),
                    )
                )
                assert actions_of(again) == actions[decision.step :]
            assert (again[0].step, again[0].prediction_index) == (
                decision.step,
                decision.prediction_index,
            )
            np.testing.assert_array_equal(again[0].plan, decision.plan)
            np.testing.assert_array_equal(again[0].snapshot, decision.snapshot)
            env.restore(decision.snapshot)
            elsewhere = actions_of(
                continue_episode(
                    env,
                    policy,
                    start,
                    1,
                    RolloutSettings(n, n_steps, seed=1),
                )
            )
            assert (elsewhere != actions[decision.step :]) == policy.spec.stochastic


def test_a_branch_draws_its_noise_from_its_seed_alone(env):
    policy = BASELINES["random"](env)
    decision = next(
        islice(
            play_episode(
                env,
                policy,
                0,
                RolloutSettings(1, 6, n_samples=3),
            ),
            4,
            None,
        )
    )

    def branch(seed):
        env.restore(decision.snapshot)
        return actions_of(
            continue_episode(
                env,
                policy,
                decision.start(),
                0,
                RolloutSettings(1, 6, seed=seed),
            )
        )

    assert branch(1) == branch(1) != branch(2) and branch(0) != branch(1)
    # A branch begins with the noise of the alternative with that seed.
    assert [branch(seed)[0] for seed in range(3)] == decision.alternatives[:, 0].tolist()


def test_a_decision_remembers_what_was_asked_and_sees_what_is_there_now(env):
    policy = BASELINES["zero"](env)
    events = play_episode(
        env,
        policy,
        0,
        RolloutSettings(1, 6),
    )
    decision = next(islice(events, 4, None))
    assert decision.step == 2 and decision.observation is decision.memory.present
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
    np.testing.assert_array_equal(moved.plan, decision.plan)


def test_a_copied_memory_has_a_future_of_its_own(env):
    before, now, later = (env.observe() for _ in range(3))
    memory = make_memory(before, now, n_obs_steps=2)
    memory.recurrent_state = {"mean": torch.zeros(2)}
    copy = memory.copy()
    memory.recurrent_state["mean"] += 1
    memory.observations.append(later)
    assert copy.observations[0] is before and copy.present is now and copy.observations.maxlen == 2
    assert copy.recurrent_state["mean"].tolist() == [0, 0]
