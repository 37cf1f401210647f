"""Tests of the recorder on a task with two goals.

One is the SO-101's own goal. The other is a drawer that the shoulder joint stands for.
"""

import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from eval.episode_row import EpisodeRow, load_rows, make_row
from eval.outcome import Outcome
from eval.recorder import EpisodeRecorder
from eval.run import Run
from eval.run_folder import RunFolder
from policies.baselines import BASELINES
from sim.goals.articulated import ARTICULATED, articulated_progress
from sim.libero_bench.goal_thresholds import ARTICULATED_THRESHOLDS
from sim.so101.goals import declare_goal
from sim.so101.pick_place import PickPlace
from tests.recordings import record_episode
from tests.runs import describe_run

# The bowl is to the left, where the shoulder's angle is negative; it reaches -0.8 rad.
OPEN_RAD = -0.25
FAR_RAD = -2.0
DRAWER = ARTICULATED.goal("open drawer_1", ARTICULATED_THRESHOLDS)


class DrawerAndBowl(PickPlace):
    """A task whose drawer is open when the shoulder has turned far enough towards the bowl."""

    def __init__(
        self,
        opens_at_rad=OPEN_RAD,
        drawer_first=True,
    ):
        super().__init__("so101/pick_place", image_sizes={})
        self._opens_at_rad = opens_at_rad
        self._drawer_first = drawer_first
        goals = self._ordered(DRAWER, declare_goal("in block bowl"))
        self.spec = replace(self.spec, goals=goals)

    def progress(self):
        share = float(self.data.joint("shoulder_pan").qpos[0]) / self._opens_at_rad
        handle_pos = self.data.body("gripper").xpos.copy()
        drawer = articulated_progress(share >= 1, share, handle_pos)
        return self._ordered(drawer, *super().progress())

    def step(self, action):
        result = super().step(action)
        goals = self.progress()
        success = result.success and all(goal.met for goal in goals)
        return replace(
            result,
            progress=goals,
            success=success,
        )

    def _ordered(self, drawer, bowl):
        return (drawer, bowl) if self._drawer_first else (bowl, drawer)


def record_expert(
    env,
    failure_mode=None,
    max_steps=160,
):
    policy = BASELINES["scripted"](env)
    policy._expert = env.make_expert(failure_mode)
    record = record_episode(env, policy, max_steps=max_steps)
    return record, make_row(record)


def test_a_success_rests_on_the_last_goal():
    record, row = record_expert(DrawerAndBowl())
    assert record.success
    assert row.outcome is Outcome.SUCCESS
    assert row.goal == "in block bowl"
    assert row.final_joint_progress is None
    assert row.max_object_height_m > 0.05
    assert row.final_goal_distance_m < 0.05
    goals_met = record.arrays.goals_met
    assert goals_met.shape == (row.n_steps + 1, 2)
    assert goals_met[-1].all()
    assert not goals_met[0].any()


def test_a_success_rests_on_a_drawer_that_is_the_last_goal():
    record, row = record_expert(DrawerAndBowl(drawer_first=False))
    assert record.success
    assert row.goal == "open drawer_1"
    assert row.final_joint_progress >= 1
    assert row.max_object_height_m is None
    assert row.final_goal_distance_m is None
    assert np.isnan(record.arrays.goal_distance_m).all()
    assert not record.arrays.progress[0].any()


def test_a_failure_rests_on_the_goal_that_was_begun():
    _, row = record_expert(DrawerAndBowl(-100.0), "release_beside")
    assert row.goal == "in block bowl"
    assert row.outcome is Outcome.MISSED_GOAL

    _, row = record_expert(DrawerAndBowl(), "never_close")
    assert row.goal == "in block bowl"
    assert row.outcome is Outcome.NEVER_PICKED_UP
    assert row.failed_stage == "grasped"


def test_where_no_goal_was_begun_the_first_one_failed():
    row = make_row(
        record_episode(
            DrawerAndBowl(-100.0),
            "zero",
            max_steps=5,
        )
    )
    assert row.goal == "open drawer_1"
    assert row.outcome is Outcome.TIMEOUT
    assert row.failed_stage == "open"
    assert row.decided_at_step == 5
    assert row.final_joint_progress == pytest.approx(0, abs=0.01)


def test_a_half_open_drawer_was_begun():
    """The drawer decides the outcome although the block is in the bowl."""
    record, row = record_expert(DrawerAndBowl(FAR_RAD))
    assert row.goal == "open drawer_1"
    assert row.outcome is Outcome.TIMEOUT
    assert row.failed_stage == "open"
    assert 0.1 < row.final_joint_progress < 1
    assert record.arrays.goals_met[-1].tolist() == [False, True]


@pytest.mark.parametrize("opens_at_rad", [FAR_RAD, OPEN_RAD])
def test_rows_of_every_kind_are_json_without_nan_and_come_back(opens_at_rad, tmp_path):
    env = DrawerAndBowl(opens_at_rad)
    record, row = record_expert(env, max_steps=100)
    with closing(RunFolder.create(tmp_path, describe_run(env))) as folder:
        folder.append(record, row)
    line = json.dumps(row.to_json(), allow_nan=False)
    assert EpisodeRow.from_json(line) == row
    assert load_rows(folder.path) == folder.rows
    arrays = Run.open(folder.path).load_arrays(row)
    np.testing.assert_array_equal(arrays.goals_met, record.arrays.goals_met)
    np.testing.assert_array_equal(arrays.joint_progress, record.arrays.joint_progress)


@pytest.fixture
def deciding():
    """Return an environment after its reset, and a recorder that has recorded one decision."""
    env = DrawerAndBowl(FAR_RAD)
    env.reset(0)
    recorder = EpisodeRecorder()
    recorder.start(env, 0)
    recorder.record_decision(
        0,
        env.snapshot(),
        np.zeros((1, 6), np.float32),
    )
    return env, recorder


def test_a_crash_names_the_goal_that_its_arrays_are_of(deciding):
    env, recorder = deciding
    recorder.record_error(RuntimeError("gone"))
    row = make_row(recorder.finish())
    assert row.outcome is Outcome.ERROR
    assert row.goal == "open drawer_1"
    assert row.final_joint_progress == pytest.approx(0)
    recorder.start(env, 0)
    recorder.record_error(RuntimeError("gone"))
    assert make_row(recorder.finish()).goal is None


def test_a_step_whose_moment_cannot_be_read_is_not_kept(deciding, monkeypatch):
    """The environment may die between the step and the snapshot after it."""
    env, recorder = deciding
    result = env.step(env.state())

    def die():
        raise RuntimeError("the process of the environment died")

    monkeypatch.setattr(env, "snapshot", die)
    with pytest.raises(RuntimeError, match="died") as death:
        recorder.record_step(env.state(), result)
    recorder.record_error(death.value)
    arrays = recorder.finish().arrays
    assert len(arrays.action) == 0
    assert len(arrays.state) == 1
