"""Small checkpoints with random weights, saved in lerobot's own format."""

from pathlib import Path

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors

IMAGE_PX = 32
CAMERAS = ("overhead_cam", "wrist_cam")


def save_small_act(folder: Path, state_dim: int = 6, action_dim: int = 6, cameras=CAMERAS, **config) -> Path:
    """ACT with a random ResNet-18 and narrow transformer; its statistics keep actions near the home pose."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = {f"observation.images.{c}": PolicyFeature(FeatureType.VISUAL, (3, IMAGE_PX, IMAGE_PX)) for c in cameras}
    act = ACTConfig(
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (state_dim,)), **images},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (action_dim,))},
        device="cpu",
        pretrained_backbone_weights=None,
        **{
            "dim_model": 32,
            "n_heads": 4,
            "dim_feedforward": 64,
            "n_encoder_layers": 1,
            "use_vae": False,
            "chunk_size": 10,
            "n_action_steps": 4,
        }
        | config,
    )
    vector = {"mean": rng.normal(0, 20, 16).astype(np.float32), "std": np.full(16, 15, np.float32)}
    stats = {key: {"mean": np.full((3, 1, 1), 0.5), "std": np.full((3, 1, 1), 0.25)} for key in images}
    stats["observation.state"] = {name: value[:state_dim] for name, value in vector.items()}
    stats["action"] = {name: value[:action_dim] for name, value in vector.items()}
    preprocessor, postprocessor = make_pre_post_processors(act, dataset_stats=stats)
    for part in (ACTPolicy(act), preprocessor, postprocessor):
        part.save_pretrained(folder)
    return folder
