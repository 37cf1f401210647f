"""How an episode ended, decided from its recorded trajectory alone."""

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
    """

    picked_up_m: float = 0.05
    dropped_m: float = 0.03
    near_goal_m: float = 0.12


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
    """What the verdict reads, as in `EpisodeArrays`: T control steps, so T+1 moments."""

    object_height_m: Float64[np.ndarray, " T1"]
    goal_distance_m: Float64[np.ndarray, " T1"]
    progress: Bool[np.ndarray, "T1 stage"]

    def ever(self, stage: str) -> bool:
        return bool(self.progress[:, STAGES.index(stage)].any())

    def finally_(self, stage: str) -> bool:
        return bool(self.progress[-1, STAGES.index(stage)])


def judge(trajectory: Trajectory, success: bool, thresholds: OutcomeThresholds) -> Verdict:
    """Sort an episode that ran to its end.

    - never higher than `picked_up_m`: never picked up; the failed stage is the first of reached, grasped, lifted.
    - came down after the last time it was up, and does not lie in the goal: missed goal within `near_goal_m` of it,
      else dropped during transport; decided when it came down.
    - else still held, or in the goal but not let go or not at rest: timeout, decided at the end.
    """
    height, last_step = trajectory.object_height_m, len(trajectory.object_height_m) - 1
    if success:
        return Verdict(Outcome.SUCCESS, None, last_step)
    up = np.flatnonzero(height > thresholds.picked_up_m)
    if len(up) == 0:
        return Verdict(Outcome.NEVER_PICKED_UP, _first_unmet(trajectory, "reached", "grasped", "lifted"), last_step)
    down = up[-1] + np.flatnonzero(height[up[-1] :] < thresholds.dropped_m)
    if len(down) == 0 or trajectory.finally_("over_goal"):
        return Verdict(Outcome.TIMEOUT, _unfinished_stage(trajectory), last_step)
    down_step = int(down[0])
    if trajectory.goal_distance_m[down_step] <= thresholds.near_goal_m:
        stage = "placed" if trajectory.ever("over_goal") else "over_goal"
        return Verdict(Outcome.MISSED_GOAL, stage, down_step)
    return Verdict(Outcome.DROPPED_DURING_TRANSPORT, "over_goal", down_step)


def _first_unmet(trajectory: Trajectory, *stages: str) -> str:
    """The last of `stages` when each was met for a moment and the object still did not get up."""
    return next((stage for stage in stages if not trajectory.ever(stage)), stages[-1])


def _unfinished_stage(trajectory: Trajectory) -> str:
    if not trajectory.finally_("over_goal"):
        return "over_goal"
    return "placed" if trajectory.finally_("released") else "released"
