"""How an episode ended, decided from its recorded trajectory alone.

Sources. A task is the conjunction of its goals, as LIBERO's BDDL goals are (Liu et al. 2023, arXiv:2306.03310); that an
episode rests on one of them, and on which, is ours. So are the rules for pick and place: their thresholds were set on
the SO-101, such that each fault of its scripted expert gives one outcome (tests/test_eval_outcome.py).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float64

from sim.env import STAGES


class Outcome(StrEnum):
    """What became of an episode. `ERROR` is a crash of environment or policy, never a failure of the policy."""

    SUCCESS = "success"
    NEVER_PICKED_UP = "never_picked_up"
    DROPPED_DURING_TRANSPORT = "dropped_during_transport"
    MISSED_GOAL = "missed_goal"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True)
class OutcomeThresholds:
    """Heights are of the object above where it lay at reset; distances horizontal, to the goal's middle.

    Attributes:
        picked_up_m: higher than this at any moment: picked up.
        dropped_m: lower than this after that: fallen or put down.
        near_goal_m: where it came down: within this of the goal it missed, beyond it was dropped.
        begun_joint_progress: an articulated goal whose joint was ever further than this was begun.
    """

    picked_up_m: float = 0.05
    dropped_m: float = 0.03
    near_goal_m: float = 0.12
    begun_joint_progress: float = 0.1


DEFAULT_THRESHOLDS = OutcomeThresholds()


@dataclass(frozen=True)
class Verdict:
    """An outcome and what it rests on.

    Attributes:
        failed_stage: the first stage that was not met; None for success and error.
        decided_at_step: control step after which nothing that followed changed the outcome.
    """

    outcome: Outcome
    failed_stage: str | None
    decided_at_step: int


@dataclass(frozen=True)
class Trajectory:
    """What the verdict reads, of one goal, as in `EpisodeArrays`: T control steps, so T+1 moments.

    Attributes:
        goal: its name.
        is_articulated: it is about a joint: there are no stages.
    """

    object_height_m: Float64[np.ndarray, " T1"]
    goal_distance_m: Float64[np.ndarray, " T1"]
    progress: Bool[np.ndarray, "T1 stage"]
    goal: str = ""
    is_articulated: bool = False

    def flag(self, stage: str) -> Bool[np.ndarray, " T1"]:
        return self.progress[:, STAGES.index(stage)]

    def ever(self, stage: str) -> bool:
        return bool(self.flag(stage).any())

    def finally_(self, stage: str) -> bool:
        return bool(self.flag(stage)[-1])


def choose_goal(
    met: Bool[np.ndarray, "T1 goal"],
    object_height_m: Float64[np.ndarray, "T1 goal"],
    joint_progress: Float64[np.ndarray, "T1 goal"],
    success: bool,
    thresholds: OutcomeThresholds,
) -> int:
    """Index of the goal that the verdict rests on.

    On success the last. Else the first of those that do not hold at the end and were begun: the object was picked up,
    or the joint moved. Where none was begun, the first that does not hold; where all hold (and were not held for long
    enough to count), the last.

    Args:
        joint_progress: nan for pick and place.
    """
    unmet = np.flatnonzero(~met[-1])
    if success or len(unmet) == 0:
        return met.shape[1] - 1
    picked_up = (object_height_m > thresholds.picked_up_m).any(axis=0)
    moved = (joint_progress > thresholds.begun_joint_progress).any(axis=0)
    begun = set(np.flatnonzero(picked_up | moved))
    return int(next((goal for goal in unmet if goal in begun), unmet[0]))


def judge(trajectory: Trajectory, success: bool, thresholds: OutcomeThresholds) -> Verdict:
    """Sort an episode that ran to its end.

    An articulated goal: timeout, and the failed stage is the goal's first word ("open"); decided at the end.

    Pick and place:

    - never higher than `picked_up_m`: never picked up; the failed stage is the first of reached, grasped, lifted.
    - came down and does not lie in the goal: missed goal within `near_goal_m` of it, else dropped during transport;
      decided when it came down. It came down when it was lower than `dropped_m` after the last time it was up, or, put
      beside the goal on something tall, when it was let go for good.
    - else still held, or in the goal but not let go or not at rest: timeout, decided at the end.
    """
    height, last_step = trajectory.object_height_m, len(trajectory.object_height_m) - 1
    if success:
        return Verdict(Outcome.SUCCESS, None, last_step)
    if trajectory.is_articulated:
        return Verdict(Outcome.TIMEOUT, trajectory.goal.split()[0], last_step)
    if not (height > thresholds.picked_up_m).any():
        return Verdict(Outcome.NEVER_PICKED_UP, _first_unmet(trajectory, "reached", "grasped", "lifted"), last_step)
    down_step = _find_coming_down(trajectory, thresholds)
    if down_step is None or trajectory.finally_("over_goal"):
        return Verdict(Outcome.TIMEOUT, _unfinished_stage(trajectory), last_step)
    if trajectory.goal_distance_m[down_step] <= thresholds.near_goal_m:
        stage = "placed" if trajectory.ever("over_goal") else "over_goal"
        return Verdict(Outcome.MISSED_GOAL, stage, down_step)
    return Verdict(Outcome.DROPPED_DURING_TRANSPORT, "over_goal", down_step)


def _find_coming_down(trajectory: Trajectory, thresholds: OutcomeThresholds) -> int | None:
    """The step after which an object that was picked up is up no more; None if it still is, and held."""
    height = trajectory.object_height_m
    up = np.flatnonzero(height > thresholds.picked_up_m)
    low = up[-1] + np.flatnonzero(height[up[-1] :] < thresholds.dropped_m)
    if len(low):
        return int(low[0])
    held = np.flatnonzero(~trajectory.flag("released"))
    release_step = int(held[-1]) + 1 if len(held) else 0
    # Before it was first up nobody carried it, and let go of low down it was put there: something else raised it.
    was_let_go = up[0] <= release_step < len(height) and height[release_step] >= thresholds.dropped_m
    return release_step if was_let_go else None


def _first_unmet(trajectory: Trajectory, *stages: str) -> str:
    """The last of `stages` when each was met for a moment and the object still did not get up."""
    return next((stage for stage in stages if not trajectory.ever(stage)), stages[-1])


def _unfinished_stage(trajectory: Trajectory) -> str:
    if not trajectory.finally_("over_goal"):
        return "over_goal"
    return "placed" if trajectory.finally_("released") else "released"
