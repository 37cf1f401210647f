"""Write and read demonstrations as a LeRobotDataset v3, lerobot's own format on disk."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets.utils.logging import disable_progress_bar
from jaxtyping import Float, Float32
from lerobot.datasets.compute_stats import aggregate_stats
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from policies.checkpoint_files import save_training_env
from policies.lerobot_types import camera_of_feature
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.recorded_observations import RecordedObservation
from sim.registry import family_of
from sim.spec import EnvSpec

OBJECT_POSITION_KEY = "privileged.object_pos_world"
GOAL_POSITION_KEY = "privileged.goal_pos_world"
_IMAGE_PREFIX = "observation.images."
_INFO_FILE = Path("meta", "info.json")


class DemonstrationWriter:
    """Writes episodes one frame at a time; only kept episodes reach the disk.

    In addition to lerobot's inputs and actions, each frame has the true position of the object, and
    if the environment knows it that of the middle of the goal (m, world). Their keys do not begin
    with `observation.`, so that no policy takes them for inputs. Each frame has the instruction of
    its episode as lerobot's `task`.
    """

    def __init__(
        self,
        root: Path,
        spec: EnvSpec,
        use_videos: bool,
        *,
        has_goal_position: bool = True,
    ) -> None:
        """Create the dataset.

        Args:
            root: a folder that does not exist yet.
            use_videos: True: small, lossy videos. False: lossless images, so that training and
                evaluation use exactly the same images.
            has_goal_position: whether the frames have the position of the goal.

        Raises:
            WhiskerError: the folder exists, or cannot be written.
        """
        if root.exists():
            raise WhiskerError(
                f"dataset folder {str(root)!r}",
                expected="a new folder",
                got="one that exists",
                hint="Choose another folder.",
            )
        self._spec = spec
        disable_progress_bar()  # one per episode, on top of our own
        try:
            self._dataset = LeRobotDataset.create(
                repo_id=f"local/{spec.task}",
                root=root,
                fps=round(1 / spec.control_dt_s),
                robot_type=family_of(spec.name).robot_type,
                features=_features(spec, use_videos, has_goal_position),
                use_videos=use_videos,
                image_writer_threads=2,
            )
        except OSError as error:
            raise WhiskerError(
                f"dataset folder {str(root)!r}",
                expected="a place to write to",
                got=str(error),
            ) from error

    def add_frame(
        self,
        observation: Observation,
        action: Float[np.ndarray, " action_dim"],
        object_pos_world: Float[np.ndarray, "3"],
        goal_pos_world: Float[np.ndarray, "3"] | None,
    ) -> None:
        """Add a frame to the episode; the goal's position is None if the frames have none."""
        frame = {
            "observation.state": observation.state,
            "action": np.asarray(action, np.float32),
            OBJECT_POSITION_KEY: np.asarray(object_pos_world, np.float32),
            "task": observation.instruction,
        }
        if goal_pos_world is not None:
            frame[GOAL_POSITION_KEY] = np.asarray(goal_pos_world, np.float32)
        for camera, image in observation.images.items():
            frame[f"{_IMAGE_PREFIX}{camera}"] = image
        self._dataset.add_frame(frame)

    def keep_episode(self) -> None:
        self._dataset.save_episode()

    def discard_episode(self) -> None:
        self._dataset.clear_episode_buffer()

    def finalize(self) -> None:
        """Write the footers, which the dataset needs to open, and the environment's spec."""
        self._dataset.finalize()
        save_training_env(self._dataset.root / "meta", self._spec)


