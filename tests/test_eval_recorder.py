"""Tests of the recorder on a task with two goals.

One is the SO-101's own goal. The other is a drawer that the shoulder joint stands for.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from eval.drivers import run_episode
from eval.episode_row import EpisodeRow, load_rows, make_row
from eval.outcome import Outcome
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_folder import RunFolder
from policies.baselines import BASELINES, ScriptedPolicy
from sim.goals.articulated import ARTICULATED, articulated_progress
from sim.libero_bench.goal_thresholds import ARTICULATED_THRESHOLDS
from sim.so101.goals import declare_goal
from sim.so101.pick_place import PickPlace
from tests.runs import describe_run

# The bowl is to the left, where the shoulder's angle is negative; it reaches -0.8 rad.
OPEN_RAD = -0.25
FAR_RAD = -2.0
DRAWER = ARTICULATED.goal("open drawer_1", ARTICULATED_THRESHOLDS)


class DrawerAndBowl(PickPlace):
    """A task whose drawer is open when the shoulder has turned far enough towards the bowl."""

    def __init__(self, opens_at_rad=OPEN_RAD, drawer_first=True):
        super().__init__("so101/pick_place", image_sizes={})
        self._opens_at_rad = opens_at_rad
        self._drawer_first = drawer_first
        self.spec = replace(
            self.spec,
            goals=self._ordered(DRAWER, declare_goal("in block bowl")),
        )

    def progress(self):
        share = float(self.data.joint("shoulder_pan").qpos[0]) / self._opens_at_rad
        met = share >= 1
        drawer = articulated_progress(
            met,
            share,
            self.data.body("gripper").xpos.copy(),
        )
        return self._ordered(drawer, *super().progress())

    def step(self, action):
        result = super().step(action)
        goals = self.progress()
        return replace(
            result, progress=goals, success=result.success and all(goal.met for goal in goals)
        )

    def _ordered(self, drawer, bowl):
        return (drawer, bowl) if self._drawer_first else (bowl, drawer)


def record_and_row(env, policy_name="scripted", failure_mode=None, n_steps=160):
    policy = BASELINES[policy_name](env)
    if isinstance(policy, ScriptedPolicy):
        policy._expert = env.make_expert(failure_mode)
    record = run_episode(
        env,
        policy,
        0,
        EpisodeRecorder(),
        RolloutSettings(1, n_steps),
    )
    return record, make_row(record)


def test_a_success_rests_on_the_last_goal():
    record, row = record_and_row(DrawerAndBowl())
    assert record.success and row.outcome is Outcome.SUCCESS and row.goal == "in block bowl"
    assert (
        row.final_joint_progress is None
        and row.max_object_height_m > 0.05
        and row.final_goal_distance_m < 0.05
    )
    assert (
        record.arrays.goals_met.shape == (row.n_steps + 1, 2) and record.arrays.goals_met[-1].all()
    )
    assert not record.arrays.goals_met[0].any()

    record, row = record_and_row(DrawerAndBowl(drawer_first=False))
    assert record.success and row.goal == "open drawer_1"
    assert (
        row.final_joint_progress >= 1
        and row.max_object_height_m is None
        and row.final_goal_distance_m is None
    )
    assert np.isnan(record.arrays.goal_distance_m).all() and not record.arrays.progress[0].any()


def test_a_failure_rests_on_the_goal_that_was_begun():
    never_open = DrawerAndBowl(-100.0)
    _, row = record_and_row(never_open, failure_mode="release_beside")
    assert (row.goal, row.outcome) == ("in block bowl", Outcome.MISSED_GOAL)

    _, row = record_and_row(never_open, "zero", n_steps=5)
    assert (row.goal, row.outcome, row.failed_stage) == ("open drawer_1", Outcome.TIMEOUT, "open")
    assert row.decided_at_step == 5 and row.final_joint_progress == pytest.approx(0, abs=0.01)

    _, row = record_and_row(DrawerAndBowl(), failure_mode="never_close")
    assert (row.goal, row.outcome, row.failed_stage) == (
        "in block bowl",
        Outcome.NEVER_PICKED_UP,
        "grasped",
    )


def test_a_half_open_drawer_was_begun():
    """The drawer decides the outcome although the block is in the bowl."""
    record, row = record_and_row(DrawerAndBowl(FAR_RAD))
    assert (row.goal, row.outcome, row.failed_stage) == ("open drawer_1", Outcome.TIMEOUT, "open")
    assert 0.1 < row.final_joint_progress < 1 and record.arrays.goals_met[-1].tolist() == [
        False,
        True,
    ]


def test_rows_of_every_kind_are_json_without_nan_and_come_back(tmp_path, blind_env):
    run = RunFolder.create(tmp_path, describe_run(blind_env))
    for env in (DrawerAndBowl(FAR_RAD), DrawerAndBowl()):
        record, row = record_and_row(env, n_steps=100)
        run.append(record, row)
        line = json.dumps(row.to_json(), allow_nan=False)
        assert EpisodeRow.from_json(line) == row
        arrays = Run.open(run.path).load_arrays(row)
        np.testing.assert_array_equal(arrays.goals_met, record.arrays.goals_met)
        np.testing.assert_array_equal(arrays.joint_progress, record.arrays.joint_progress)
    run.close()
    assert load_rows(run.path) == run.rows


def test_a_crash_names_the_goal_that_its_arrays_are_of():
    env = DrawerAndBowl(FAR_RAD)
    env.reset(0)
    recorder = EpisodeRecorder()
    recorder.start(env, 0)
    recorder.record_decision(0, env.snapshot(), np.zeros((1, 6), np.float32))
    recorder.record_error(RuntimeError("gone"))
    row = make_row(recorder.finish())
    assert (row.outcome, row.goal, row.final_joint_progress) == (
        Outcome.ERROR,
        "open drawer_1",
        pytest.approx(0),
    )
    recorder.start(env, 0)
    recorder.record_error(RuntimeError("gone"))
    assert make_row(recorder.finish()).goal is None


def test_a_step_whose_moment_cannot_be_read_is_not_kept(monkeypatch):
    """The environment may die between the step and the snapshot after it."""
    env = DrawerAndBowl(FAR_RAD)
    env.reset(0)
    recorder = EpisodeRecorder()
    recorder.start(env, 0)
    recorder.record_decision(0, env.snapshot(), np.zeros((1, 6), np.float32))
    result = env.step(env.state())

    def die():
        raise RuntimeError("the process of the environment died")

    monkeypatch.setattr(env, "snapshot", die)
    with pytest.raises(RuntimeError, match="died") as death:
        recorder.record_step(env.state(), result)
    recorder.record_error(death.value)
    arrays = recorder.finish().arrays
    assert len(arrays.action) == 0 and len(arrays.state) == 1
