"""Opens a recording of observations, of whichever kind it is."""

from collections.abc import Iterator
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
    from policies.lerobot_dataset import is_dataset, read_dataset

    if path.suffix in (".hdf5", ".h5"):
        recording = read_demonstrations(path)
    elif is_dataset(path):
        recording = read_dataset(path)
    elif (path / "run.json").exists():
        recording = read_run(path)
    else:
        raise WhiskerError(
            f"recording {str(path)!r}",
            expected="a run folder, a LIBERO demonstration file (.hdf5) or the folder of a "
            "LeRobotDataset",
            got="something else" if path.exists() else "nothing there",
        )
    first = next(recording, None)
    return iter(()) if first is None else chain([first], recording)
