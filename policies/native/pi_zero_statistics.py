"""Finds the bounds by which an open-pi-zero checkpoint normalises states and actions.

They are not in the checkpoint. They are those of its training set, Bridge or Fractal, which the
file's name says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from policies.checkpoint_reading import read_json
from policies.native.end_effector import Bounds
from policies.native.native_checkpoint import NativeCheckpoint
from sim.errors import WhiskerError

_STATISTICS_FOLDER = Path(__file__).parent / "statistics"
_STATISTICS_FILE = "statistics.json"
# Training set → the numbers of its state. The file's name contains the name of the training set.
# The last one is the share by which the gripper is open on Bridge, and closed on Fractal.
STATE_NAMES: Mapping[str, tuple[str, ...]] = {
    "bridge": ("x", "y", "z", "roll", "pitch", "yaw", "gripper"),
    "fractal": ("x", "y", "z", "qx", "qy", "qz", "qw", "closing"),
}


@dataclass(frozen=True)
class PiZeroStatistics:
    """Bounds of the training: the 1st and the 99th percentile of each number.

    Attributes:
        dataset: "bridge" or "fractal".
    """

    dataset: str
    action: tuple[Float[np.ndarray, " action"], Float[np.ndarray, " action"]]
    state: tuple[Float[np.ndarray, " state"], Float[np.ndarray, " state"]]


def read_statistics(checkpoint: NativeCheckpoint, state_dim: int) -> PiZeroStatistics:
    """Return the bounds of the training.

    They are read from `statistics.json` beside the weights, if there is one, else those of Bridge
    or Fractal, as the checkpoint's name says.

    Raises:
        WhiskerError: neither says which, or they are of another robot.
    """
    subject = f"statistics of checkpoint {checkpoint.name!r}"
    file_name = checkpoint.weights[0].name.lower()
    named = [dataset for dataset in STATE_NAMES if dataset in file_name]
    beside = checkpoint.folder / _STATISTICS_FILE
    if len(named) == 1:
        (dataset,) = named
    elif beside.is_file():
        fitting = [each for each, names in STATE_NAMES.items() if len(names) == state_dim]
        dataset = next(iter(fitting), "")
    else:
        dataset = ""
    if not dataset:
        raise WhiskerError(
            subject,
            expected=f"a file whose name contains {' or '.join(STATE_NAMES)}",
            got=f"{file_name!r}, and no {_STATISTICS_FILE} beside it",
            hint="Name the file after its training set, as the published ones are.",
        )
    path = beside if beside.is_file() else _STATISTICS_FOLDER / f"{dataset}.json"
    content = read_json(path, "It must have 'action' and 'proprio', each with 'p01' and 'p99'.")
    state = _read_bounds(path, content, "proprio")
    if len(state[0]) != state_dim:
        raise WhiskerError(
            subject,
            expected=f"those of a state of {state_dim} numbers, as its weights read",
            got=f"{path.name!r} with {len(state[0])}",
        )
    return PiZeroStatistics(dataset, _read_bounds(path, content, "action"), state)


def _read_bounds(path: Path, content: Mapping, part: str) -> Bounds:
    try:
        low, high = (np.array(content[part][key], np.float32) for key in ("p01", "p99"))
    except (KeyError, TypeError, ValueError) as error:
        raise WhiskerError(
            f"statistics {str(path)!r}",
            expected=f"{part!r} with the numbers 'p01' and 'p99'",
            got=f"none that can be read ({error})",
        ) from error
    if low.ndim != 1 or low.shape != high.shape or not np.isfinite([low, high]).all():
        raise WhiskerError(
            f"statistics {str(path)!r}", expected=f"a number for each of {part!r}", got="others"
        )
    return low, high
