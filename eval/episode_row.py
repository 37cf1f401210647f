"""The rows of a run, one an episode, and the judgement that makes them.

A row is a line of `episodes.jsonl`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from eval.outcome import Event, Outcome, OutcomeThresholds, Trajectory, Verdict, judge
from eval.recorder import EpisodeArrays, EpisodeRecord
from sim.env import IK_TOLERANCE_M
from sim.errors import WhiskerError

ROWS_FILE = "episodes.jsonl"


@dataclass(frozen=True)
class EpisodeRow:
    """A line of `episodes.jsonl`. All but `duration_s` are the same on every run of the same thing.

    Attributes:
        decided_at_step: control step at which the outcome was settled.
        failed_stage: first stage that was not met; None for success and error.
        decisive_step: control step at which it went wrong: a grasp that was lost, a closing that caught nothing; at a
            success the last. None in rows from before it was there.
        decisive_event: names what happened there (`eval.outcome.Event`), likewise.
        max_object_height_m: None for an articulated goal, and without any moment recorded.
        final_goal_distance_m: likewise.
        n_clipped_steps: steps whose action left the actuators' range.
        error: "" or what crashed.
        ik_failure_rate: share of the control steps whose inverse kinematics missed by more than `IK_TOLERANCE_M`.
        ik_error_mm: mean over the control steps of how far it missed. Both are None where the environment takes
            joints, and in rows from before they were there.
        goal: the goal of the task that the outcome rests on; None without any moment recorded, and in older rows.
        final_joint_progress: of an articulated goal (`Progress.joint_progress`), None for pick and place.
        instruction: of this episode; None, and no column of the file, where the task has one for all its episodes.
        extra: columns that this version does not know.
    """

    task: str
    episode_index: int
    outcome: Outcome
    success: bool
    n_steps: int
    decided_at_step: int
    failed_stage: str | None
    max_object_height_m: float | None
    final_goal_distance_m: float | None
    n_predictions: int
    n_clipped_steps: int
    error: str
    duration_s: float
    ik_failure_rate: float | None = None
    ik_error_mm: float | None = None
    goal: str | None = None
    final_joint_progress: float | None = None
    decisive_step: int | None = None
    decisive_event: Event | None = None
    instruction: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def shown_step(self) -> int:
        """The step to look at first: the decisive one, and in older rows the one at which the outcome was settled."""
        return self.decided_at_step if self.decisive_step is None else self.decisive_step

    @classmethod
    def from_json(cls, line: str) -> "EpisodeRow":
        values = json.loads(line)
        known = {f.name: values.pop(f.name) for f in _columns() if f.name in values or f.default is MISSING}
        event = known.get("decisive_event")
        parsed = {"outcome": Outcome(known["outcome"]), "decisive_event": event and Event(event)}
        return cls(**known | parsed, extra=values)

    def to_json(self) -> dict[str, Any]:
        """Return the columns as JSON has them, in the order of the fields."""
        columns = {f.name: getattr(self, f.name) for f in _columns()}
        if self.instruction is None:
            del columns["instruction"]
        return columns | dict(self.extra)


@cache
def _columns() -> tuple[Field, ...]:
    return tuple(f for f in fields(EpisodeRow) if f.name != "extra")


def make_row(record: EpisodeRecord, thresholds: OutcomeThresholds) -> EpisodeRow:
    """Judge a record and put it into a row."""
    arrays, error = record.arrays, record.error
    n_steps = len(arrays.action) if arrays else 0
    verdict = Verdict(Outcome.ERROR, None, n_steps, n_steps, Event.ERROR)
    if arrays and not error:
        verdict = judge(make_trajectory(arrays, record.goal or ""), record.success, thresholds)
    return EpisodeRow(
        task=record.task,
        episode_index=record.episode_index,
        outcome=verdict.outcome,
        success=record.success,
        n_steps=n_steps,
        decided_at_step=verdict.decided_at_step,
        failed_stage=verdict.failed_stage,
        n_predictions=len(arrays.chunk) if arrays else 0,
        n_clipped_steps=int(arrays.clipped.sum()) if arrays else 0,
        error=error,
        duration_s=record.duration_s,
        goal=record.goal,
        decisive_step=verdict.decisive_step,
        decisive_event=verdict.decisive_event,
        instruction=record.instruction,
        **_goal_columns(arrays),
        **_ik_columns(arrays.ik_error_m if arrays else np.empty(0)),
    )


def make_trajectory(arrays: EpisodeArrays, goal: str) -> Trajectory:
    """Return the part of an episode's arrays that the verdict reads."""
    closes_gripper = arrays.closes_gripper
    return Trajectory(
        object_height_m=arrays.object_height_m,
        goal_distance_m=arrays.goal_distance_m,
        ee_pos_world=arrays.ee_pos_world,
        object_pos_world=arrays.object_pos_world,
        progress=arrays.progress,
        joint_progress=arrays.joint_progress,
        closes_gripper=np.zeros(len(arrays.action), bool) if closes_gripper is None else closes_gripper,
        goal=goal,
        is_articulated=_is_articulated(arrays),
    )


def _is_articulated(arrays: EpisodeArrays) -> bool:
    return not bool(np.isnan(arrays.joint_progress).any())


def _goal_columns(arrays: EpisodeArrays | None) -> dict[str, Any]:
    """Return the columns that depend on the goal's kind. What is undefined is None, not 0, since JSON has no nan."""
    if arrays is None:
        return dict.fromkeys(("max_object_height_m", "final_goal_distance_m", "final_joint_progress"))
    return {
        "max_object_height_m": None if _is_articulated(arrays) else float(arrays.object_height_m.max()),
        "final_goal_distance_m": _unless_nan(arrays.goal_distance_m[-1]),
        "final_joint_progress": _unless_nan(arrays.joint_progress[-1]),
    }


def _unless_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _ik_columns(error_m: Float64[np.ndarray, " T"]) -> dict[str, Any]:
    if np.isnan(error_m).all():
        return {"ik_failure_rate": None, "ik_error_mm": None}
    return {
        "ik_failure_rate": float((error_m > IK_TOLERANCE_M).mean()),
        "ik_error_mm": float(1000 * error_m.mean()),
    }


def load_rows(path: Path) -> list[EpisodeRow]:
    """All finished episodes, in the order in which they ended; an unfinished last line is left out.

    Raises:
        WhiskerError: the file cannot be read, or a line of it is damaged.
    """
    rows = []
    lines = _read_rows_file(path / ROWS_FILE).split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(EpisodeRow.from_json(line.decode()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WhiskerError(
                f"{str(path / ROWS_FILE)!r}, line {number}", expected="a row of JSON", got=repr(error)
            ) from error
    return rows


def cut_torn_line(path: Path) -> None:
    """Take an unfinished last line off a rows file."""
    content = _read_rows_file(path)
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())


def _read_rows_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        got = error.strerror or str(error)
        raise WhiskerError(f"rows file {str(path)!r}", expected="a row for each episode", got=got) from error
