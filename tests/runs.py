"""Descriptions of runs that tests put together by hand."""

from collections.abc import Collection
from dataclasses import fields, replace

import numpy as np

from eval.config import EvalConfig
from eval.drivers import run_episode
from eval.episode_arrays import EpisodeArrays, EpisodeRecord
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run_description import Resolved, RunDescription
from eval.trajectory import Trajectory
from policies.baselines import BASELINES
from policies.policy import Policy
from sim.env import Env
from sim.flags import make_config
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.so101.goals import declare_goal


def describe_run(
    env: Env, policy: Policy | str = "random", max_steps: int = 5, **parts
) -> RunDescription:
    """Return a description with the fields that every version has written.

    Args:
        policy: a policy, or the name of a baseline.
        parts: further fields of the description.
    """
    spec = (BASELINES[policy](env) if isinstance(policy, str) else policy).spec
    config = make_config(
        EvalConfig, policy=spec.type, checkpoint=spec.checkpoint or None, env=env.spec.name
    )
    resolved = Resolved(n_action_steps=spec.n_action_steps, max_steps=max_steps)
    return replace(
        RunDescription(
            config=config,
            resolved=resolved,
            policy=spec,
            env=env.spec,
        ),
        **parts,
    )


def record_episode(
    env: Env, policy: Policy | str, episode_index: int = 0, n_action_steps: int = 1, **settings
) -> EpisodeRecord:
    """Roll one episode out and return its record.

    Args:
        policy: a policy, or the name of a baseline.
        settings: further fields of `RolloutSettings`; 12 control steps are the default.
    """
    if isinstance(policy, str):
        policy = BASELINES[policy](env)
    rollout = RolloutSettings(**{"n_action_steps": n_action_steps, "max_steps": 12} | settings)
    return run_episode(env, policy, episode_index, EpisodeRecorder(), rollout)


def make_trajectory_of(arrays: EpisodeArrays) -> Trajectory:
    """Return the trajectory of a pick-and-place episode from arrays that a test made by hand."""
    closes = (
        np.zeros(len(arrays.action), bool)
        if arrays.closes_gripper is None
        else arrays.closes_gripper
    )
    assert arrays.object_height_m is not None and arrays.goal_distance_m is not None
    return Trajectory(
        goal=declare_goal("in block bowl"),
        met=arrays.progress[:, -1],
        stages=dict(zip(PICK_AND_PLACE.stages, arrays.progress.T, strict=True)),
        measures={
            "object_height_m": arrays.object_height_m,
            "goal_distance_m": arrays.goal_distance_m,
        },
        ee_pos_world=arrays.ee_pos_world,
        object_pos_world=arrays.object_pos_world,
        closes_gripper=closes,
    )


def assert_same_arrays(
    arrays: EpisodeArrays, other: EpisodeArrays, but_for: Collection[str] = ()
) -> None:
    """Assert that two episodes have the same arrays to the last bit.

    Their series must be equal too, except those of wall time.
    """
    for field in fields(EpisodeArrays):
        if field.name not in {"series", *but_for}:
            np.testing.assert_array_equal(
                getattr(arrays, field.name), getattr(other, field.name), field.name
            )
    assert arrays.series.keys() == other.series.keys()
    for name, recorded in arrays.series.items():
        assert recorded.series == other.series[name].series
        if recorded.series.is_reproducible:
            np.testing.assert_array_equal(recorded.values, other.series[name].values, name)
