"""Reads where the objects of a run's episodes were at the start."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.errors import WhiskerError


@dataclass(frozen=True)
class StartScalar:
    """One number of the initial state of each of several episodes.

    Attributes:
        name: e.g. "object x".
        unit: e.g. "m".
        values: one per episode, nan where it was not recorded.
    """

    name: str
    unit: str
    values: Float64[np.ndarray, " episode"]


def load_start_scalars(run: Run, rows: Sequence[EpisodeRow]) -> list[StartScalar]:
    """Return x and y of the initial positions of the objects, m, world.

    In LIBERO it is the object that the verdict rests on. The position is nan where the episode's
    file is lost or damaged.
    """
    starts = np.full((len(rows), 2), np.nan)
    for start, row in zip(starts, rows, strict=True):
        with suppress(WhiskerError):
            positions = run.load_array(row, "object_pos_world")
            if positions is not None and len(positions):
                start[:] = positions[0, :2]
    x, y = starts.T
    return [StartScalar("object x", "m", x), StartScalar("object y", "m", y)]
