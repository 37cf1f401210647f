"""Hand-made trajectories, and one real rollout for each outcome."""

import numpy as np
import pytest

from eval.outcome import Outcome, OutcomeThresholds, Trajectory, choose_goal, judge
from eval.recorder import EpisodeRecorder
from eval.run_folder import make_row
from sim.env import STAGES
from sim.so101.expert import PickPlaceExpert

THRESHOLDS = OutcomeThresholds()


def trajectory(height, distance, **flags):
    """Flags default to a gripper that reached, grasped and lifted at some moment."""
    n = len(height)
    progress = np.zeros((n, len(STAGES)), bool)
    for stage, values in ({"reached": [1] * n, "grasped": [1] * n, "lifted": [1] * n} | flags).items():
        progress[:, STAGES.index(stage)] = values
    return Trajectory(np.array(height, float), np.array(distance, float), progress)


def test_success_is_what_the_environment_says():
    verdict = judge(trajectory([0, 0.1, 0], [0.2, 0.1, 0]), True, THRESHOLDS)
    assert verdict.outcome is Outcome.SUCCESS and verdict.failed_stage is None and verdict.decided_at_step == 2


@pytest.mark.parametrize(
    ("unmet", "stage"),
    [({"reached": 0, "grasped": 0, "lifted": 0}, "reached"), ({"grasped": 0, "lifted": 0}, "grasped"), ({}, "lifted")],
)
def test_never_above_5_cm_is_never_picked_up(unmet, stage):
    verdict = judge(trajectory([0, 0.049, 0.0], [0.2, 0.2, 0.2], **unmet), False, THRESHOLDS)
    assert (verdict.outcome, verdict.failed_stage, verdict.decided_at_step) == (Outcome.NEVER_PICKED_UP, stage, 2)


def test_down_far_from_the_goal_is_dropped_when_it_came_down():
    verdict = judge(trajectory([0, 0.06, 0.04, 0.02, 0, 0], [0.3, 0.2, 0.15, 0.13, 0.05, 0.05]), False, THRESHOLDS)
    assert verdict.outcome is Outcome.DROPPED_DURING_TRANSPORT
    assert (verdict.failed_stage, verdict.decided_at_step) == ("over_goal", 3)


def test_down_within_12_cm_is_missed():
    missed = trajectory([0, 0.06, 0.02], [0.3, 0.2, 0.12])
    assert judge(missed, False, THRESHOLDS).outcome is Outcome.MISSED_GOAL
    assert judge(missed, False, THRESHOLDS).failed_stage == "over_goal"
    flew_over = trajectory([0, 0.06, 0.02], [0.3, 0.02, 0.1], over_goal=[0, 1, 0])
    assert judge(flew_over, False, THRESHOLDS).failed_stage == "placed"


def test_a_drop_that_was_picked_up_again_does_not_count():
    verdict = judge(trajectory([0, 0.06, 0, 0.06, 0.06], [0.3] * 5), False, THRESHOLDS)
    assert (verdict.outcome, verdict.failed_stage, verdict.decided_at_step) == (Outcome.TIMEOUT, "over_goal", 4)


@pytest.mark.parametrize(("released", "stage"), [(0, "released"), (1, "placed")])
def test_in_the_bowl_but_unfinished_is_a_timeout(released, stage):
    inside = trajectory([0, 0.06, 0.01], [0.3, 0.1, 0.01], over_goal=[0, 0, 1], released=[1, 0, released])
    verdict = judge(inside, False, THRESHOLDS)
    assert (verdict.outcome, verdict.failed_stage) == (Outcome.TIMEOUT, stage)


@pytest.mark.parametrize(
    ("distance_m", "outcome"), [(0.1, Outcome.MISSED_GOAL), (0.2, Outcome.DROPPED_DURING_TRANSPORT)]
)
def test_put_on_something_tall_beside_the_goal_came_down_when_it_was_let_go(distance_m, outcome):
    height, distance = [0, 0.06, 0.1, 0.1, 0.1, 0.1], [0.3, 0.2, 0.2, 0.2, distance_m, distance_m]
    put_down = trajectory(height, distance, released=[1, 0, 1, 0, 1, 1])
    verdict = judge(put_down, False, THRESHOLDS)
    assert (verdict.outcome, verdict.failed_stage, verdict.decided_at_step) == (outcome, "over_goal", 4)
    flew_over = trajectory(height, distance, released=[1, 0, 1, 0, 1, 1], over_goal=[0, 0, 1, 0, 0, 0])
    assert judge(flew_over, False, THRESHOLDS).failed_stage == ("placed" if distance_m == 0.1 else "over_goal")


