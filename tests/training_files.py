"""Files that lerobot-train writes besides the weights, made by lerobot's own classes."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lerobot.configs.default import DatasetConfig
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.policies.factory import make_pre_post_processors

PREFIX = "observation.images."


def rename_cameras(folder: Path, rename_map: dict[str, str], stats: dict | None = None) -> Path:
    """Save the processors again as `lerobot-train --rename_map` does.

    Args:
        rename_map: maps the dataset's cameras to the checkpoint's.
        stats: the dataset's statistics, with its own names; None keeps the checkpoint's.
    """
    config = PreTrainedConfig.from_pretrained(folder)
    keys = {PREFIX + dataset: PREFIX + policy for dataset, policy in rename_map.items()}
    common = {"norm_map": config.normalization_mapping}
    if stats is not None:
        common["stats"] = stats
    features = config.input_features | config.output_features
    before = {
        "rename_observations_processor": {"rename_map": keys},
        "normalizer_processor": {"features": features, **common},
    }
    after = {"unnormalizer_processor": {"features": config.output_features, **common}}
    for processor in make_pre_post_processors(
        config,
        pretrained_path=str(folder),
        preprocessor_overrides=before,
        postprocessor_overrides=after,
    ):
        processor.save_pretrained(folder)
    return folder


def dataset_stats(cameras: dict[str, float], dim: int = 6) -> dict[str, dict[str, np.ndarray]]:
    """Return statistics of a dataset with cameras of these mean colours."""

    def around(mean, std, shape):
        mean = np.full(shape, mean, np.float32)
        std = np.full(shape, std, np.float32)
        return {
            "mean": mean,
            "std": std,
            "min": mean - std,
            "max": mean + std,
        }

    joints = around(0, 30, dim)
    stats = {"observation.state": joints, "action": joints}
    for camera, mean in cameras.items():
        stats[PREFIX + camera] = around(mean, 0.2, (3, 1, 1))
    return stats


def save_train_config(
    folder: Path, root: Path | None, base: str | None = "somebody/base", **dataset
) -> Path:
    """Write `train_config.json`, and name the fine-tuned base in config.json.

    Args:
        root: the folder of the dataset.
        dataset: further fields of lerobot's `DatasetConfig`.
    """
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pretrained_path": base}))
    policy = PreTrainedConfig.from_pretrained(folder)
    data = DatasetConfig(
        "somebody/pick-place",
        root=root and str(root),
        **dataset,
    )
    TrainPipelineConfig(dataset=data, policy=policy)._save_pretrained(folder)
    return folder


def create_dataset(
    root: Path, names: Sequence[str] | None = None, **sizes: tuple[int, int]
) -> Path:
    """Create a dataset without episodes, whose cameras have these (height_px, width_px).

    Args:
        names: the names of the six numbers in its states and actions.
    """
    joints = {
        "dtype": "float32",
        "shape": (6,),
        "names": names and list(names),
    }
    features = {"observation.state": joints, "action": joints}
    for camera, size in sizes.items():
        features[PREFIX + camera] = {
            "dtype": "image",
            "shape": (*size, 3),
            "names": ["height", "width", "channels"],
        }
    LeRobotDatasetMetadata.create(
        "somebody/pick-place", fps=30, features=features, root=root, use_videos=False
    )
    return root
