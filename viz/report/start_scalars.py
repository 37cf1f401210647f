"""Reads numbers of the initial states of a run's episodes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.errors import UnknownNameError, WhiskerError

OBJECT_AXES = ("object x", "object y", "object z")


@dataclass(frozen=True)
class StartScalar:
    """One number of the initial state of each of several episodes.

    Attributes:
        name: e.g. "object x".
        unit: e.g. "m"; "" for a number without one.
        values: one per episode, nan where it was not recorded.
    """

    name: str
    unit: str
    values: Float64[np.ndarray, " episode"]


def load_start_scalars(
    run: Run,
    rows: Sequence[EpisodeRow],
    names: Sequence[str],
) -> list[StartScalar]:
    """Return numbers of the initial states, nan where the episode's file is lost or damaged.

    Args:
        names: "object x", "object y" or "object z" (for LIBERO, of the object that the verdict
            rests on, world frame); a name in `EnvSpec.state_names`; or a numeric column of the rows
            that this version does not know.

    Raises:
        UnknownNameError: the run has no such scalar.
    """
    env = run.description.env
    units = dict(zip(env.state_names, env.state_units, strict=True))
    columns = _find_numeric_columns(rows)
    known = [*OBJECT_AXES, *units, *sorted(columns)]
    arrays = set()
    for name in names:
        if name not in known:
            raise UnknownNameError("scalar of the initial state", name, known)
        if name not in columns:
            arrays.add("object_pos_world" if name in OBJECT_AXES else "state")
    starts = [_read_starts(run, row, arrays) | dict(row.extra) for row in rows]
    all_units = dict.fromkeys(OBJECT_AXES, "m") | units
    scalars = []
    for name in names:
        values = [_as_float(start.get(name)) for start in starts]
        unit = all_units.get(name, "")
        scalars.append(
            StartScalar(
                name,
                unit,
                np.array(values, np.float64),
            )
        )
    return scalars


def _find_numeric_columns(rows: Iterable[EpisodeRow]) -> set[str]:
    """Return the columns with a number among those that this version does not know."""
    columns = set()
    for row in rows:
        for name, value in row.extra.items():
            if isinstance(value, int | float):
                columns.add(name)
    return columns


def _read_starts(
    run: Run,
    row: EpisodeRow,
    arrays: set[str],
) -> dict[str, float]:
    """Return the numbers in the first row of each array; {} if the file is lost."""
    state_names = run.description.env.state_names
    starts: dict[str, float] = {}
    try:
        for array in arrays:
            values = run.load_array(row, array)
            names = OBJECT_AXES if array == "object_pos_world" else state_names
            if values is not None and len(values):
                first = values[0].tolist()
                starts |= dict(zip(names, first, strict=True))
    except WhiskerError:
        return {}
    return starts


def _as_float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
