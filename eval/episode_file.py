"""The file of an episode's arrays, `episodes/<task>/<index>.npz`: what stands in it, and how series do beside the rest.

Every array and every series has its own name. The array `series` is a text, JSON that says what
each series is:

    {"policy_latency_ms": {"unit": "ms", "axis": "prediction", "meaning": "...", "is_reproducible":
    false}, ...}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from eval.recorder import EpisodeArrays
from eval.series import RecordedSeries, series_from_json, series_to_json
from sim.files import atomic_write

_DESCRIPTIONS = "series"


def save_arrays(path: Path, arrays: EpisodeArrays) -> None:
    """Write the file, whole or not at all. Arrays that are None are left out.

    Raises:
        OSError: it cannot be written.
    """
    there: dict[str, Any] = {
        name: array for name, array in vars(arrays).items() if isinstance(array, np.ndarray)
    }
    if arrays.series:
        there |= {name: recorded.values for name, recorded in arrays.series.items()}
        there[_DESCRIPTIONS] = np.array(series_to_json(arrays.series))
    with atomic_write(path, sync=True) as file:
        np.savez(file, **there)


def read_series(stored: NpzFile) -> Mapping[str, RecordedSeries]:
    """Return the series of an open file; {} for one from before there were any.

    Raises:
        KeyError: the name of a series that is described and missing.
        ValueError: the descriptions are damaged.
    """
    if _DESCRIPTIONS not in stored.files:
        return {}
    described = series_from_json(str(stored[_DESCRIPTIONS]))
    return {name: RecordedSeries(series, stored[name]) for name, series in described.items()}
