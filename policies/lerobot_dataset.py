"""Demonstrations as a LeRobotDataset v3, lerobot's own format on disk."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasets.utils.logging import disable_progress_bar
from jaxtyping import Float, Float32
from lerobot.datasets.compute_stats import aggregate_stats
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from policies.checkpoint_files import save_training_env
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.recorded_observations import RecordedObservation
from sim.registry import family_of
from sim.spec import EnvSpec

OBJECT_POSITION_KEY = "privileged.object_pos_world"
GOAL_POSITION_KEY = "privileged.goal_pos_world"
_INFO_FILE = Path("meta", "info.json")


class DemonstrationWriter:
    """Writes episodes one frame at a time; only those that are kept reach the disk.

    Besides what lerobot trains on, each frame holds the true positions of the object and of the
    middle of the goal (m, world), under keys outside `observation.`, so that no policy takes them
    for an input. Each frame has the instruction of its episode as lerobot's `task`.
    """

    def __init__(self, root: Path, spec: EnvSpec, use_videos: bool) -> None:
        """Args:
        root: a folder that does not exist yet.
        use_videos: lossy and small, or (False) lossless images: what the policy is trained on is
            then exactly what it is evaluated on.
        """
        if root.exists():
            raise WhiskerError(
                f"dataset folder {str(root)!r}",
                expected="a new folder",
                got="one that exists",
                hint="Choose another.",
            )
        self._spec = spec
        disable_progress_bar()  # one an episode, over ours
        try:
            self._dataset = LeRobotDataset.create(
                repo_id=f"local/{spec.task}",
                root=root,
                fps=round(1 / spec.control_dt_s),
                robot_type=family_of(spec.name).robot_type,
                features=_features(spec, use_videos),
                use_videos=use_videos,
                image_writer_threads=2,
            )
        except OSError as error:
            raise WhiskerError(
                f"dataset folder {str(root)!r}", expected="a place to write to", got=str(error)
            ) from error

    def add_frame(
        self,
        observation: Observation,
        action: Float[np.ndarray, " action_dim"],
        object_pos_world: Float[np.ndarray, "3"],
        goal_pos_world: Float[np.ndarray, "3"],
    ) -> None:
        self._dataset.add_frame(
            {
                "observation.state": observation.state,
                **{
                    f"observation.images.{camera}": image
                    for camera, image in observation.images.items()
                },
                "action": np.asarray(action, dtype=np.float32),
                OBJECT_POSITION_KEY: np.asarray(object_pos_world, dtype=np.float32),
                GOAL_POSITION_KEY: np.asarray(goal_pos_world, dtype=np.float32),
                "task": observation.instruction,
            }
        )

    def keep_episode(self) -> None:
        self._dataset.save_episode()

    def discard_episode(self) -> None:
        self._dataset.clear_episode_buffer()

    def finalize(self) -> None:
        """Write the footers, without which the dataset does not open, and where it was recorded."""
        self._dataset.finalize()
        save_training_env(self._dataset.root / "meta", self._spec)


class DemonstrationFrames:
    """All frames of one or several datasets in memory, for training without a decoder in the loop.

    Attributes:
        images: camera → `(frame, 3, height_px, width_px)` uint8.
        state, action: `(frame, dim)` float32.
        object_pos_world, goal_pos_world: `(frame, 3)` float32, m; older datasets hold no goal,
            which is nan.
        episode_index: `(frame,)`; the frames of an episode are consecutive.
        instruction_index: `(frame,)`, in `instructions`.
        instructions: each once.
        features: as lerobot describes them.
        stats: lerobot's statistics of every feature, as the processors take them.
    """

    def __init__(self, root: Path, *more: Path) -> None:
        """Args:
        root: of a dataset.
        more: roots of further ones, which must have the same features.
        """
        datasets = [_open_demonstrations(path) for path in (root, *more)]
        self.features = datasets[0].meta.features
        for path, dataset in zip(more, datasets[1:], strict=True):
            _check_same_features(path, dataset.meta.features, root, self.features)
        every_stats = [dataset.meta.stats for dataset in datasets]
        self.stats = every_stats[0] if len(datasets) == 1 else aggregate_stats(every_stats)
        tables = [dataset.hf_dataset.with_format("numpy") for dataset in datasets]

        def column(key: str) -> np.ndarray:
            return np.concatenate([np.asarray(table[key][:]) for table in tables])

        self.state: Float32[np.ndarray, "frame dim"] = column("observation.state").astype(
            np.float32
        )
        self.action: Float32[np.ndarray, "frame dim"] = column("action").astype(np.float32)
        self.object_pos_world = column(OBJECT_POSITION_KEY).astype(np.float32)
        has_goal = GOAL_POSITION_KEY in self.features
        nowhere = np.full_like(self.object_pos_world, np.nan)
        self.goal_pos_world = column(GOAL_POSITION_KEY).astype(np.float32) if has_goal else nowhere
        # The episodes of each dataset are numbered from 0.
        offsets = np.cumsum([0, *(dataset.num_episodes for dataset in datasets)])
        numbered = zip(tables, offsets, strict=False)
        self.episode_index = np.concatenate(
            [np.asarray(table["episode_index"][:]) + n for table, n in numbered]
        )
        told = [task for dataset in datasets for task in _tasks_of_frames(dataset)]
        self.instructions = tuple(sorted(set(told)))
        numbers = {instruction: i for i, instruction in enumerate(self.instructions)}
        self.instruction_index = np.array([numbers[task] for task in told], dtype=np.int64)
        cameras = [key.removeprefix("observation.images.") for key in datasets[0].meta.camera_keys]
        self.images = {
            camera: np.empty((len(self.state), 3, *self._size_px(camera)), np.uint8)
            for camera in cameras
        }
        frames = (dataset[i] for dataset in datasets for i in range(len(dataset)))
        for i, frame in enumerate(frames):
            for camera in cameras:
                self.images[camera][i] = np.rint(
                    frame[f"observation.images.{camera}"].numpy() * 255
                )

    def _size_px(self, camera: str) -> tuple[int, int]:
        height, width, _ = self.features[f"observation.images.{camera}"]["shape"]
        return height, width


def _open_demonstrations(root: Path) -> LeRobotDataset:
    dataset = _open(root)
    if OBJECT_POSITION_KEY not in dataset.meta.features:
        expected, hint = f"{OBJECT_POSITION_KEY} in every frame", "Record one with eval-demos."
        raise WhiskerError(f"dataset {str(root)!r}", expected=expected, got="none", hint=hint)
    return dataset


def _check_same_features(root: Path, features: dict, first_root: Path, first: dict) -> None:
    """Raise unless two datasets can be trained on together."""
    for key in first.keys() | features.keys():
        shapes = [tuple(part[key]["shape"]) if key in part else None for part in (first, features)]
        if shapes[0] != shapes[1]:
            raise WhiskerError(
                f"dataset {str(root)!r}, feature {key!r}",
                expected=f"shape {shapes[0]}, as in {str(first_root)!r}" if shapes[0] else "none",
                got=str(shapes[1] or "none"),
                hint="Train on datasets of the same robot and cameras.",
            )


def _tasks_of_frames(dataset: LeRobotDataset) -> Iterator[str]:
    """Yield the instruction of each frame."""
    names = {int(row.task_index): str(task) for task, row in dataset.meta.tasks.iterrows()}
    for index in np.asarray(dataset.hf_dataset.with_format("numpy")["task_index"][:]):
        yield names[int(index)]


def is_dataset(root: Path) -> bool:
    """Return whether that folder holds a LeRobotDataset of any version."""
    return (root / _INFO_FILE).is_file()


def read_dataset(root: Path) -> Iterator[RecordedObservation]:
    """Every frame, as a policy would be shown it; a task is known by its instruction.

    Raises:
        WhiskerError: no dataset, one of an older version, or one whose frames hold no state.
    """
    dataset = _open(root)
    if "observation.state" not in dataset.meta.features:
        raise WhiskerError(
            f"dataset {str(root)!r}", expected="observation.state in every frame", got="none"
        )
    return _read_frames(dataset)


def _read_frames(dataset: LeRobotDataset) -> Iterator[RecordedObservation]:
    cameras = _colour_cameras(dataset)
    for i in range(len(dataset)):
        frame = dataset[i]
        images = {
            # Back to the bytes that were stored.
            camera: np.rint(frame[key].numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
            for camera, key in cameras.items()
        }
        state = frame["observation.state"].numpy().astype(np.float32)
        observation = Observation(images, state, frame["task"])
        yield RecordedObservation(
            observation, frame["task"], int(frame["episode_index"]), int(frame["frame_index"])
        )


def _colour_cameras(dataset: LeRobotDataset) -> dict[str, str]:
    """Camera → lerobot's name of it."""
    shapes = {key: dataset.meta.features[key]["shape"] for key in dataset.meta.camera_keys}
    keys = [key for key, shape in shapes.items() if 3 in (shape[0], shape[-1])]
    return {
        key.removeprefix("observation.images.").removeprefix("observation."): key for key in keys
    }