class DemonstrationFrames:
    """All frames of one or several datasets in memory, so that training needs no decoder.

    Attributes:
        images: camera → `(frame, 3, height_px, width_px)` uint8.
        state, action: `(frame, dim)` float32.
        object_pos_world, goal_pos_world: `(frame, 3)` float32, m. The goal is nan for
            datasets that do not have it.
        episode_index: `(frame,)`; the frames of an episode are consecutive.
        instruction_index: `(frame,)`, index into `instructions`.
        instructions: the distinct instructions.
        features: lerobot's description of the features.
        stats: lerobot's statistics of every feature, in the form that the processors take.
    """

    def __init__(self, root: Path, *more: Path) -> None:
        """Read the datasets.

        Args:
            root: folder of a dataset.
            more: folders of further datasets with the same features.

        Raises:
            WhiskerError: a dataset cannot be read, or its features differ.
        """
        hint = "Record one with eval-demos."
        datasets = [_open(path, OBJECT_POSITION_KEY, hint) for path in (root, *more)]
        self.features = datasets[0].meta.features
        for path, dataset in zip(more, datasets[1:], strict=True):
            _check_same_features(path, dataset.meta.features, root, self.features)
        self.stats = datasets[0].meta.stats
        if more:
            self.stats = aggregate_stats([dataset.meta.stats for dataset in datasets])
        self.state = _read_vectors(datasets, "observation.state")
        self.action = _read_vectors(datasets, "action")
        self.object_pos_world = _read_vectors(datasets, OBJECT_POSITION_KEY)
        if GOAL_POSITION_KEY in self.features:
            self.goal_pos_world = _read_vectors(datasets, GOAL_POSITION_KEY)
        else:
            self.goal_pos_world = np.full_like(self.object_pos_world, np.nan)
        self.episode_index = _number_episodes(datasets)
        instructions = _instructions_of_frames(datasets)
        distinct, self.instruction_index = np.unique(instructions, return_inverse=True)
        self.instructions: tuple[str, ...] = tuple(distinct.tolist())
        self.images = self._read_images(datasets)

    def _read_images(self, datasets: Sequence[LeRobotDataset]) -> dict[str, np.ndarray]:
        keys = {key.removeprefix(_IMAGE_PREFIX): key for key in datasets[0].meta.camera_keys}
        images = {}
        for camera, key in keys.items():
            height, width, _ = self.features[key]["shape"]
            images[camera] = np.empty((len(self.state), 3, height, width), np.uint8)
        frames = (dataset[i] for dataset in datasets for i in range(len(dataset)))
        for i, frame in enumerate(frames):
            for camera, key in keys.items():
                images[camera][i] = _to_bytes(frame[key])
        return images


def _read_vectors(datasets: Sequence[LeRobotDataset], key: str) -> Float32[np.ndarray, "frame dim"]:
    """Return a feature of all frames of all datasets, as float32."""
    return _read_column(datasets, key).astype(np.float32)


def _read_column(datasets: Sequence[LeRobotDataset], key: str) -> np.ndarray:
    """Return a feature of all frames of all datasets."""
    tables = [dataset.hf_dataset.with_format("numpy") for dataset in datasets]
    return np.concatenate([np.asarray(table[key][:]) for table in tables])


def _number_episodes(datasets: Sequence[LeRobotDataset]) -> np.ndarray:
    """Return the episode index of each frame, counted on from dataset to dataset."""
    parts = []
    n_episodes = 0
    for dataset in datasets:
        # Each dataset numbers its own episodes from 0.
        parts.append(_read_column([dataset], "episode_index") + n_episodes)
        n_episodes += dataset.num_episodes
    return np.concatenate(parts)


def _instructions_of_frames(datasets: Sequence[LeRobotDataset]) -> list[str]:
    """Return the instruction of each frame."""
    instructions = []
    for dataset in datasets:
        tasks = {int(row.task_index): str(task) for task, row in dataset.meta.tasks.iterrows()}
        instructions += [tasks[int(index)] for index in _read_column([dataset], "task_index")]
    return instructions


def _to_bytes(image: Any) -> np.ndarray:
    """Return lerobot's image, a float tensor in 0..1, as the bytes that were stored."""
    return np.rint(image.numpy() * 255).astype(np.uint8)


def _check_same_features(
    root: Path,
    features: dict,
    first_root: Path,
    first: dict,
) -> None:
    """Raise unless a dataset has the features of the first one."""
    for key in first.keys() | features.keys():
        first_shape = _shape_of(first, key)
        shape = _shape_of(features, key)
        if shape != first_shape:
            expected = f"shape {first_shape}, as in {str(first_root)!r}" if first_shape else "none"
            raise WhiskerError(
                f"dataset {str(root)!r}, feature {key!r}",
                expected=expected,
                got=str(shape or "none"),
                hint="Train on datasets of the same robot and cameras.",
            )


