"""Read how a checkpoint was trained: the dataset, its cameras, and the size of their images."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from policies.checkpoint_reading import check_safetensors, find_settings
from policies.lerobot_types import LEROBOT_TYPES, Settings, camera_of_feature
from policies.registry import resolve_alias

# lerobot-train writes this file beside the weights.
TRAIN_CONFIG_FILE = "train_config.json"
_PREPROCESSOR_FILE = "policy_preprocessor.json"
_RENAME_STEP = "rename_observations_processor"
_NORMALISE_STEP = "normalizer_processor"
_RELATIVE_STEP = "relative_actions_processor"


@dataclass(frozen=True)
class TrainingRecord:
    """Describes a training, as far as the files of its checkpoint tell.

    Cameras have the policy's names unless noted otherwise.

    Attributes:
        renamed: the dataset's camera → the policy's, from `lerobot-train --rename_map`.
        cameras: cameras that had images in training; None if unknown.
        cameras_with_stats: cameras whose image statistics the checkpoint has, by their names in the
            checkpoint.
        dataset: name of the dataset; "" if unknown.
        image_sizes: camera → (height_px, width_px) in the dataset; empty unless the dataset is on
            this machine.
        state_names: names of the numbers of the dataset's states, in order; empty if unknown.
        action_names: names of the numbers of the dataset's actions, in order; empty if unknown.
        augmentations: names of the image augmentations.
        base: the checkpoint that the training started from; "" if it started from scratch, or if
            unknown.
        needs_declared_size: the network's layers fit only images of the size in config.json.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    cameras: frozenset[str] | None = None
    cameras_with_stats: frozenset[str] = frozenset()
    dataset: str = ""
    image_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    state_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    augmentations: tuple[str, ...] = ()
    base: str = ""
    needs_declared_size: bool = False

    def lacked(self, camera: str) -> bool:
        """Return whether the training is known to have had no images of a camera."""
        return self.cameras is not None and camera not in self.cameras

    def original_name(self, camera: str) -> str:
        """Return the dataset's name for a camera of the policy."""
        dataset_names = {policy: dataset for dataset, policy in self.renamed.items()}
        return dataset_names.get(camera, camera)


def load_training_record(folder: Path) -> TrainingRecord:
    """Read the record of a checkpoint whose files were checked.

    Only files on this machine are read.
    """
    config = _read(folder / "config.json")
    train_config = _read(folder / TRAIN_CONFIG_FILE)
    steps = _read(folder / _PREPROCESSOR_FILE).get("steps", [])
    renamed = find_renamed_cameras(steps)
    dataset: dict = train_config.get("dataset") or {}
    transforms = dataset.get("image_transforms") or {}
    features = _find_dataset_features(dataset)
    original_sizes = _image_sizes(features)
    stats = _cameras_with_stats(folder, steps)
    cameras = _find_trained_cameras(renamed, original_sizes.keys(), stats)
    policy_cameras = map(camera_of_feature, filter(_is_image, config.get("input_features") or ()))
    if not cameras or cameras.isdisjoint(policy_cameras):
        cameras = None
    return TrainingRecord(
        renamed=renamed,
        cameras=cameras,
        cameras_with_stats=stats,
        dataset=str(dataset.get("repo_id") or ""),
        image_sizes={renamed.get(camera, camera): size for camera, size in original_sizes.items()},
        state_names=_names_of(features.get("observation.state")),
        # The step that subtracts the state has these names without the dataset.
        action_names=_names_of(features.get("action")) or _names_in_steps(steps),
        augmentations=tuple(transforms.get("tfs") or ()) if transforms.get("enable") else (),
        base=_find_base(config, train_config),
        needs_declared_size=_needs_declared_size(config),
    )


def _find_base(config: Settings, train_config: Settings) -> str:
    if train_config.get("resume"):
        return ""  # `pretrained_path` is then the training's own last checkpoint
    return str(config.get("pretrained_path") or "")


