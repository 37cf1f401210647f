import numpy as np
import pytest

from policies.baselines import BASELINES
from policies.policy import remember
from policies.registry import BASELINE_NAMES, resolve_policy_name
from sim.env import episode_rng
from sim.errors import UnknownNameError


def predict(policy, env, episode_index=0, prediction=0):
    rng = episode_rng(env.spec.task, episode_index, prediction)
    return policy.predict([remember(env.observe())], [rng])[0]


def test_names_agree():
    assert set(BASELINE_NAMES) == set(BASELINES)
    with pytest.raises(UnknownNameError, match="Did you mean 'random'"):
        resolve_policy_name("randon")


def test_zero_holds_the_first_state(blind_env):
    policy = BASELINES["zero"](blind_env)
    blind_env.reset(0)
    first = blind_env.state()
    memory = policy.reset()
    for _ in range(5):
        memory.observations.append(blind_env.observe())
        plan = policy.predict([memory], [episode_rng(blind_env.spec.task, 0, 0)])[0]
        np.testing.assert_array_equal(plan, first[None])
        blind_env.step(first + 5)


def test_random_is_a_function_of_episode_and_prediction(blind_env):
    policy = BASELINES["random"](blind_env)
    assert (predict(policy, blind_env, 1, 2) == predict(policy, blind_env, 1, 2)).all()
    assert (predict(policy, blind_env, 1, 2) != predict(policy, blind_env, 1, 3)).any()
    assert (predict(policy, blind_env, 1, 2) != predict(policy, blind_env, 2, 2)).any()
    low, high = np.array(blind_env.spec.action.low), np.array(blind_env.spec.action.high)
    actions = np.stack([predict(policy, blind_env, 0, i)[0] for i in range(200)])
    assert (actions >= low - 1e-4).all() and (actions <= high + 1e-4).all()
    np.testing.assert_allclose(actions.mean(0), (low + high) / 2, atol=0.25 * (high - low).max())


def test_no_baseline_looks(blind_env):
    assert all(make(blind_env).spec.image_sizes == {} for make in BASELINES.values())
