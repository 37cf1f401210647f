"""The trajectory of one goal over an episode, which the verdict is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from eval.grasps import find_stretches
from eval.outcome import Event, Outcome
from sim.env import Progress
from sim.goals.articulated import ARTICULATED
from sim.goals.goal import Goal
from sim.goals.pick_and_place import PICK_AND_PLACE


@dataclass(frozen=True)
class Verdict:
    """An outcome, and the step and the event that decided it.

    Attributes:
        outcome: one of `eval.outcome.OUTCOMES`.
        failed_stage: the first stage that was not met; None for success, and for a goal without
            stages.
        decided_at_step: control step after which nothing changed the outcome.
        decisive_step: control step at which it went wrong, and which to look at first; the last
            step of a success.
        decisive_event: event at the decisive step.
    """

    outcome: Outcome | str
    failed_stage: str | None
    decided_at_step: int
    decisive_step: int
    decisive_event: Event | str


@dataclass(frozen=True)
class Trajectory:
    """One goal over an episode of T control steps, so T+1 moments.

    Attributes:
        met: whether the goal holds.
        stages: name → whether it holds, for each stage of the goal.
        measures: name → value, for each measure of the goal.
        ee_pos_world: position of the tool centre point, m.
        object_pos_world: position of the object, or of the part that is to be moved, m; None for a
            goal about neither.
        closes_gripper: the action commands the gripper closed
            (`eval.grasps.find_closing_commands`).
    """

    goal: Goal
    met: Bool[np.ndarray, " T1"]
    stages: dict[str, Bool[np.ndarray, " T1"]]
    measures: dict[str, Float64[np.ndarray, " T1"]]
    ee_pos_world: Float64[np.ndarray, "T1 3"]
    object_pos_world: Float64[np.ndarray, "T1 3"] | None
    closes_gripper: Bool[np.ndarray, " T"]

    @property
    def last_step(self) -> int:
        return len(self.met) - 1

    @property
    def gripper_distance_m(self) -> Float64[np.ndarray, " T1"]:
        """Return the distance from the tool centre point to the object or the part."""
        assert self.object_pos_world is not None
        return np.linalg.norm(self.ee_pos_world - self.object_pos_world, axis=1)

    def ever(self, stage: str, begin: int = 0) -> bool:
        return bool(self.stages[stage][begin:].any())

    def finally_(self, stage: str) -> bool:
        return bool(self.stages[stage][-1])


def make_trajectory(
    goal: Goal,
    progress: Sequence[Progress],
    ee_pos_world: Float64[np.ndarray, "T1 3"],
    closes_gripper: Bool[np.ndarray, " T"],
) -> Trajectory:
    """Return the trajectory of one goal.

    Args:
        progress: progress of that goal at each moment.
    """
    stages = {
        name: np.array([moment.stages[name] for moment in progress], bool) for name in goal.stages
    }
    measures = {
        name: np.array([moment.measures[name] for moment in progress], float)
        for name in goal.measures
    }
    positions = [moment.object_pos_world for moment in progress]
    present = [position for position in positions if position is not None]
    return Trajectory(
        goal=goal,
        met=np.array([moment.met for moment in progress], bool),
        stages=stages,
        measures=measures,
        ee_pos_world=ee_pos_world,
        object_pos_world=np.stack(present) if present else None,
        closes_gripper=closes_gripper,
    )


def find_best(values: Float64[np.ndarray, " n"], tolerance: float) -> int:
    """Return the first index whose value is within the tolerance of the largest."""
    return int(np.argmax(values >= np.nanmax(values) - tolerance))


def or_end(
    trajectory: Trajectory,
    best_step: int,
    event: Event,
) -> tuple[int, Event]:
    """Return the step after which there was no progress, or the end if there still was."""
    if best_step > trajectory.last_step - trajectory.goal.thresholds["stalled_steps"]:
        return trajectory.last_step, Event.END
    return best_step, event


def find_undoing(trajectory: Trajectory) -> tuple[int, Event]:
    """Return the step at which a goal that was met last ceased to hold, or the end."""
    _, end = find_stretches(trajectory.met)[-1]
    return min(end, trajectory.last_step), Event.UNDONE


def find_failed_stage(trajectory: Trajectory) -> str | None:
    """Return the first stage that was never met; None for a goal without stages.

    If each was met at some time, it is the first that does not hold at the end, and if all hold,
    the last, which did not hold for long enough.
    """
    stages = list(trajectory.stages)
    never_met = [stage for stage in stages if not trajectory.ever(stage)]
    undone = [stage for stage in stages if not trajectory.finally_(stage)]
    in_question = [*never_met, *undone, *stages[-1:]]
    return in_question[0] if in_question else None


def find_closest_approach(trajectory: Trajectory) -> tuple[int, Event]:
    """Return the step at which the gripper came closest to the object, or to the part."""
    step = find_best(-trajectory.gripper_distance_m, trajectory.goal.thresholds["stalled_m"])
    return or_end(trajectory, step, Event.CLOSEST_APPROACH)


def fill_goal_arrays(trajectory: Trajectory) -> dict[str, Any]:
    """Return the arrays of an episode file that are about its goal, by their `EpisodeArrays` names.

    Files of the first two kinds of goal are written as they were before there were others.
    """
    n = len(trajectory.met)
    measures = trajectory.measures
    arrays: dict[str, Any] = {
        "object_pos_world": trajectory.object_pos_world,
        "progress": _stack_columns(trajectory.stages, n, bool),
    }
    if trajectory.goal.kind == PICK_AND_PLACE.name:
        return arrays | measures | {"joint_progress": np.full(n, np.nan)}
    if trajectory.goal.kind != ARTICULATED.name:
        return arrays | {"measures": _stack_columns(measures, n, float)}
    progress = np.zeros((n, len(PICK_AND_PLACE.stages)), bool)
    progress[:, -1] = trajectory.met
    arrays["progress"] = progress
    arrays["object_height_m"] = np.zeros(n)
    arrays["goal_distance_m"] = np.full(n, np.nan)
    return arrays | measures


def _stack_columns(
    columns: Mapping[str, np.ndarray],
    n: int,
    dtype: type,
) -> np.ndarray:
    """Return the columns as a matrix, which has n rows even without columns."""
    return np.stack(list(columns.values()), axis=1) if columns else np.zeros((n, 0), dtype)
