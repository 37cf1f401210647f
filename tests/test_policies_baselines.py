import copy
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from policies.baselines import BASELINES
from policies.policy import make_memory
from policies.registry import BASELINE_NAMES, resolve_policy_name
from sim.env import episode_rng
from sim.errors import UnknownNameError, WhiskerError


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
            [
                episode_rng(
                    blind_env.spec.task,
                    0,
                    0,
                )
            ],
        )[0]
        assert_array_equal(plan, first[None])
        blind_env.step(first + 5)


@pytest.fixture
def make_zero(blind_env):
    """Return a function that makes the policy for another spec; it reads nothing else."""

    def make(**changes):
        env = copy.copy(blind_env)
        env.spec = replace(env.spec, **changes)
        return BASELINES["zero"](env)

    return make


def test_zero_finds_its_targets_in_the_state_by_name(make_zero, blind_env):
    names = blind_env.spec.state_names
    state = np.arange(7, dtype=np.float32)
    turned = make_zero(state_names=("extra", *names[::-1]))
    assert_array_equal(turned._stay(state), [6, 5, 4, 3, 2, 1])
    fingers = make_zero(
        state_names=(
            *names[:5],
            "left",
            "right",
        )
    )
    assert_array_equal(fingers._stay(state), [0, 1, 2, 3, 4, 0])
    delta = make_zero(action=replace(blind_env.spec.action, mode="delta"))
    assert_array_equal(delta._stay(state[:6]), [0, 0, 0, 0, 0, 5])
    with pytest.raises(WhiskerError, match=r"'zero'.*expected a state that has wrist_roll\.pos"):
        make_zero(state_names=names[:4])


def test_without_an_expert_there_is_no_scripted_policy(blind_env, monkeypatch):
    error = WhiskerError("expert", expected="an environment that has one")
    monkeypatch.setattr(
        blind_env,
        "make_expert",
        Mock(side_effect=error),
        raising=False,
    )
    with pytest.raises(WhiskerError, match="an environment that has one"):
        BASELINES["scripted"](blind_env)


def test_random_is_a_function_of_episode_and_prediction(blind_env):
    policy = BASELINES["random"](blind_env)
    memory = make_memory(blind_env.observe())

    def predict(episode_index, prediction):
        rng = episode_rng(blind_env.spec.task, episode_index, prediction)
        return policy.predict([memory], [rng])[0]

    plan = predict(1, 2)
    assert (plan == predict(1, 2)).all()
    assert (plan != predict(1, 3)).any()
    assert (plan != predict(2, 2)).any()
    low = np.array(blind_env.spec.action.low)
    high = np.array(blind_env.spec.action.high)
    actions = np.concatenate([predict(0, i) for i in range(200)])
    assert (actions >= low - 1e-4).all()
    assert (actions <= high + 1e-4).all()
    assert_allclose(
        actions.mean(0),
        (low + high) / 2,
        atol=0.25 * (high - low).max(),
    )


@pytest.mark.parametrize(
    "make",
    BASELINES.values(),
    ids=BASELINES,
)
def test_no_baseline_looks(make, blind_env):
    assert make(blind_env).spec.image_sizes == {}
