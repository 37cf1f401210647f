"""Reads and writes recorded observations, which can be shown to another policy later.

A run folder has one file per episode, with N observations:

    observations/<task>/<index>.npz
      step           (N,) int64       control steps executed before the observation
      decided        (N,) bool        whether the policy planned from it; a later plan may look back
      state          (N, state_dim) float32
      instruction    () str
      image.<camera> (N, height_px, width_px, 3) uint8 RGB, upright
      tool_rotation  (N, 3, 3) float32, only of environments that observe it

A LIBERO demonstration file (`sim.libero_bench.demonstrations`) and a LeRobotDataset
(`policies.lerobot_dataset`) hold the same in their own layouts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from sim.errors import WhiskerError
from sim.files import UNFINISHED_PREFIX, atomic_write
from sim.observation import Observation

OBSERVATIONS_FOLDER = "observations"
_IMAGE = "image."
_TOOL_ROTATION = "tool_rotation"
_STATE_KEYS = ("ee_states", "gripper_states")


@dataclass(frozen=True)
class RecordedObservation:
    """One observation and its origin.

    Attributes:
        step: number of control steps executed before it.
        decided: whether a plan was made from it, or may be. Otherwise it only serves policies that
            look back.
    """

    observation: Observation
    task: str
    episode_index: int
    step: int
    decided: bool = True


def observations_path(task: str, episode_index: int) -> Path:
    """Return the path of an episode's observations, relative to the run folder."""
    return Path(OBSERVATIONS_FOLDER) / task / f"{episode_index}.npz"


def save_observations(path: Path, recorded: list[RecordedObservation]) -> None:
    """Write the observations of one episode, at least one, in their order."""
    observations = [each.observation for each in recorded]
    first = observations[0]
    arrays = {
        f"{_IMAGE}{camera}": np.stack([observation.images[camera] for observation in observations])
        for camera in first.images
    }
    arrays["step"] = np.array([each.step for each in recorded], dtype=np.int64)
    arrays["decided"] = np.array([each.decided for each in recorded], dtype=bool)
    arrays["state"] = np.stack([observation.state for observation in observations])
    arrays["instruction"] = np.array(first.instruction)
    rotations = [each.tool_rotation for each in observations if each.tool_rotation is not None]
    if rotations:
        arrays[_TOOL_ROTATION] = np.stack(rotations)
    with atomic_write(path, sync=True) as file:
        np.savez(
            file,
            allow_pickle=False,
            **arrays,
        )


def read_run(run: Path) -> Iterator[RecordedObservation]:
    """Yield the observations of a run, by task, episode and step.

    The run must have been recorded with `eval --record-observations`.

    Raises:
        WhiskerError: nothing was recorded, or a file is damaged.
    """
    folder = run / OBSERVATIONS_FOLDER
    found = [path for path in folder.rglob("*.npz") if not path.name.startswith(UNFINISHED_PREFIX)]
    if not found:
        raise WhiskerError(
            f"run {str(run)!r}",
            expected="recorded observations",
            got="none",
            hint="Run it with eval --record-observations.",
        )
    for path in sorted(found, key=lambda path: (str(path.parent), int(path.stem))):
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = dict(stored)
            columns = (arrays["step"].tolist(), arrays["decided"].tolist(), arrays["state"])
            rotations = arrays.get(_TOOL_ROTATION, [None] * len(columns[0]))
            rows = list(zip(*columns, rotations, strict=True))
            instruction = str(arrays["instruction"])
        except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
            raise WhiskerError(
                f"observations {str(path)!r}",
                expected="a whole recording",
                got=repr(error),
            ) from error
        cameras = [name for name in arrays if name.startswith(_IMAGE)]
        task = str(path.parent.relative_to(folder))
        for row, (step, decided, state, rotation) in enumerate(rows):
            images = {name.removeprefix(_IMAGE): arrays[name][row] for name in cameras}
            observation = Observation(images, state, instruction, rotation)
            yield RecordedObservation(
                observation,
                task,
                int(path.stem),
                step,
                decided,
            )


def read_demonstrations(path: Path) -> Iterator[RecordedObservation]:
    """Yield the observations of a LIBERO demonstration file, one after each action.

    They have the conventions of LIBERO's environments here.

    Raises:
        WhiskerError: the file does not exist, or has no observations.
    """
    from sim.libero_bench.demonstrations import IMAGE_KEYS, load_demonstration, load_demonstrations

    for index, listed in enumerate(load_demonstrations(path)):
        demo = load_demonstration(path, index, obs_keys=(*IMAGE_KEYS, *_STATE_KEYS))
        # `conventions.STATE_NAMES`: position, axis-angle, the two fingers.
        for row, state in enumerate(
            np.concatenate([demo.obs[key] for key in _STATE_KEYS], axis=1).astype(np.float32)
        ):
            # OpenGL stores the bottom row first, and policies see LIBERO's images rotated.
            images = {
                camera: np.ascontiguousarray(demo.obs[key][row, ::-1, ::-1])
                for camera, key in zip(("image", "image2"), IMAGE_KEYS, strict=True)
            }
            yield RecordedObservation(
                Observation(images, state, demo.instruction), listed.task_name, index, step=row + 1
            )
