"""Load VLA-JEPA without what no rollout uses: its world model, and Qwen3-VL's own weights.

The world model (V-JEPA 2 and a predictor) only gives a loss to the training. lerobot builds it for
a rollout too, from a repository that the config names. The weights of Qwen3-VL are all in the
checkpoint, but lerobot first loads those of the repository that the config names, and then replaces
them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

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


@contextmanager
def without_qwen_weights() -> Iterator[None]:
    """Let lerobot build Qwen3-VL from its configuration, without weights.

    Every weight must come from the checkpoint afterwards.
    """
    from lerobot.policies.vla_jepa import qwen_interface

    network = qwen_interface.Qwen3VLForConditionalGeneration

    def build(name: str, torch_dtype: Any) -> Any:
        config = network.config_class.from_pretrained(name)
        return network._from_config(config, dtype=torch_dtype)

    builder = SimpleNamespace(from_pretrained=build)
    with mock.patch.object(qwen_interface, "Qwen3VLForConditionalGeneration", builder):
        yield