def find_renamed_cameras(preprocessor_steps: list[dict]) -> dict[str, str]:
    """Return the dataset's camera → the policy's, from the rename steps of a preprocessor."""
    rename_map: dict[str, str] = {}
    for settings in find_settings(preprocessor_steps, _RENAME_STEP):
        rename_map |= settings.get("rename_map") or {}
    renamed = {}
    for old, new in rename_map.items():
        if _is_image(old) and _is_image(new):
            renamed[camera_of_feature(old)] = camera_of_feature(new)
    return renamed


def _find_trained_cameras(
    renamed: Mapping[str, str],
    dataset_cameras: Any,
    cameras_with_stats: frozenset[str],
) -> frozenset[str] | None:
    """Return the policy's cameras that had images in training; None if unknown.

    The dataset itself is the first source, and the statistics are the second: lerobot-train saves
    those of every camera of the dataset, under the dataset's names. Older releases saved them under
    the policy's names. In that case the rename map decides.
    """
    named = set(dataset_cameras) or set(cameras_with_stats)
    if dataset_cameras or named & renamed.keys():
        return frozenset(renamed.get(camera, camera) for camera in named)
    if renamed:
        return frozenset(renamed.values())
    return frozenset(named) or None


def _cameras_with_stats(folder: Path, steps: list[dict]) -> frozenset[str]:
    names: list[str] = []
    for step in steps:
        if step.get("registry_name") == _NORMALISE_STEP and "state_file" in step:
            names += check_safetensors(folder / step["state_file"])
    features = [name.rpartition(".")[0] for name in names]
    return frozenset(map(camera_of_feature, filter(_is_image, features)))


def _find_dataset_features(dataset: Settings) -> dict[str, dict]:
    """Return the features in the dataset's `meta/info.json`; {} unless it is on this machine."""
    for path in _find_info_files(dataset):
        features: dict[str, dict] = _read(path).get("features", {})
        if features:
            return features
    return {}


def _image_sizes(features: Mapping[str, dict]) -> dict[str, tuple[int, int]]:
    """Return camera → (height_px, width_px)."""
    sizes = {}
    for key, feature in features.items():
        axes = feature.get("names") or ()
        shape = dict(zip(axes, feature.get("shape") or (), strict=False))
        if _is_image(key) and {"height", "width"} <= shape.keys():
            sizes[camera_of_feature(key)] = (shape["height"], shape["width"])
    return sizes


def _names_of(feature: Settings | None) -> tuple[str, ...]:
    """Return the names of a feature's numbers; () if unknown.

    Older datasets have the list under a key such as "motors".
    """
    names: Any = (feature or {}).get("names")
    if isinstance(names, dict):
        names = next((part for part in names.values() if isinstance(part, list)), None)
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _names_in_steps(steps: list[dict]) -> tuple[str, ...]:
    for settings in find_settings(steps, _RELATIVE_STEP):
        return tuple(map(str, settings.get("action_names") or ()))
    return ()


def _find_info_files(dataset: Settings) -> Iterator[Path]:
    """Yield the paths at which lerobot looks for the dataset's `meta/info.json` on this machine."""
    info = "meta/info.json"
    if dataset.get("root"):
        yield Path(dataset["root"]) / info
    repo_id = dataset.get("repo_id")
    if not isinstance(repo_id, str):
        return
    default_home = Path(constants.HF_HOME) / "lerobot"
    home = Path(os.environ.get("HF_LEROBOT_HOME", default_home)).expanduser()
    yield home / repo_id / info
    for cache in (home / "hub", constants.HF_HUB_CACHE):
        try:
            cached = try_to_load_from_cache(
                repo_id,
                info,
                cache_dir=cache,
                repo_type="dataset",
                revision=dataset.get("revision"),
            )
        except HFValidationError:
            return
        if isinstance(cached, str):
            yield Path(cached)


def _needs_declared_size(config: Settings) -> bool:
    row = LEROBOT_TYPES[resolve_alias(config["type"])]
    resizing = ("crop_shape", "resize_shape", "image_crop_shape", "image_resize_shape")
    has_resizing = any(config.get(name) for name in resizing)
    return row.has_fixed_image_size and not has_resizing


def _is_image(feature: str) -> bool:
    return feature.startswith("observation.image")


def _read(path: Path) -> dict:
    """Return the JSON object in a file; {} if it cannot be read, since the record is optional."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
