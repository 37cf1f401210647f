import numpy as np
import pytest

from eval.recorder import EpisodeRecorder
from eval.rollout import ControlStep, Decision, rollout, run_episode
from policies.action_chunk import ActionChunk
from policies.baselines import BASELINES
from policies.policy import PolicySpec, remember


class ScheduledPolicy:
    """Plans chunks whose actions spell when they were planned; counts its resets."""

    def __init__(self, env, horizon=6, spoil_at=None):
        self.spec = PolicySpec("scheduled", {}, 6, 6, horizon, horizon, horizon, stochastic=False)
        self._home, self._horizon, self._spoil_at = env.state(), horizon, spoil_at
        self.n_resets, self.n_predictions = 0, 0

    def reset(self):
        self.n_resets += 1
        return remember(n_obs_steps=self.spec.n_obs_steps)

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
    events = list(rollout(env, ScheduledPolicy(env), 0, n_action_steps=4, horizon=10))
    assert [e.step for e in events if isinstance(e, Decision)] == [0, 4, 8]
    executed = [round(float(e.action[0]), 2) for e in events if isinstance(e, ControlStep)]
    assert executed == [0.0, 0.01, 0.02, 0.03, 1.0, 1.01, 1.02, 1.03, 2.0, 2.01]


def test_the_policy_is_reset_at_every_start_and_no_plan_outlives_its_episode(env):
    policy = ScheduledPolicy(env)
    for n in (1, 2):
        events = list(rollout(env, policy, 0, n_action_steps=6, horizon=2))
        assert policy.n_resets == n and isinstance(events[0], Decision)


def test_nothing_happens_between_two_events(env):
    """A viewer may wait for as long as it likes."""
    events = rollout(env, ScheduledPolicy(env), 0, 4, 10)
    next(events), next(events)
    before = env.snapshot()
    env.step(env.state() + 5)
    env.restore(before)
    assert next(events).step == 2


def test_the_record_is_what_happened(env):
    record = run_episode(env, ScheduledPolicy(env), 3, EpisodeRecorder(), n_action_steps=4, horizon=10)
    arrays = record.arrays
    assert (record.episode_index, record.success, record.error) == (3, False, "")
    assert arrays.action.shape == (10, 6) and arrays.state.shape == (11, 6) and arrays.chunk.shape == (3, 6, 6)
    assert arrays.prediction_step.tolist() == [0, 4, 8] and arrays.n_executed.tolist() == [4, 4, 2]
    np.testing.assert_array_equal(arrays.snapshot, arrays.step_snapshot[arrays.prediction_step])
    env.restore(arrays.step_snapshot[5])
    for action in arrays.action[5:]:
        env.step(action)
    np.testing.assert_array_equal(env.snapshot(), arrays.step_snapshot[-1])
    np.testing.assert_array_equal(env.ee_pos_world(), arrays.ee_pos_world[-1])


def test_a_crash_of_the_policy_is_an_error_not_a_failure(env):
    record = run_episode(env, ScheduledPolicy(env, spoil_at=1), 0, EpisodeRecorder(), n_action_steps=4, horizon=10)
    assert record.error == "ZeroDivisionError: spoilt on purpose" and not record.success
    assert len(record.arrays.action) == 4


def test_a_crash_before_the_first_decision_leaves_no_arrays(env):
    record = run_episode(env, ScheduledPolicy(env, spoil_at=0), 0, EpisodeRecorder(), 4, 10)
    assert record.arrays is None and record.error


def test_a_plan_that_is_not_finite_is_an_error(env):
    policy = ScheduledPolicy(env)
    policy._home = np.full(6, np.nan, np.float32)
    record = run_episode(env, policy, 0, EpisodeRecorder(), 4, 10)
    assert "NaN" in record.error


def test_success_ends_the_episode(env):
    policy = BASELINES["scripted"](env)
    record = run_episode(env, policy, 0, EpisodeRecorder(), 1, 300)
    assert record.success and len(record.arrays.action) < 160


def test_the_order_of_episodes_does_not_matter(env):
    def final(indices):
        policy = BASELINES["random"](env)
        records = {i: run_episode(env, policy, i, EpisodeRecorder(), 1, 20) for i in indices}
        return {i: record.arrays.step_snapshot[-1].tobytes() for i, record in records.items()}

    assert final([0, 1, 2]) == final([2, 0, 1])
