import copy
from dataclasses import replace

import numpy as np
import pytest

from policies.baselines import BASELINES
from policies.policy import make_memory
from policies.registry import BASELINE_NAMES, resolve_policy_name
from sim.env import episode_rng
from sim.errors import UnknownNameError, WhiskerError
from sim.so101.pick_place import PickPlace


def predict(policy, env, episode_index=0, prediction=0):
    rng = episode_rng(env.spec.task, episode_index, prediction)
    return policy.predict([make_memory(env.observe())], [rng])[0]


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
        plan = policy.predict(
            [memory],
            [episode_rng(blind_env.spec.task, 0, 0)],
        )[0]
        np.testing.assert_array_equal(plan, first[None])
        blind_env.step(first + 5)


def other_spec(env, **changes):
    """Return a copy of the environment with a changed spec; a baseline reads nothing else."""
    other = copy.copy(env)
    other.spec = replace(env.spec, **changes)
    return other


def test_zero_finds_its_targets_in_the_state_by_name(blind_env):
    spec = blind_env.spec
    turned = other_spec(
        blind_env,
        state_names=("extra", *spec.state_names[::-1]),
    )
    state = np.arange(7, dtype=np.float32)
    np.testing.assert_array_equal(
        BASELINES["zero"](turned)._stay(state),
        [6, 5, 4, 3, 2, 1],
    )
    fingers = other_spec(
        blind_env,
        state_names=(*spec.state_names[:5], "left", "right"),
    )
    np.testing.assert_array_equal(
        BASELINES["zero"](fingers)._stay(state),
        [0, 1, 2, 3, 4, 0],
    )
    delta = other_spec(
        blind_env,
        action=replace(spec.action, mode="delta"),
    )
    np.testing.assert_array_equal(
        BASELINES["zero"](delta)._stay(state[:6]),
        [0, 0, 0, 0, 0, 5],
    )
    with pytest.raises(WhiskerError, match=r"'zero'.*expected a state that has wrist_roll\.pos"):
        BASELINES["zero"](other_spec(blind_env, state_names=spec.state_names[:4]))


def test_without_an_expert_there_is_no_scripted_policy(blind_env):
    class NoExpert(PickPlace):
        def make_expert(self, failure_mode=None):
            raise WhiskerError(
                f"expert of {self.spec.name!r}", expected="an environment that has one"
            )

    with pytest.raises(WhiskerError, match="an environment that has one"):
        BASELINES["scripted"](
            NoExpert(
                "so101/pick_place",
                image_sizes={},
                model=blind_env.model,
            )
        )


def test_random_is_a_function_of_episode_and_prediction(blind_env):
    policy = BASELINES["random"](blind_env)
    assert (
        predict(
            policy,
            blind_env,
            1,
            2,
        )
        == predict(policy, blind_env, 1, 2)
    ).all()
    assert (
        predict(
            policy,
            blind_env,
            1,
            2,
        )
        != predict(policy, blind_env, 1, 3)
    ).any()
    assert (
        predict(
            policy,
            blind_env,
            1,
            2,
        )
        != predict(policy, blind_env, 2, 2)
    ).any()
    low = np.array(blind_env.spec.action.low)
    high = np.array(blind_env.spec.action.high)
    actions = np.stack(
        [
            predict(
                policy,
                blind_env,
                0,
                i,
            )[0]
            for i in range(200)
        ]
    )
    assert (actions >= low - 1e-4).all() and (actions <= high + 1e-4).all()
    np.testing.assert_allclose(actions.mean(0), (low + high) / 2, atol=0.25 * (high - low).max())


def test_no_baseline_looks(blind_env):
    assert all(make(blind_env).spec.image_sizes == {} for make in BASELINES.values())
