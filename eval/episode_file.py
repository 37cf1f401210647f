"""Writes the file of an episode's arrays, `episodes/<task>/<index>.npz`, and reads its series.

Every array and every series has its own name. The array `series` is a JSON text that describes each
series:

    {"policy_latency_ms": {"unit": "ms", "axis": "prediction", "meaning": "...", "is_reproducible":
    false}, ...}
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from eval.episode_arrays import EpisodeArrays
from eval.series import RecordedSeries, series_from_json, series_to_json
from sim.files import atomic_write

_DESCRIPTIONS = "series"


def save_arrays(path: Path, arrays: EpisodeArrays) -> None:
    """Write the file, whole or not at all. Arrays that are None are left out.

    Raises:
        OSError: the file cannot be written.
    """
    content = {name: array for name, array in vars(arrays).items() if isinstance(array, np.ndarray)}
    content |= {name: recorded.values for name, recorded in arrays.series.items()}
    if arrays.series:
        content[_DESCRIPTIONS] = np.array(series_to_json(arrays.series))
    with atomic_write(path, sync=True) as file:
        np.savez(file, **content)  # type: ignore[arg-type]


def read_series(stored: NpzFile) -> Mapping[str, RecordedSeries]:
    """Return the series of an open file; {} for an older file, which has none.

    Raises:
        KeyError: a series is described but missing; the error has its name.
        ValueError: the descriptions are damaged.
    """
    if _DESCRIPTIONS not in stored.files:
        return {}
    described = series_from_json(str(stored[_DESCRIPTIONS]))
    return {name: RecordedSeries(series, stored[name]) for name, series in described.items()}
