"""Reads a SpatialVLA checkpoint: sizes, weights, the bins of its actions and its camera.

The checkpoint's own code is never run, and transformers' configs take its place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from transformers import Gemma2Config, SiglipVisionConfig, ZoeDepthConfig

from policies.checkpoint_reading import check_safetensors, read_json
from policies.native.native_checkpoint import NativeCheckpoint
from policies.native.spatial_actions import ActionBins, read_edges
from policies.native.spatial_vla_network import SpatialVlaConfig, SpatialVlaNetwork
from policies.native.weights import compute_convolutions_in_float32, load_weights
from sim.errors import WhiskerError

# The training set whose statistics and camera are taken, if the checkpoint has those of several.
_DATASET = "bridge_orig/1.0.0"
_DEFAULT_CAMERA = "default"
_END_TOKEN = 1
_HINT = "The folder must be one that SpatialVLA's `save_pretrained` wrote, with its processor."
_TIED = "language_model.lm_head.weight"


@dataclass(frozen=True)
class SpatialVlaProcessor:
    """Holds what an observation and a plan are converted with.

    Attributes:
        camera: intrinsics [px] of an image of the network's size.
    """

    bins: ActionBins
    camera: Float[np.ndarray, "3 3"]


def read_config(checkpoint: NativeCheckpoint) -> SpatialVlaConfig:
    """Return the sizes of the network.

    Raises:
        WhiskerError: the settings are missing, or of another network.
    """
    path = checkpoint.folder / "config.json"
    settings = read_json(path, _HINT)
    end_token = _END_TOKEN
    generation = checkpoint.folder / "generation_config.json"
    if generation.is_file():
        end_token = read_json(generation, _HINT).get("eos_token_id", _END_TOKEN)

    def read() -> SpatialVlaConfig:
        return SpatialVlaConfig(
            vision=SiglipVisionConfig(**settings["vision_config"]),
            depth=ZoeDepthConfig(**settings["vision_zoe_config"]),
            text=Gemma2Config(**settings["text_config"]),
            points_per_side=settings["ego3d_patch_reso"],
            n_freqs=settings["n_freqs"],
            first_action_token=settings["action_token_begin_idx"],
            n_action_tokens=settings["spatial_token_num"],
            end_token=end_token,
        )

    return _explained(path, "the settings of SpatialVLA", read)


def read_processor(checkpoint: NativeCheckpoint, config: SpatialVlaConfig) -> SpatialVlaProcessor:
    """Return the bins of the actions and the camera.

    Raises:
        WhiskerError: they are missing, or do not fit the network.
    """
    path = checkpoint.folder / "processor_config.json"
    settings = read_json(path, _HINT)

    def read() -> SpatialVlaProcessor:
        action = _choose(path, settings["statistics"])["action"]
        bins = ActionBins(
            first=config.first_action_token,
            translation=read_edges(settings["bin_policy"], "translation", ("theta", "phi", "r")),
            rotation=read_edges(settings["bin_policy"], "rotation", ("roll", "pitch", "yaw")),
            low=np.array(action["q01"], np.float64),
            high=np.array(action["q99"], np.float64),
            is_normalised=np.array(action.get("mask", [True] * 7), bool),
        )
        cameras = settings["intrinsic_config"]
        camera = cameras.get(_DATASET) or cameras[_DEFAULT_CAMERA]
        scale = np.array([1 / camera["width"], 1 / camera["height"], 0])
        scale = scale * config.vision.image_size + np.array([0, 0, 1])
        return SpatialVlaProcessor(bins, np.array(camera["intrinsic"]) * scale[:, None])

    processor = _explained(path, "the bins, statistics and cameras of SpatialVLA", read)
    if processor.bins.n_tokens != config.n_action_tokens or processor.bins.low.shape != (7,):
        raise WhiskerError(
            f"checkpoint file {str(path)!r}",
            expected=f"bins for {config.n_action_tokens} tokens, and statistics of 7 numbers",
            got=f"bins for {processor.bins.n_tokens}, and {processor.bins.low.size} numbers",
        )
    return processor


def make_network(
    checkpoint: NativeCheckpoint, config: SpatialVlaConfig, device: str
) -> SpatialVlaNetwork:
    """Return the network with the checkpoint's weights.

    Raises:
        WhiskerError: a file is damaged, or weights are missing, surplus or of another size.
    """
    from accelerate import init_empty_weights

    tensors: dict[str, torch.Tensor] = {}
    for path in checkpoint.weights:
        check_safetensors(path)
        tensors |= load_file(path)
    tensors[_TIED] = tensors.get("language_model.model.embed_tokens.weight", torch.zeros(0))
    # Buffers that are not in the file, such as rotary frequencies, keep their values.
    with init_empty_weights(include_buffers=False):
        network = SpatialVlaNetwork(config)
    load_weights(checkpoint, "SpatialVLA", network, tensors, device)
    if device == "cpu":
        compute_convolutions_in_float32(network)
    return network.to(device).eval().requires_grad_(False)


def _choose(path: Path, statistics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the statistics of Bridge, or the only ones."""
    if _DATASET in statistics:
        return statistics[_DATASET]
    if len(statistics) == 1:
        return next(iter(statistics.values()))
    raise WhiskerError(
        f"checkpoint file {str(path)!r}",
        expected=f"the statistics of {_DATASET!r}, or of a single training set",
        got=", ".join(statistics) or "none",
        hint="Keep those of the set that it was fine-tuned on.",
    )


def _explained[Result](path: Path, expected: str, read: Callable[[], Result]) -> Result:
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        got = f"others ({type(error).__name__}: {error})"
        subject = f"checkpoint file {str(path)!r}"
        raise WhiskerError(subject, expected=expected, got=got, hint=_HINT) from error