@pytest.mark.parametrize(
    ("height", "released", "over_goal", "stage"),
    [
        ([0, 0.06, 0.1, 0.1, 0.1], [1, 0, 1, 1, 0], [0] * 5, "over_goal"),
        ([0, 0.06, 0.1, 0.1, 0.1], [1, 0, 1, 1, 1], [0, 0, 0, 0, 1], "placed"),
        ([0, 0.01, 0.1, 0.1, 0.1], [0, 1, 1, 1, 1], [0] * 5, "over_goal"),
        ([0, 0.06, 0.02, 0.1, 0.1], [1, 0, 1, 1, 1], [0] * 5, "over_goal"),
    ],
    ids=["held again", "over the goal", "let go before it was up", "let go low down, then raised"],
)
def test_what_is_up_and_was_not_put_beside_the_goal_is_a_timeout(height, released, over_goal, stage):
    verdict = judge(trajectory(height, [0.3] * 5, released=released, over_goal=over_goal), False, THRESHOLDS)
    assert (verdict.outcome, verdict.failed_stage, verdict.decided_at_step) == (Outcome.TIMEOUT, stage, 4)


def test_what_is_let_go_and_falls_is_decided_by_the_fall():
    fallen = trajectory([0, 0.06, 0.06, 0.05, 0.02], [0.3, 0.3, 0.3, 0.3, 0.1], released=[1, 0, 1, 1, 1])
    verdict = judge(fallen, False, THRESHOLDS)
    assert (verdict.outcome, verdict.decided_at_step) == (Outcome.MISSED_GOAL, 4)


@pytest.mark.parametrize(("success", "outcome", "stage"), [(0, Outcome.TIMEOUT, "open"), (1, Outcome.SUCCESS, None)])
def test_an_articulated_goal_fails_at_its_verb_when_time_is_up(success, outcome, stage):
    nothing = np.zeros((4, len(STAGES)), bool)
    drawer = Trajectory(np.zeros(4), np.full(4, np.nan), nothing, "open wooden_cabinet_1_top_region", True)
    verdict = judge(drawer, bool(success), THRESHOLDS)
    assert (verdict.outcome, verdict.failed_stage, verdict.decided_at_step) == (outcome, stage, 3)


@pytest.mark.parametrize(
    ("met", "highest_m", "furthest", "success", "chosen"),
    [
        ((1, 1, 1), (0.2, 0.2, 0), (np.nan, np.nan, 1), True, 2),
        ((0, 0, 0), (0, 0, 0), (np.nan, np.nan, 0), False, 0),
        ((0, 0, 0), (0, 0.06, 0), (np.nan, np.nan, 0), False, 1),
        ((0, 0, 0), (0.04, 0.04, 0), (np.nan, np.nan, 0.2), False, 2),
        ((0, 0, 0), (0.04, 0.04, 0), (np.nan, np.nan, 0.05), False, 0),
        ((1, 0, 0), (0.2, 0, 0), (np.nan, np.nan, 0), False, 1),
        ((0, 1, 0), (0, 0.2, 0), (np.nan, np.nan, 0.9), False, 2),
        ((1, 1, 1), (0.2, 0.2, 0), (np.nan, np.nan, 1), False, 2),
    ],
)
def test_the_verdict_rests_on_the_first_goal_that_was_begun_and_not_met(met, highest_m, furthest, success, chosen):
    """Heights and joints reach their extreme in the middle; goals are met at the end, or not."""
    still = np.where(np.isnan(furthest), np.nan, 0.0)
    heights, joints = np.array([np.zeros(3), highest_m, np.zeros(3)], float), np.array([still, furthest, still], float)
    is_met = np.array([[True] * 3, [False] * 3, met], dtype=bool)
    assert choose_goal(is_met, heights, joints, success, THRESHOLDS) == chosen


def test_thresholds_are_parameters():
    low = OutcomeThresholds(picked_up_m=0.02, dropped_m=0.01, near_goal_m=0.5)
    assert judge(trajectory([0, 0.03, 0.005], [0.3, 0.3, 0.3]), False, low).outcome is Outcome.MISSED_GOAL


def expert_row(env, fault, episode_index, n_steps=220):
    """The whole way from a rollout to its row, with the expert in place of a policy."""
    env.reset(episode_index)
    expert, recorder = PickPlaceExpert(env, fault), EpisodeRecorder()
    recorder.start(env, episode_index)
    for step in range(n_steps):
        action = expert.action().astype(np.float32)
        recorder.record_decision(step, env.snapshot(), action[None])
        result = env.step(action)
        recorder.record_step(action, result)
        if result.success:
            break
    return make_row(recorder.finish(), THRESHOLDS)


@pytest.mark.parametrize("episode_index", [0, 1, 2])
@pytest.mark.parametrize(
    ("fault", "outcome", "stage"),
    [
        (None, Outcome.SUCCESS, None),
        ("never_close", Outcome.NEVER_PICKED_UP, "grasped"),
        ("open_half_way", Outcome.DROPPED_DURING_TRANSPORT, "over_goal"),
        ("release_beside", Outcome.MISSED_GOAL, "over_goal"),
        ("stop_over_bowl", Outcome.TIMEOUT, "released"),
    ],
)
def test_scripted_faults_give_their_outcome(blind_env, fault, outcome, stage, episode_index):
    row = expert_row(blind_env, fault, episode_index)
    assert (row.outcome, row.failed_stage) == (outcome, stage)
    assert row.success == (outcome is Outcome.SUCCESS)
    assert 0 < row.decided_at_step <= row.n_steps
