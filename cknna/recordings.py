"""Opens a recording of observations, of whichever kind it is."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from sim.errors import WhiskerError
from sim.recorded_observations import RecordedObservation, read_demonstrations, read_run


def open_recording(path: Path) -> Iterator[RecordedObservation]:
    """Open a recording and read its first observation.

    A recording is a run folder with observations, a LIBERO demonstration file, or a LeRobotDataset.

    Raises:
        WhiskerError: it is none of these, or its first observation cannot be read.
    """
    recording = _find_reader(path)(path)
    first = next(recording, None)
    return iter(()) if first is None else chain([first], recording)


def _find_reader(path: Path) -> Callable[[Path], Iterator[RecordedObservation]]:
    from policies.lerobot_dataset import is_dataset, read_dataset

    if path.suffix in (".hdf5", ".h5"):
        return read_demonstrations
    if is_dataset(path):
        return read_dataset
    if (path / "run.json").exists():
        return read_run
    raise WhiskerError(
        f"recording {str(path)!r}",
        expected="a run folder, a LIBERO demonstration file (.hdf5) or the folder of a "
        "LeRobotDataset",
        got="something else" if path.exists() else "nothing there",
    )
