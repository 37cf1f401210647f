"""Environments meet the requirements of the goal kinds that they declare."""

from dataclasses import replace

import pytest

from sim.env import Progress
from sim.errors import WhiskerError
from sim.goals.articulated import ARTICULATED
from sim.goals.check import check_progress
from sim.goals.goal import SUCCESS_ONLY, GoalKind, Threshold
from sim.goals.older import read_older_goal
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.libero_bench.goal_thresholds import ARTICULATED_THRESHOLDS, PICK_AND_PLACE_THRESHOLDS
from sim.so101.goals import THRESHOLDS
from tests.point_env import REACH, Point


@pytest.mark.parametrize(
    ("kind", "stated"),
    [
        (PICK_AND_PLACE, THRESHOLDS),
        (PICK_AND_PLACE, PICK_AND_PLACE_THRESHOLDS),
        (ARTICULATED, ARTICULATED_THRESHOLDS),
    ],
)
def test_each_family_states_each_threshold_of_a_kind_with_its_source(kind, stated):
    goal = kind.goal("in block bowl", stated)
    assert goal.thresholds == {name: stated[name].value for name in kind.thresholds}
    assert all(threshold.source for threshold in stated.values()) and all(kind.thresholds.values())


def test_a_threshold_is_neither_forgotten_nor_invented():
    known = Threshold(1, "here")
    with pytest.raises(
        WhiskerError,
        match="expected those of the kind 'reach': stalled, stalled_steps, got stalled",
    ):
        REACH.goal("be there", {"stalled": known})
    with pytest.raises(
        WhiskerError, match="expected those of the kind 'success_only': none, got stalled"
    ):
        SUCCESS_ONLY.goal("win", {"stalled": known})
    with pytest.raises(WhiskerError, match="expected those of the kind 'articulated'"):
        ARTICULATED.goal("open drawer", THRESHOLDS)


def test_what_a_kind_nears_is_among_its_measures_and_has_its_thresholds():
    with pytest.raises(WhiskerError, match="expected distance_m among its measures, got none"):
        GoalKind("reach", nears="distance_m")
    with pytest.raises(
        WhiskerError, match="expected stalled and stalled_steps among its thresholds, got none"
    ):
        GoalKind("reach", measures={"distance_m": "what is left"}, nears="distance_m")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stages": {}}, "expected the stages of its kind 'reach': near, got none"),
        ({"stages": {"close": True}}, "expected the stages of its kind 'reach': near, got close"),
        (
            {"measures": {"distance_m": 0.0, "joint": 1.0}},
            "expected the measures of its kind 'reach': distance_m, got",
        ),
    ],
)
def test_progress_that_is_not_of_the_declared_kind_is_named(changes, said):
    (progress,) = Point().progress()
    check_progress(Point.spec, (progress,))
    with pytest.raises(WhiskerError, match=f"progress of the goal 'be there' of 'point': {said}"):
        check_progress(Point.spec, (replace(progress, **changes),))
    with pytest.raises(
        WhiskerError, match="expected 1, one for each of the goals that its spec declares, got 2"
    ):
        check_progress(Point.spec, (progress, Progress(met=True)))


@pytest.mark.parametrize(
    ("name", "kind", "stated"),
    [
        ("in block bowl", PICK_AND_PLACE, THRESHOLDS),
        (
            "on akita_black_bowl_1 plate_1",
            PICK_AND_PLACE,
            PICK_AND_PLACE_THRESHOLDS,
        ),
        ("turnon flat_stove_1", ARTICULATED, ARTICULATED_THRESHOLDS),
        ("close microwave_1", ARTICULATED, ARTICULATED_THRESHOLDS),
    ],
)
def test_a_goal_that_was_recorded_as_a_name_is_the_goal_that_is_declared_now(name, kind, stated):
    """The recorded thresholds are those of old runs: they belong to both kinds together."""
    then = {
        "held_steps": 10,
        "raised_m": 0.02,
        "closing_steps": 5,
        "dropped_m": 0.03,
        "near_goal_m": 0.12,
        "near_gripper_m": 0.05,
        "begun_joint_progress": 0.1,
        "stalled_steps": 30,
        "stalled_m": 0.005,
        "stalled_joint_progress": 0.02,
    }
    assert read_older_goal(name, then) == kind.goal(name, stated)
