"""Reads series that a run recorded at every control step, at the moments of a feature bank.

The features of the bank are then scored against the series. A run folder has an array for each
series in `episodes/<task>/<index>.npz`; with T control steps:

    (T + 1,) or (T + 1, dim)    row t is the world before step t
    (T,) or (T, dim)            row t is of step t itself, e.g. the action that was executed

The features of a run belong to its own steps. An extracted bank names the recording that its policy
was shown. If that is a run folder, its series are the ones to score against.

CKNNA compares directions, but a series is mostly a place or a distance. So the rows x_i of a series
are lifted,

    y_i = (c_i, FAR),    c_i = (x_i - mean(x)) / rms |x - mean(x)|

after which the cosine of two rows falls as the distance |x_i - x_j| grows, to a few percent if
|c_i| is about 1. Distances are in the unit of the series. In a series whose columns have several
units, the column with the widest range dominates.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, Float64, Int64

from cknna.bank import FeatureBank
from sim.errors import UnknownNameError, WhiskerError

STATE = "state"
PRIVILEGED = "privileged"
# The position of the task's object, (T + 1, 3) in metres, in the world frame.
OBJECT_POSITION = "object_pos_world"
FAR = 4.0
_EPISODES_FOLDER = "episodes"
_RUN_FILE = "run.json"
# Arrays with a row for each prediction, of which there may be as many as steps.
_OF_PREDICTIONS = (
    "prediction_step",
    "n_executed",
    "chunk",
    "snapshot",
    "alternative_chunk",
    "intermediate_chunk",
)


def name_reference(against: str) -> str:
    """Return its name in a sentence: "state", or the name of the series."""
    return STATE if against == STATE else f"series {_resolve(against)}"


def load_reference(bank: FeatureBank, against: str) -> Float32[np.ndarray, "row _dim"]:
    """Return the rows that the features of a bank are scored against.

    Args:
        against: "state" for the proprioception in the bank, "privileged" for `OBJECT_POSITION`, or
            the name of a series.

    Raises:
        UnknownNameError: there is no such series; the message gives the closest names.
        WhiskerError: the bank is not of a run folder, the run is absent, or the series is constant
            or not finite.
    """
    if against == STATE:
        return bank.state
    name = _resolve(against)
    series = np.concatenate(
        [_read_series(path, name, steps) for path, steps in _find_episodes(bank)]
    )
    _check_series(f"series {name!r} of bank {str(bank.path)!r}", series)
    return lift(series)


def lift(series: Float64[np.ndarray, "row dim"]) -> Float32[np.ndarray, "row dim+1"]:
    """Return rows whose cosines fall as the distances of these rows grow: the module's y_i.

    The rows must not all be equal.
    """
    centred = series - series.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=1).mean())
    return np.column_stack([centred / scale, np.full(len(series), FAR)]).astype(np.float32)


def _check_series(subject: str, series: Float64[np.ndarray, "row dim"]) -> None:
    undefined = np.count_nonzero(~np.isfinite(series).all(axis=1))
    if undefined:
        raise WhiskerError(
            subject,
            expected="finite numbers at every prediction",
            got=f"NaN or infinity at {undefined} of {len(series)}",
            hint="The series is not defined at those moments: choose another one.",
        )
    if (series == series[0]).all():
        raise WhiskerError(
            subject,
            expected="rows that differ",
            got=f"the same in all {len(series)} rows",
            hint="A constant has no neighbourhoods: choose another series.",
        )


def _resolve(against: str) -> str:
    return OBJECT_POSITION if against == PRIVILEGED else against


def _find_episodes(bank: FeatureBank) -> Iterator[tuple[Path, Int64[np.ndarray, " row"]]]:
    """Yield the file of each episode of a bank, and the steps of its rows."""
    run = bank.path
    if bank.description.kind != "rollout":
        run = Path(bank.description.source)
    if not (run / _RUN_FILE).exists():
        problem = "which is not a run folder" if run.exists() else "which is not there"
        raise WhiskerError(
            f"bank {str(bank.path)!r}",
            expected="features of a run folder, whose recorded series they are scored against",
            got=f"{str(run)!r}, {problem}",
            hint="Score it against state, or from the folder in which cknna extract was run.",
        )
    folder = run / _EPISODES_FOLDER
    starts = np.flatnonzero(np.diff(bank.episode, prepend=-1))
    steps_of_episode = np.split(bank.step, starts[1:])
    for start, steps in zip(starts, steps_of_episode, strict=True):
        task = bank.tasks[bank.task_index[start]]
        yield folder / task / f"{bank.episode_index[start]}.npz", steps


def _read_series(
    path: Path,
    name: str,
    steps: Int64[np.ndarray, " row"],
) -> Float64[np.ndarray, "row _dim"]:
    """Return the series of an episode at those steps.

    It is NaN after the last step of an episode that crashed.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            n_steps = len(stored["action"])
            if name not in stored or not _is_series(stored, name, n_steps):
                known = [key for key in stored if _is_series(stored, key, n_steps)]
                raise UnknownNameError(
                    f"series of episode file {str(path)!r}",
                    name,
                    {*known, STATE, PRIVILEGED},
                )
            series = stored[name].astype(np.float64)
            series = series.reshape(len(series), -1)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise WhiskerError(
            f"episode file {str(path)!r}",
            expected="the recorded arrays",
            got=repr(error),
        ) from error
    if len(series) == n_steps:
        series = np.vstack([series, np.full_like(series[:1], np.nan)])
    return series[steps]


def _is_series(
    arrays: Mapping[str, np.ndarray],
    name: str,
    n_steps: int,
) -> bool:
    array = arrays[name]
    if array.ndim not in (1, 2) or name in _OF_PREDICTIONS:
        return False
    return len(array) - n_steps in (0, 1) and array.dtype.kind in "fiub"
