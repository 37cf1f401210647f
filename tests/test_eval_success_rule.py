"""Tests of `--success`: whether the first success ends an episode, or its last step decides."""

from dataclasses import replace

import numpy as np
import pytest

from eval.config import RolloutConfig
from eval.evaluation import resolve_success
from policies.action_chunk import ActionChunk
from policies.policy import PolicySpec, make_memory
from tests.point_env import Point
from tests.recordings import record_episode

# The point moves by 0.5 a step, and begins at 100.
STEP_M = 0.5


class Forward:
    """A policy that always moves straight ahead."""

    spec = PolicySpec("forward", {}, 2, 2, 2, 2, 2, stochastic=False)

    def reset(self):
        return make_memory(n_obs_steps=1)

    def sample(self, memory, rngs):
        raise NotImplementedError

    def predict(self, memories, rngs):
        return ActionChunk(np.full((1, 2, 2), STEP_M, np.float32))


class PointOnTheWay(Point):
    """Succeeds while the point is between two positions."""

    def __init__(self, first_m, last_m):
        self._goal = (first_m, last_m)
        super().__init__()

    def step(self, action):
        result = super().step(action)
        first_m, last_m = self._goal
        return replace(result, success=bool(first_m <= self._pos[0] <= last_m))


@pytest.mark.parametrize(
    ("goal", "rule", "n_steps", "success"),
    [
        ((102, 103), "once", 4, True),
        ((102, 103), "at_end", 12, False),
        ((102, 106), "at_end", 12, True),
        ((200, 201), "at_end", 12, False),
    ],
)
def test_the_first_success_ends_an_episode_or_its_last_step_decides(goal, rule, n_steps, success):
    record = record_episode(PointOnTheWay(*goal), Forward(), 100, success=rule)
    assert len(record.arrays.action) == n_steps
    assert record.success is success


@pytest.mark.parametrize(
    ("env_name", "default"),
    [("simpler/stack_cube", "at_end"), ("so101/pick_place", "once"), ("libero_goal/3", "once")],
)
def test_the_default_is_that_of_the_family(env_name, default):
    spec = replace(Point.spec, name=env_name)
    assert resolve_success(RolloutConfig(), spec) == default
    for rule in ("once", "at_end"):
        assert resolve_success(RolloutConfig(success=rule), spec) == rule
