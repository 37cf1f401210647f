"""The rows of a run, one an episode, and the judgement that makes them.

A row is a line of `episodes.jsonl`.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from eval.judge import judge
from eval.outcome import OUTCOMES, Event, Outcome, find_facts
from eval.recorder import EpisodeRecord
from eval.trajectory import Trajectory, Verdict
from sim.env import IK_TOLERANCE_M
from sim.errors import WhiskerError
from sim.goals.articulated import ARTICULATED
from sim.goals.pick_and_place import PICK_AND_PLACE

ROWS_FILE = "episodes.jsonl"


@dataclass(frozen=True)
class EpisodeRow:
    """A line of `episodes.jsonl`. All but `duration_s` are the same on every run of the same thing.

    Attributes:
        decided_at_step: control step at which the outcome was settled.
        failed_stage: first stage that was not met; None for success and error.
        decisive_step: control step at which it went wrong: a grasp that was lost, a closing that
            caught nothing; at a success the last. None in rows from before it was there.
        decisive_event: names what happened there (`eval.outcome.Event`), likewise.
        max_object_height_m: None for an articulated goal, and without any moment recorded.
        final_goal_distance_m: likewise.
        n_clipped_steps: steps whose action left the actuators' range.
        error: "" or what crashed.
        ik_failure_rate: share of the control steps whose inverse kinematics missed by more than
            `IK_TOLERANCE_M`.
        ik_error_mm: mean over the control steps of how far it missed. Both are None where the
            environment takes joints, and in rows from before they were there.
        outcome: one of `eval.outcome.OUTCOMES`, or one that only a newer version knows; likewise
            `decisive_event`.
        goal: the goal of the task that the outcome rests on; None without any moment recorded, and
            in older rows.
        final_joint_progress: of an articulated goal (`sim.goals.articulated`), None for other
            kinds.
        instruction: of this episode; None, and no column of the file, where the task has one for
            all its episodes.
        goal_kind, stages, final_measures: kind of the goal, its stages in order, and its measures
            at the end, where it is of another kind than pick and place or articulated; else None,
            and no columns of the file.
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
        """The step to look at first: the decisive one, and in older rows the one at which the outcome was settled."""
        return self.decided_at_step if self.decisive_step is None else self.decisive_step

    @property
    def is_known(self) -> bool:
        """Return whether this version knows the outcome."""
        return self.outcome in OUTCOMES

    @property
    def is_judged(self) -> bool:
        """Return whether the episode ran to its end.

        An unknown outcome counts so unless the row says what crashed.
        """
        return find_facts(self.outcome).is_judged if self.is_known else not self.error

    @property
    def is_failure(self) -> bool:
        """Return whether the episode ran to its end and did not succeed."""
        return self.is_judged and not self.success

    @property
    def kind_of_goal(self) -> str:
        """Return the name of the kind of goal that the outcome rests on."""
        older = PICK_AND_PLACE if self.final_joint_progress is None else ARTICULATED
        return self.goal_kind or older.name

    @property
    def goal_stages(self) -> tuple[str, ...]:
        """Return the stages of that goal, in order."""
        return (
            tuple(PICK_AND_PLACE.stages)
            if self.kind_of_goal == PICK_AND_PLACE.name
            else self.stages or ()
        )

    @property
    def recorded_stages(self) -> tuple[str, ...]:
        """Return the names of the columns of `EpisodeArrays.progress`."""
        return self.goal_stages if self.goal_kind else tuple(PICK_AND_PLACE.stages)

    @classmethod
    def from_json(cls, line: str) -> "EpisodeRow":
        """Return the row that a line says.

        Raises:
            ValueError: no JSON, or a column that means nothing.
            KeyError, TypeError, AttributeError: a column is missing.
        """
        values = json.loads(line)
        known = {
            f.name: values.pop(f.name)
            for f in _columns()
            if f.name in values or f.default is MISSING
        }
        event, stages = known.get("decisive_event"), known.get("stages")
        parsed = {
            "outcome": _read_name(Outcome, known["outcome"]),
            "decisive_event": event and _read_name(Event, event),
            "stages": None if stages is None else tuple(stages),
        }
        return cls(**known | parsed, extra=values)

    def to_json(self) -> dict[str, Any]:
        """Return the columns as JSON has them, in the order of the fields."""
        columns = {f.name: getattr(self, f.name) for f in _columns()}
        for name in _LEFT_OUT_AS_NONE:
            if columns[name] is None:
                del columns[name]
        return columns | dict(self.extra)


# Columns of the file that only some environments have.
_LEFT_OUT_AS_NONE = ("instruction", "goal_kind", "stages", "final_measures")


def _read_name[Name: StrEnum](known: type[Name], name: Any) -> Name | str:
    """Return the member of that name, and the name itself if a newer version gave it.

    Raises:
        ValueError: it cannot be a name. It becomes part of file names and pages.
    """
    if name in list(known):
        return known(name)
    if isinstance(name, str) and re.fullmatch("[a-z][a-z0-9_]*", name):
        return name
    raise ValueError(f"{name!r} as a name")


@cache
def _columns() -> tuple[Field, ...]:
    return tuple(f for f in fields(EpisodeRow) if f.name != "extra")


def make_row(record: EpisodeRecord) -> EpisodeRow:
    """Judge a record and put it into a row."""
    arrays, trajectory, error = record.arrays, record.trajectory, record.error
    n_steps = len(arrays.action) if arrays else 0
    verdict = Verdict(Outcome.ERROR, None, n_steps, n_steps, Event.ERROR)
    if trajectory and not error:
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
        error=error,
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
    goal, measures = trajectory.goal, trajectory.measures
    final = {name: _unless_nan(values[-1]) for name, values in measures.items()}
    columns: dict[str, Any] = {
        "goal": goal.name,
        "max_object_height_m": None,
        "final_goal_distance_m": final.get("goal_distance_m"),
        "final_joint_progress": final.get("joint_progress"),
    }
    if goal.kind == PICK_AND_PLACE.name:
        return columns | {"max_object_height_m": float(measures["object_height_m"].max())}
    if goal.kind == ARTICULATED.name:
        return columns
    return columns | {"goal_kind": goal.kind, "stages": goal.stages, "final_measures": final}


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
                f"{str(path / ROWS_FILE)!r}, line {number}",
                expected="a row of JSON",
                got=repr(error),
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
        raise WhiskerError(
            f"rows file {str(path)!r}", expected="a row for each episode", got=got
        ) from error
