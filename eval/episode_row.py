"""The rows of a run, one for each episode, and how they are made, written and read.

A row is a line of `episodes.jsonl`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from eval.episode_arrays import EpisodeRecord
from eval.judge import judge
from eval.outcome import OUTCOMES, Event, Outcome, find_facts
from eval.rows_file import parse_rows
from eval.trajectory import Trajectory, Verdict
from sim.env import IK_TOLERANCE_M
from sim.errors import WhiskerError
from sim.goals.articulated import ARTICULATED
from sim.goals.pick_and_place import PICK_AND_PLACE, PICKING_STAGES

ROWS_FILE = "episodes.jsonl"


@dataclass(frozen=True)
class EpisodeRow:
    """A line of `episodes.jsonl`. All but `duration_s` are the same on every run of the same thing.

    Attributes:
        outcome: one of `eval.outcome.OUTCOMES`, or one that only a newer version knows.
        decided_at_step: control step at which the outcome was settled.
        failed_stage: first stage that was not met; None for success and error.
        decisive_step: control step at which it went wrong: a grasp that was lost, a closing that
            caught nothing; the last step of a success. None in older rows, which do not have it.
        decisive_event: event at the decisive step (`eval.outcome.Event`), or one that only a newer
            version knows; None in older rows.
        max_object_height_m: None for a goal without this measure, e.g. an articulated one, and
            without any moment recorded.
        final_goal_distance_m: None in the same cases.
        n_clipped_steps: steps whose action left the actuators' range.
        error: "" or the crash.
        ik_failure_rate: share of the control steps whose inverse kinematics missed by more than
            `IK_TOLERANCE_M`.
        ik_error_mm: mean over the control steps of the distance by which it missed. Both are None
            if the environment takes joints, and in older rows, which do not have them.
        goal: the goal of the task that the outcome rests on; None without any moment recorded, and
            in older rows.
        final_joint_progress: progress of an articulated goal (`sim.goals.articulated`); None for
            other kinds.
        instruction: instruction of this episode; None, and no column of the file, if the task has
            one for all its episodes.
        goal_kind, stages, final_measures: kind of the goal, its stages in order, and its measures
            at the end, if it is of another kind than pick and place or articulated; else None, and
            no columns of the file.
        extra: columns that this version does not know.
    """

    task: str
    episode_index: int
    outcome: Outcome | str
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
    decisive_event: Event | str | None = None
    instruction: str | None = None
    goal_kind: str | None = None
    stages: tuple[str, ...] | None = None
    final_measures: Mapping[str, float | None] | None = field(default=None, hash=False)
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def shown_step(self) -> int:
        """Return the step to look at first.

        This is the decisive step, or in older rows the step at which the outcome was settled.
        """
        return self.decided_at_step if self.decisive_step is None else self.decisive_step

    @property
    def is_known(self) -> bool:
        """Return whether this version knows the outcome."""
        return self.outcome in OUTCOMES

    @property
    def is_judged(self) -> bool:
        """Return whether the episode ran to its end.

        An episode with an unknown outcome did, unless the row has an error.
        """
        if self.is_known:
            return find_facts(self.outcome).is_judged
        return not self.error

    @property
    def is_failure(self) -> bool:
        """Return whether the episode ran to its end and did not succeed."""
        return self.is_judged and not self.success

    @property
    def kind_of_goal(self) -> str:
        """Return the name of the kind of goal that the outcome rests on."""
        if self.goal_kind:
            return self.goal_kind
        kind = PICK_AND_PLACE if self.final_joint_progress is None else ARTICULATED
        return kind.name

    @property
    def goal_stages(self) -> tuple[str, ...]:
        """Return the stages of that goal, in order."""
        if self.kind_of_goal == PICK_AND_PLACE.name:
            return tuple(PICK_AND_PLACE.stages)
        return self.stages or ()

    @property
    def is_pick(self) -> bool:
        """Return whether the goal is one in which an object is picked up."""
        return set(self.goal_stages) >= PICKING_STAGES

    @property
    def recorded_stages(self) -> tuple[str, ...]:
        """Return the names of the columns of `EpisodeArrays.progress`."""
        if self.goal_kind:
            return self.goal_stages
        return tuple(PICK_AND_PLACE.stages)

    @classmethod
    def from_json(cls, line: str) -> "EpisodeRow":
        """Return the row of a line.

        Raises:
            ValueError: the line is no JSON, or a column is invalid.
            KeyError, TypeError, AttributeError: a column is missing.
        """
        values = json.loads(line)
        known = {}
        for column in _COLUMNS:
            if column.name in values or column.default is MISSING:
                known[column.name] = values.pop(column.name)
        known["outcome"] = _read_name(Outcome, known["outcome"])
        if known.get("decisive_event"):
            known["decisive_event"] = _read_name(Event, known["decisive_event"])
        if known.get("stages") is not None:
            known["stages"] = tuple(known["stages"])
        return cls(**known, extra=values)

    def to_json(self) -> dict[str, Any]:
        """Return the columns for JSON, in the order of the fields."""
        columns = {column.name: getattr(self, column.name) for column in _COLUMNS}
        for name in _LEFT_OUT_AS_NONE:
            if columns[name] is None:
                del columns[name]
        return columns | dict(self.extra)


type Rows = Sequence[EpisodeRow]

_COLUMNS = [column for column in fields(EpisodeRow) if column.name != "extra"]
# Columns of the file that only some environments have.
_LEFT_OUT_AS_NONE = ("instruction", "goal_kind", "stages", "final_measures")


def _read_name[Name: StrEnum](known: type[Name], name: Any) -> Name | str:
    """Return the member of that name, or the name itself if only a newer version knows it.

    Raises:
        ValueError: it cannot be a name. Names become part of file names and pages.
    """
    if name in list(known):
        return known(name)
    if isinstance(name, str) and re.fullmatch("[a-z][a-z0-9_]*", name):
        return name
    raise ValueError(f"{name!r} as a name")


def make_row(record: EpisodeRecord) -> EpisodeRow:
    """Judge a record and return its row."""
    arrays = record.arrays
    trajectory = record.trajectory
    n_steps = len(arrays.action) if arrays else 0
    verdict = Verdict(Outcome.ERROR, None, n_steps, n_steps, Event.ERROR)
    if trajectory and not record.error:
        verdict = judge(trajectory, record.success)
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
        error=record.error,
        duration_s=record.duration_s,
        decisive_step=verdict.decisive_step,
        decisive_event=verdict.decisive_event,
        instruction=record.instruction,
        **_goal_columns(trajectory),
        **_ik_columns(arrays.ik_error_m if arrays else np.empty(0)),
    )


def _goal_columns(trajectory: Trajectory | None) -> dict[str, Any]:
    """Return the columns about the goal.

    What is undefined is None, not 0, since JSON has no nan.
    """
    if trajectory is None:
        return dict.fromkeys(("max_object_height_m", "final_goal_distance_m"))
    goal = trajectory.goal
    final = {}
    for name, values in trajectory.measures.items():
        final[name] = None if np.isnan(values[-1]) else float(values[-1])
    columns: dict[str, Any] = {
        "goal": goal.name,
        "max_object_height_m": None,
        "final_goal_distance_m": final.get("goal_distance_m"),
        "final_joint_progress": final.get("joint_progress"),
    }
    heights_m = trajectory.measures.get("object_height_m")
    if heights_m is not None:
        columns["max_object_height_m"] = float(heights_m.max())
    if goal.kind not in (PICK_AND_PLACE.name, ARTICULATED.name):
        columns["goal_kind"] = goal.kind
        columns["stages"] = goal.stages
        columns["final_measures"] = final
    return columns


def _ik_columns(error_m: Float64[np.ndarray, " T"]) -> dict[str, Any]:
    if np.isnan(error_m).all():
        return {}
    return {
        "ik_failure_rate": float((error_m > IK_TOLERANCE_M).mean()),
        "ik_error_mm": float(1000 * error_m.mean()),
    }


def load_rows(path: Path) -> list[EpisodeRow]:
    """Load all finished episodes in the order in which they ended.

    An unfinished last line is left out.

    Raises:
        WhiskerError: the file cannot be read, or a line of it is damaged.
    """
    file = path / ROWS_FILE
    try:
        content = file.read_bytes()
    except OSError as error:
        raise WhiskerError(
            f"rows file {str(file)!r}",
            expected="a row for each episode",
            got=error.strerror or str(error),
        ) from error
    return parse_rows(file, content, EpisodeRow.from_json, "a row of JSON")
