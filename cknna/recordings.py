"""Opens a recording of observations, of whichever kind it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sim.errors import WhiskerError
from sim.recorded_observations import RecordedObservation, read_demonstrations, read_run

# Every demonstration file is one of LIBERO.
_DEMONSTRATED_FAMILY = "libero"


@dataclass(frozen=True)
class Recording:
    """Observations, and where they were made.

    Attributes:
        observations: in an order that is the same every time.
        env_name: the environment, or the name of its family; "" if it is not known, as of a
            LeRobotDataset.
        has_tool_rotation: the observations hold the rotation of the tool.
    """

    observations: Iterator[RecordedObservation]
    env_name: str = ""
    has_tool_rotation: bool = False


def open_recording(path: Path) -> Recording:
    """Open a recording and read its first observation.

    A recording is a run folder with observations, a LIBERO demonstration file, or a LeRobotDataset.

    Raises:
        WhiskerError: it is none of these, or its first observation cannot be read.
    """
    from policies.lerobot_dataset import is_dataset, read_dataset

    is_demonstration = path.suffix in (".hdf5", ".h5")
    is_lerobots = not is_demonstration and is_dataset(path)
    if is_demonstration:
        recording = read_demonstrations(path)
    elif is_lerobots:
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
    if first is None:
        return Recording(iter(()))
    env_name = _DEMONSTRATED_FAMILY if is_demonstration else first.task
    return Recording(
        chain([first], recording),
        "" if is_lerobots else env_name,
        first.observation.tool_rotation is not None,
    )
