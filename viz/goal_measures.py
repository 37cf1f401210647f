"""Makes series of the measures of a goal, so that pages and films show those of any kind of goal.

The two measures of pick and place, the object's height and its distance from the goal, have graphs
of their own and are left out.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from eval.episode_arrays import EpisodeArrays
from eval.episode_row import EpisodeRow
from eval.series import RecordedSeries, Series
from sim.goals.articulated import ARTICULATED
from sim.goals.pick_and_place import PICK_AND_PLACE

_Values = Float64[np.ndarray, " T1"]
_UNITS = ("m", "rad", "s", "px", "n", "nm")


def add_measures[Arrays: EpisodeArrays](arrays: Arrays, row: EpisodeRow) -> Arrays:
    """Return the arrays with the measures of the judged goal among the series."""
    measures = _find_measures(arrays, row)
    recorded = {name: make_measure(name, values) for name, values in measures.items()}
    return replace(arrays, series={**arrays.series, **recorded})


def select_measures(measures: Mapping[str, float]) -> dict[str, RecordedSeries]:
    """Return the measures of one moment as series with a single row."""
    selected = {}
    for name, value in measures.items():
        if name not in PICK_AND_PLACE.measures:
            selected[name] = make_measure(name, np.array([value], np.float64))
    return selected


def make_measure(name: str, values: _Values) -> RecordedSeries:
    """Return a measure as a series with a row per moment. Its unit is the suffix of its name."""
    suffix = name.rpartition("_")[2]
    unit = suffix if suffix in _UNITS else ""
    meaning = ARTICULATED.measures.get(name, "measure of the goal")
    return RecordedSeries(Series(name, unit, "moment", meaning), values)


def _find_measures(arrays: EpisodeArrays, row: EpisodeRow) -> dict[str, _Values]:
    if arrays.measures is not None:
        names = row.final_measures or {}
        columns = arrays.measures.T
        return dict(zip(names, columns, strict=True)) if names else {}
    if arrays.is_of_pick_and_place or arrays.joint_progress is None:
        return {}
    return {"joint_progress": arrays.joint_progress}
