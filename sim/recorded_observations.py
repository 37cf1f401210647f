"""What was seen, kept to be shown to another policy: the one reader and writer of recorded observations.

    observations/<task>/<index>.npz   of one episode, in a run folder; N looks
      step           (N,) int64       control steps executed before the look
      decided        (N,) bool        the policy planned from it; otherwise it is the past that a plan looked back on
      state          (N, state_dim) float32
      instruction    () str
      image.<camera> (N, height_px, width_px, 3) uint8 RGB, upright

A LIBERO demonstration file holds the same in a layout of its own
(`sim.libero_bench.demonstrations`), and a LeRobotDataset in lerobot's (`policies.lerobot_dataset`).
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


@dataclass(frozen=True)
class RecordedObservation:
    """One look, and where it is from.

    Attributes:
        step: control steps of the episode before it.
        decided: a plan was made from it, or may be; otherwise it is there for those that look back.
    """

    observation: Observation
    task: str
    episode_index: int
    step: int
    decided: bool = True


def observations_path(task: str, episode_index: int) -> Path:
    """Of an episode's observations, relative to the run folder."""
    return Path(OBSERVATIONS_FOLDER) / task / f"{episode_index}.npz"


def save_observations(path: Path, looks: list[RecordedObservation]) -> None:
    """Write the looks of one episode, at least one, in their order."""
    seen = [look.observation for look in looks]
    arrays = {
        f"{_IMAGE}{camera}": np.stack([o.images[camera] for o in seen]) for camera in seen[0].images
    }
    arrays |= {
        "step": np.array([look.step for look in looks], dtype=np.int64),
        "decided": np.array([look.decided for look in looks], dtype=bool),
        "state": np.stack([o.state for o in seen]),
        "instruction": np.array(seen[0].instruction),
    }
    with atomic_write(path, sync=True) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_run(run: Path) -> Iterator[RecordedObservation]:
    """Of a run that was recorded with `eval --record-observations`: task by task, episode by episode, step by step.

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
        yield from _read_episode(
            path,
            str(path.parent.relative_to(folder)),
            int(path.stem),
        )


def read_demonstrations(path: Path) -> Iterator[RecordedObservation]:
    """Of a LIBERO demonstration file, one look after each action, as LIBERO's environments here show it.

    Raises:
        WhiskerError: no such file, or one without observations.
    """
    from sim.libero_bench.demonstrations import IMAGE_KEYS, load_demonstration, load_demonstrations

    keys = ("ee_states", "gripper_states")
    for index, listed in enumerate(load_demonstrations(path)):
        demo = load_demonstration(path, index, obs_keys=(*IMAGE_KEYS, *keys))
        # Of `conventions.STATE_NAMES`: position, axis-angle, the two fingers.
        state = np.concatenate([demo.obs[key] for key in keys], axis=1).astype(np.float32)
        # OpenGL's images have the bottom row first, and policies see LIBERO's turned round.
        views = {
            camera: demo.obs[key]
            for camera, key in zip(("image", "image2"), IMAGE_KEYS, strict=True)
        }
        for row in range(len(state)):
            images = {
                camera: np.ascontiguousarray(view[row, ::-1, ::-1])
                for camera, view in views.items()
            }
            observation = Observation(images, state[row], demo.instruction)
            yield RecordedObservation(observation, listed.task_name, index, step=row + 1)


def _read_episode(
    path: Path,
    task: str,
    episode_index: int,
) -> Iterator[RecordedObservation]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        steps = arrays["step"]
        decided = arrays["decided"]
        states = arrays["state"]
        instruction = str(arrays["instruction"])
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise WhiskerError(
            f"observations {str(path)!r}",
            expected="a whole recording",
            got=repr(error),
        ) from error
    images = {
        name.removeprefix(_IMAGE): array
        for name, array in arrays.items()
        if name.startswith(_IMAGE)
    }
    for row, step in enumerate(steps.tolist()):
        seen = Observation(
            {camera: view[row] for camera, view in images.items()},
            states[row],
            instruction,
        )
        yield RecordedObservation(
            seen,
            task,
            episode_index,
            step,
            bool(decided[row]),
        )
