"""Saves small checkpoints of policies that are not of lerobot, from what their originals wrote."""

import json
import shutil

import numpy as np
import torch

from tests.small_tokenizers import save_byte_tokenizer
from tests.twins import find_twin

SPATIAL_BINS = {
    "translation": {"theta_bins": (0, np.pi, 16), "phi_bins": (-np.pi, np.pi, 32)},
    "rotation": dict.fromkeys(("roll_bins", "pitch_bins", "yaw_bins"), (-1, 1, 16)),
}
SPATIAL_BINS["translation"]["r_bins"] = (0, np.sqrt(3), 8)


def save_open_pi_zero(folder, words=()):
    """Save the twin with a tokenizer beside it, named as the published ones are; return the file.

    Args:
        words: each is one token; everything else is a token for each byte.
    """
    shutil.copy(find_twin("open_pi_zero") / "tiny_bridge.pt", folder / "bridge_beta.pt")
    tokenizer = save_byte_tokenizer(folder / "tokenizer", image_token="<image>")
    tokenizer.add_tokens(list(words))
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder / "bridge_beta.pt"


def save_fractal(folder, file):
    """Save the network of `save_open_pi_zero` for the state of Fractal; return the file.

    The weights of the eighth number of the state are random, and so are all others.
    """
    saved = torch.load(file, weights_only=True)
    name = "_orig_mod.proprio_encoder.weight"
    weights = saved["model"][name]
    generator = torch.Generator().manual_seed(0)
    added = torch.randn(len(weights), 1, generator=generator) * weights.std()
    saved["model"][name] = torch.cat([weights, added], dim=1)
    shutil.copytree(file.parent / "tokenizer", folder / "tokenizer")
    torch.save(saved, folder / "fractal_beta.pt")
    return folder / "fractal_beta.pt"


def save_spatial_vla(folder):
    """Save the twin with a processor and a tokenizer; return the folder."""
    folder.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(find_twin("spatialvla") / name, folder / name)
    save_spatial_processor(folder)
    save_byte_tokenizer(folder, image_token="<image>")
    return folder


def save_spatial_processor(folder, **changes):
    """Save what the original's processor saves, with bins of equal width."""
    camera = json.loads((find_twin("spatialvla") / "intrinsics.json").read_text())
    bins = {
        part: {
            name: np.linspace(low, high, n + 1).tolist() for name, (low, high, n) in each.items()
        }
        for part, each in SPATIAL_BINS.items()
    }
    action = {"q01": [-0.1] * 6 + [0], "q99": [0.2] * 6 + [1], "mask": [True] * 6 + [False]}
    settings = {
        "bin_policy": bins,
        "intrinsic_config": camera,
        "statistics": {"bridge_orig/1.0.0": {"action": action}},
    }
    (folder / "processor_config.json").write_text(json.dumps(settings | changes))
