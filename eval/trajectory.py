"""The part of an episode that the verdict reads: one goal over time, as its kind measures it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from eval.outcome import Event, Outcome
from sim.env import Progress
from sim.goals.articulated import ARTICULATED
from sim.goals.goal import Goal
from sim.goals.pick_and_place import PICK_AND_PLACE


@dataclass(frozen=True)
class Verdict:
    """An outcome and what it rests on.

    Attributes:
        outcome: one of `eval.outcome.OUTCOMES`.
        failed_stage: the first stage that was not met; None for success, and for a goal without
            stages.
        decided_at_step: control step after which nothing that followed changed the outcome.
        decisive_step: control step at which it went wrong, and where to look first; at a success
            the last.
        decisive_event: names what happened there.
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
        met: the goal holds.
        stages: name → it holds, for each stage of the goal.
        measures: name → value, for each measure of the goal.
        ee_pos_world: of the tool centre point, m.
        object_pos_world: of the object, or of the part that is to be moved, m; None for a goal
            about neither.
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
    """Return one goal over an episode.

    Args:
        progress: of that goal, at each moment.
    """
    positions = [moment.object_pos_world for moment in progress]
    return Trajectory(
        goal=goal,
        met=np.array([moment.met for moment in progress], dtype=bool),
        stages={
            name: np.array([moment.stages[name] for moment in progress], dtype=bool)
            for name in goal.stages
        },
        measures={
            name: np.array([moment.measures[name] for moment in progress], float)
            for name in goal.measures
        },
        ee_pos_world=ee_pos_world,
        object_pos_world=None
        if positions[0] is None
        else np.stack([p for p in positions if p is not None]),
        closes_gripper=closes_gripper,
    )


def find_best(values: Float64[np.ndarray, " n"], tolerance: float) -> int:
    """Return the first index whose value is the largest but for the tolerance."""
    return int(np.argmax(values >= np.nanmax(values) - tolerance))


def or_end(trajectory: Trajectory, best_step: int, event: Event) -> tuple[int, Event]:
    """Return the step after which it got no further, or the end if it was still getting on."""
    if best_step > trajectory.last_step - trajectory.goal.thresholds["stalled_steps"]:
        return trajectory.last_step, Event.END
    return best_step, event


def find_closest_approach(trajectory: Trajectory) -> tuple[int, Event]:
    """Return where the gripper came as near to the object, or to the part, as it ever did."""
    step = find_best(-trajectory.gripper_distance_m, trajectory.goal.thresholds["stalled_m"])
    return or_end(trajectory, step, Event.CLOSEST_APPROACH)


def fill_goal_arrays(trajectory: Trajectory) -> dict[str, Any]:
    """Return the arrays of an episode file that are about its goal, by their names in `EpisodeArrays`.

    Files of the first two kinds are written as they were before there were others.
    """
    n, stages, measures = len(trajectory.met), trajectory.stages, trajectory.measures
    arrays: dict[str, Any] = {"object_pos_world": trajectory.object_pos_world}
    progress = np.stack([*stages.values()], axis=1) if stages else np.zeros((n, 0), bool)
    if trajectory.goal.kind == PICK_AND_PLACE.name:
        return arrays | measures | {"progress": progress, "joint_progress": np.full(n, np.nan)}
    if trajectory.goal.kind == ARTICULATED.name:
        progress = np.zeros((n, len(PICK_AND_PLACE.stages)), bool)
        progress[:, -1] = trajectory.met
        undefined = {"object_height_m": np.zeros(n), "goal_distance_m": np.full(n, np.nan)}
        return arrays | undefined | measures | {"progress": progress}
    values = np.stack([*measures.values()], axis=1) if measures else np.zeros((n, 0))
    return arrays | {"progress": progress, "measures": values}
