"""Read from a checkpoint how it was trained: the dataset, its cameras, and the size of their images."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import safe_open

from policies.lerobot_types import ALIASES, LEROBOT_TYPES

# lerobot-train writes it beside the weights.
TRAIN_CONFIG_FILE = "train_config.json"
_PREPROCESSOR_FILE = "policy_preprocessor.json"
_RENAME_STEP, _NORMALISE_STEP = "rename_observations_processor", "normalizer_processor"
_RELATIVE_STEP = "relative_actions_processor"


@dataclass(frozen=True)
class TrainingRecord:
    """Describes a training as the files of its checkpoint do. Cameras have the policy's names unless said otherwise.

    Attributes:
        renamed: the dataset's camera → the policy's, from `lerobot-train --rename_map`.
        cameras: cameras whose images the training had; None where no file tells.
        cameras_with_stats: cameras whose image statistics the checkpoint holds, under the names
            that they have there.
        dataset: its name; "" if unknown.
        image_sizes: camera → (height_px, width_px) in that dataset; empty unless the dataset is on
            this machine.
        state_names: of the numbers of the dataset's states, in order; empty if unknown.
        action_names: of the numbers of the dataset's actions, in order; empty if unknown.
        augmentations: names of the random changes that the images went through.
        base: the checkpoint that the training began from; "" if it began from scratch, or if no
            file tells.
        needs_declared_size: the network's layers fit images of the size in config.json, and no
            others.
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
        """Return whether the training is known to have had no image for this camera of the policy."""
        return self.cameras is not None and camera not in self.cameras

    def original_name(self, camera: str) -> str:
        """Return the dataset's name of a camera of the policy."""
        return {policy: dataset for dataset, policy in self.renamed.items()}.get(camera, camera)


def load_training_record(folder: Path) -> TrainingRecord:
    """Read the record of a checkpoint whose files were checked.

    Only the files of this machine are looked at.
    """
    config = _read(folder / "config.json")
    train_config = _read(folder / TRAIN_CONFIG_FILE)
    steps = _read(folder / _PREPROCESSOR_FILE).get("steps", [])
    renamed = find_renamed_cameras(steps)
    dataset: dict = train_config.get("dataset") or {}
    features = _find_dataset_features(dataset)
    original_sizes = _image_sizes(features)
    stats = _cameras_with_stats(folder, steps)
    cameras = _find_trained_cameras(renamed, original_sizes.keys(), stats)
    transforms: dict = dataset.get("image_transforms") or {}
    # A training that was resumed names its own last checkpoint here.
    base = "" if train_config.get("resume") else config.get("pretrained_path")
    return TrainingRecord(
        renamed=renamed,
        cameras=cameras if cameras and not cameras.isdisjoint(_policy_cameras(config)) else None,
        cameras_with_stats=stats,
        dataset=str(dataset.get("repo_id") or ""),
        image_sizes={renamed.get(camera, camera): size for camera, size in original_sizes.items()},
        state_names=_names_of(features.get("observation.state")),
        # The step that subtracts the state knows them without the dataset.
        action_names=_names_of(features.get("action")) or _names_in_steps(steps),
        augmentations=tuple(transforms.get("tfs") or ()) if transforms.get("enable") else (),
        base=str(base or ""),
        needs_declared_size=_needs_declared_size(config),
    )


def find_renamed_cameras(preprocessor_steps: list[dict]) -> dict[str, str]:
    """Return the dataset's camera → the policy's, as the saved rename step of a preprocessor has them."""
    renamed: dict[str, str] = {}
    for step in preprocessor_steps:
        if step.get("registry_name") == _RENAME_STEP:
            renamed |= step.get("config", {}).get("rename_map") or {}
    return {_camera(a): _camera(b) for a, b in renamed.items() if _is_image(a) and _is_image(b)}


def _find_trained_cameras(
    renamed: Mapping[str, str], dataset_cameras: Any, cameras_with_stats: frozenset[str]
) -> frozenset[str] | None:
    """Return the policy's cameras that had images in training; None where nothing tells.

    The dataset itself is asked first, then the statistics: lerobot-train saves those of every
    camera of the dataset, under the dataset's names. Older releases saved them under the policy's
    names; there the rename map decides.
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
            with safe_open(folder / step["state_file"], framework="numpy") as tensors:
                names += tensors.keys()
    features = (name.rpartition(".")[0] for name in names)
    return frozenset(_camera(feature) for feature in features if _is_image(feature))


def _find_dataset_features(dataset: Mapping[str, Any]) -> dict[str, dict]:
    """Return the features of the dataset as its `meta/info.json` describes them; {} unless it is on this machine."""
    for path in _places_of(dataset):
        features: dict[str, dict] = _read(path).get("features", {})
        if features:
            return features
    return {}


def _image_sizes(features: Mapping[str, dict]) -> dict[str, tuple[int, int]]:
    """Return camera → (height_px, width_px)."""
    sizes = {}
    for key, feature in features.items():
        shape = dict(zip(feature.get("names") or (), feature.get("shape") or (), strict=False))
        if _is_image(key) and {"height", "width"} <= shape.keys():
            sizes[_camera(key)] = (shape["height"], shape["width"])
    return sizes


def _names_of(feature: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the names of a feature's numbers: a list, or (older datasets) a list under a word such as "motors"."""
    names: Any = (feature or {}).get("names")
    if isinstance(names, dict):
        names = next((part for part in names.values() if isinstance(part, list)), None)
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _names_in_steps(steps: list[dict]) -> tuple[str, ...]:
    for step in steps:
        if step.get("registry_name") == _RELATIVE_STEP:
            return tuple(map(str, step.get("config", {}).get("action_names") or ()))
    return ()


def _places_of(dataset: Mapping[str, Any]) -> Iterator[Path]:
    """Yield where lerobot would look for the dataset's `meta/info.json`, without asking the network."""
    info = "meta/info.json"
    if dataset.get("root"):
        yield Path(dataset["root"]) / info
    repo_id = dataset.get("repo_id")
    if not isinstance(repo_id, str):
        return
    home = Path(os.environ.get("HF_LEROBOT_HOME", Path(constants.HF_HOME) / "lerobot")).expanduser()
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


def _policy_cameras(config: Mapping[str, Any]) -> set[str]:
    return {
        _camera(feature) for feature in config.get("input_features") or () if _is_image(feature)
    }


def _needs_declared_size(config: Mapping[str, Any]) -> bool:
    row = LEROBOT_TYPES[ALIASES.get(config["type"], config["type"])]
    return row.has_fixed_image_size and not (config.get("crop_shape") or config.get("resize_shape"))


def _is_image(feature: str) -> bool:
    return feature.startswith("observation.image")


def _camera(feature: str) -> str:
    return feature.removeprefix("observation.images.").removeprefix("observation.")


def _read(path: Path) -> dict:
    """Return a JSON object; {} where there is none that reads: the record is a help, not a condition."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
