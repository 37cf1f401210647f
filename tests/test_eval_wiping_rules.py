"""Why markers are left, told from tracks of 100 steps whose decisive step is known."""

import numpy as np
import pytest

from eval.outcome import Event, Outcome
from eval.trajectory import Trajectory
from eval.wiping_rules import judge_wiping
from sim.goals.wipe import WIPE
from sim.robosuite_tasks.goal_thresholds import WIPE_THRESHOLDS

N_STEPS = 100
N_MARKERS = 20


def tell(*, comes_at=10, touches=(), wipes_until=0, height_m=0.0):
    """Return the verdict on an episode, without its outcome.

    Args:
        comes_at: step from which on the tool is at a marker; None: it never is.
        touches: first step and end of each contact with the surface.
        wipes_until: a marker goes every five steps from step 10 to here.
        height_m: how far the tool stays above the markers.
    """
    steps = np.arange(N_STEPS + 1)
    wiped = np.clip(np.minimum(steps, wipes_until) - 5, 0, None) // 5
    left = (N_MARKERS - wiped).astype(float)
    force_n = np.zeros(len(steps))
    for begin, end in touches:
        force_n[begin:end] = 0.6
    reached = np.zeros(len(steps), bool) if comes_at is None else steps >= comes_at
    stages = {
        "reached": reached,
        "begun": left < N_MARKERS,
        "half": 2 * left <= N_MARKERS,
        "cleaned": left == 0,
    }
    hand = np.zeros((len(steps), 3))
    hand[:, 2] = height_m + np.maximum(0.0, 0.5 - steps / 50)
    trajectory = Trajectory(
        goal=WIPE.goal("wipe table", WIPE_THRESHOLDS),
        met=stages["cleaned"],
        stages=stages,
        measures={"markers_left": left, "force_n": force_n},
        ee_pos_world=hand,
        object_pos_world=np.zeros_like(hand),
        closes_gripper=np.zeros(N_STEPS, bool),
    )
    verdict = judge_wiping(trajectory)
    assert verdict.outcome == Outcome.TIMEOUT
    assert verdict.decided_at_step == N_STEPS
    return verdict.failed_stage, verdict.decisive_step, verdict.decisive_event


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        ({"comes_at": None, "height_m": 0.2}, ("reached", 25, Event.CLOSEST_APPROACH)),
        ({}, ("begun", 10, Event.NOT_PRESSED)),
        ({"touches": [(20, 101)]}, ("begun", 0, Event.STALLED)),
        ({"touches": [(10, 41)], "wipes_until": 40}, ("half", 40, Event.LEFT_SURFACE)),
        ({"touches": [(10, 31), (35, 51)], "wipes_until": 40}, ("half", 50, Event.LEFT_SURFACE)),
        ({"touches": [(10, 101)], "wipes_until": 40}, ("half", 40, Event.STALLED)),
        # It wiped no more, and left the surface long afterwards.
        ({"touches": [(10, 71)], "wipes_until": 30}, ("half", 30, Event.STALLED)),
        ({"touches": [(10, 101)], "wipes_until": 95}, ("cleaned", 100, Event.END)),
    ],
)
def test_the_decisive_step_says_why_markers_are_left(track, expected):
    assert tell(**track) == expected
