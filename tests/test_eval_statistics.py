from math import isnan

import pytest

from eval.episode_row import EpisodeRow
from eval.outcome import Outcome
from eval.statistics import compute_macro_average, summarise, summarise_tasks

PLAIN = {
    "task": "t",
    "n_steps": 100,
    "decided_at_step": 1,
    "failed_stage": None,
    "max_object_height_m": 0.07,
    "final_goal_distance_m": 0.0,
    "n_predictions": 1,
    "n_clipped_steps": 0,
    "error": "",
    "duration_s": 1.0,
}


def row(index, outcome, **values):
    success = outcome is Outcome.SUCCESS
    return EpisodeRow(
        episode_index=index,
        outcome=outcome,
        success=success,
        **PLAIN | values,
    )


def crash(index, **values):
    return row(index, Outcome.ERROR, error="boom", **values)


def test_crashes_are_reported_and_in_no_denominator():
    rows = [
        row(0, Outcome.SUCCESS, n_steps=80),
        row(1, Outcome.SUCCESS, n_steps=100),
        row(2, Outcome.NEVER_PICKED_UP, max_object_height_m=0.0),
        row(3, Outcome.MISSED_GOAL),
        crash(4, max_object_height_m=None),
    ]
    summary = summarise(rows)
    assert summary.n_judged == 4
    assert summary.n_success == 2
    assert summary.success_rate == 0.5
    assert summary.outcomes[Outcome.ERROR] == 1
    assert sum(summary.outcomes.values()) == 5
    assert summary.pick_rate == 0.75
    assert summary.drop_rate == pytest.approx(1 / 3)
    assert summary.mean_success_steps == 90
    assert summary.mean_max_object_height_m == pytest.approx(0.0525)


def test_undefined_means_are_nan_not_zero():
    summary = summarise([row(0, Outcome.NEVER_PICKED_UP)])
    assert isnan(summary.mean_success_steps)
    assert isnan(summary.drop_rate)
    assert isnan(summarise([]).success_rate)


def test_inverse_kinematics_failures_are_a_share_of_all_judged_steps():
    rows = [
        row(0, Outcome.SUCCESS, n_steps=100, ik_failure_rate=0.5),
        row(1, Outcome.MISSED_GOAL, n_steps=300, ik_failure_rate=0.1),
        crash(2, n_steps=50, ik_failure_rate=1.0),
    ]
    assert summarise(rows).ik_failure_rate == pytest.approx((50 + 30) / 400)
    assert isnan(summarise([row(0, Outcome.SUCCESS)]).ik_failure_rate)


def test_only_outcomes_that_the_goals_can_have_are_counted():
    drawer = row(0, Outcome.TIMEOUT, final_joint_progress=0.5)
    assert list(summarise([drawer]).outcomes) == ["success", "timeout", "error"]
    block = row(1, Outcome.SUCCESS)
    assert list(summarise([drawer, block]).outcomes) == [str(outcome) for outcome in Outcome]


def test_an_articulated_goal_is_no_pick():
    articulated = [
        row(2, Outcome.SUCCESS, final_joint_progress=1.0, max_object_height_m=None),
        row(3, Outcome.TIMEOUT, final_joint_progress=0.3, max_object_height_m=None),
    ]
    summary = summarise(
        [
            row(0, Outcome.SUCCESS),
            row(1, Outcome.NEVER_PICKED_UP),
            *articulated,
        ]
    )
    assert summary.success_rate == 0.5
    assert summary.pick_rate == 0.5
    assert summary.drop_rate == 0
    assert summary.mean_max_object_height_m == pytest.approx(0.07)
    summary = summarise(articulated)
    assert isnan(summary.pick_rate)
    assert isnan(summary.mean_max_object_height_m)


def test_a_goal_of_another_kind_is_a_pick_if_its_object_is_grasped_and_lifted():
    """Its outcomes are listed even if none of its episodes ended so."""
    stack = {"goal_kind": "stack", "stages": ("reached", "grasped", "lifted", "placed")}
    reach = {"goal_kind": "reach", "stages": ("near",), "max_object_height_m": None}
    summary = summarise([row(0, Outcome.SUCCESS, **stack), row(1, Outcome.TIMEOUT, **reach)])
    assert summary.pick_rate == 1.0
    assert list(summary.outcomes) == [str(outcome) for outcome in Outcome]
    summary = summarise([row(1, Outcome.TIMEOUT, **reach)])
    assert isnan(summary.pick_rate)
    assert list(summary.outcomes) == ["success", "timeout", "error"]


def test_in_the_macro_average_each_task_counts_alike():
    rows = [row(i, Outcome.SUCCESS, task="easy") for i in range(8)]
    rows += [row(0, Outcome.MISSED_GOAL, task="hard"), crash(8, task="easy")]
    tasks = summarise_tasks(rows)
    assert list(tasks) == ["easy", "hard"]
    assert tasks["easy"].n_judged == 8
    assert compute_macro_average(tasks.values()) == 0.5 != summarise(rows).success_rate
    crashed = summarise_tasks([*rows, crash(0, task="broken")])
    assert isnan(compute_macro_average(crashed.values()))
