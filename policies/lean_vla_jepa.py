"""Load VLA-JEPA without its world model.

The world model (V-JEPA 2 and a predictor) only gives a loss to the training. lerobot builds it for
a rollout too, from a repository that the config names.
"""

from pathlib import Path
from typing import Any

from policies.checkpoint_reading import read_shape
from policies.lerobot_types import Settings

# A convolution over (frames, height, width), whose weights are (out, in, frames, height, width).
_FIRST_LAYER = "model.video_encoder.encoder.embeddings.patch_embeddings.proj.weight"
_FRAMES = 2


def without_world_model(settings: Settings, weights: Path) -> dict[str, Any]:
    """Return the settings with which VLA-JEPA plans the same without its world model.

    The prompt has some tokens for each step of the world model. A step is as many frames as the
    first layer of V-JEPA 2 takes at once. Without a world model lerobot reads their number from the
    config instead, where it may be another one.

    Args:
        settings: the content of config.json.
        weights: the checkpoint's safetensors file.

    Raises:
        WhiskerError: config.json declares a world model, but the file has none.
    """
    changed: dict[str, Any] = {"enable_world_model": False, "jepa_encoder_name": ""}
    if settings.get("enable_world_model"):
        changed["jepa_tubelet_size"] = read_shape(weights, _FIRST_LAYER)[_FRAMES]
    return changed