def _shape_of(features: Mapping[str, dict], key: str) -> tuple[int, ...] | None:
    return tuple(features[key]["shape"]) if key in features else None


def is_dataset(root: Path) -> bool:
    """Return whether a folder holds a LeRobotDataset of any version."""
    return (root / _INFO_FILE).is_file()


def read_dataset(root: Path) -> Iterator[RecordedObservation]:
    """Yield every frame as the observation of a policy, with its instruction as the task's name.

    Raises:
        WhiskerError: there is no dataset, it has an older version, or its frames have no state.
    """
    return _read_frames(_open(root, "observation.state"))


def _read_frames(dataset: LeRobotDataset) -> Iterator[RecordedObservation]:
    cameras = _colour_cameras(dataset)
    for i in range(len(dataset)):
        frame = dataset[i]
        images = {}
        for camera, key in cameras.items():
            images[camera] = _to_bytes(frame[key]).transpose(1, 2, 0)
        state = frame["observation.state"].numpy().astype(np.float32)
        task = frame["task"]
        observation = Observation(images, state, task)
        episode_index = int(frame["episode_index"])
        yield RecordedObservation(observation, task, episode_index, int(frame["frame_index"]))


def _colour_cameras(dataset: LeRobotDataset) -> dict[str, str]:
    """Return camera → lerobot's key, for the cameras with three channels."""
    cameras = {}
    for key in dataset.meta.camera_keys:
        shape = dataset.meta.features[key]["shape"]
        if 3 in (shape[0], shape[-1]):
            cameras[camera_of_feature(key)] = key
    return cameras


def _open(root: Path, feature: str, hint: str = "") -> LeRobotDataset:
    """Open a dataset whose frames have a feature.

    Args:
        hint: what to do if they do not.
    """
    if not is_dataset(root):
        raise WhiskerError(
            f"dataset {str(root)!r}",
            expected="a LeRobotDataset",
            hint="Make one with eval-demos.",
        )
    _check_version(root)
    dataset = LeRobotDataset(repo_id="local/demonstrations", root=root)
    if feature not in dataset.meta.features:
        raise WhiskerError(
            f"dataset {str(root)!r}",
            expected=f"{feature} in every frame",
            got="none",
            hint=hint,
        )
    return dataset


def _check_version(root: Path) -> None:
    """Raise for a dataset older than v3.0, with the command that converts it.

    The command in lerobot's own message converts another dataset.
    """
    info = root / _INFO_FILE
    try:
        version = json.loads(info.read_text(encoding="utf-8"))["codebase_version"]
        major, minor = map(int, version.removeprefix("v").split(".")[:2])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WhiskerError(
            f"dataset file {str(info)!r}",
            expected="JSON with a codebase_version such as 'v3.0'",
            got=repr(error),
        ) from error
    if major >= 3:
        return
    convert = (
        "python -m lerobot.scripts.convert_dataset_v21_to_v30 --push-to-hub=false "
        f"--repo-id=local/dataset --root={shlex.quote(str(root))}"
    )
    hint = f"Convert it (the original is kept beside it, as ..._old): {convert}"
    if (major, minor) != (2, 1):
        hint = "lerobot 0.6 converts from v2.1 on: convert it to v2.1 with an older lerobot first."
    raise WhiskerError(
        f"dataset {str(root)!r}",
        expected="a LeRobotDataset of v3.0",
        got=version,
        hint=hint,
    )


def _features(
    spec: EnvSpec,
    use_videos: bool,
    has_goal_position: bool,
) -> dict[str, dict]:
    """Return lerobot's description of the features that a frame has."""
    positions = {OBJECT_POSITION_KEY: _vector("xyz")}
    if has_goal_position:
        positions[GOAL_POSITION_KEY] = _vector("xyz")
    images = {}
    for camera in spec.cameras:
        images[f"{_IMAGE_PREFIX}{camera.name}"] = {
            "dtype": "video" if use_videos else "image",
            "shape": (camera.height_px, camera.width_px, 3),
            "names": ["height", "width", "channels"],
        }
    return {
        "observation.state": _vector(spec.state_names),
        **images,
        "action": _vector(spec.action.names),
        **positions,
    }


def _vector(names: Sequence[str]) -> dict:
    return {"dtype": "float32", "shape": (len(names),), "names": list(names)}