def _open(root: Path) -> LeRobotDataset:
    if not is_dataset(root):
        raise WhiskerError(
            f"dataset {str(root)!r}", expected="a LeRobotDataset", hint="Make one with eval-demos."
        )
    _check_version(root)
    return LeRobotDataset(repo_id="local/demonstrations", root=root)


def _check_version(root: Path) -> None:
    """Raise for a dataset of before v3.0, with the command that converts it: lerobot's own names another dataset."""
    try:
        found = json.loads((root / _INFO_FILE).read_text(encoding="utf-8"))["codebase_version"]
        major, minor = (int(part) for part in found.removeprefix("v").split(".")[:2])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = "JSON with a codebase_version such as 'v3.0'"
        raise WhiskerError(
            f"dataset file {str(root / _INFO_FILE)!r}", expected=expected, got=repr(error)
        ) from error
    if major >= 3:
        return
    convert = (
        "python -m lerobot.scripts.convert_dataset_v21_to_v30 --push-to-hub=false "
        f"--repo-id=local/dataset --root={shlex.quote(str(root))}"
    )
    hint = f"Convert it (the original is kept beside it, as ..._old): {convert}"
    if (major, minor) != (2, 1):
        hint = "lerobot 0.6 converts from v2.1 on: bring it to that with an older lerobot first."
    raise WhiskerError(
        f"dataset {str(root)!r}", expected="a LeRobotDataset of v3.0", got=found, hint=hint
    )


def _features(spec: EnvSpec, use_videos: bool) -> dict[str, dict]:
    images = {
        f"observation.images.{camera.name}": {
            "dtype": "video" if use_videos else "image",
            "shape": (camera.height_px, camera.width_px, 3),
            "names": ["height", "width", "channels"],
        }
        for camera in spec.cameras
    }
    state = {"dtype": "float32", "shape": (len(spec.state_names),), "names": list(spec.state_names)}
    action = {"dtype": "float32", "shape": (spec.action.dim,), "names": list(spec.action.names)}
    position = {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]}
    privileged = {OBJECT_POSITION_KEY: position, GOAL_POSITION_KEY: position}
    return {"observation.state": state, **images, "action": action, **privileged}
