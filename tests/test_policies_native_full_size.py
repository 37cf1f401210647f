"""Tests that open-pi-zero and SpatialVLA load and plan at their published sizes.

The weights are random and in bfloat16. Run with `-m slow -s` to read the numbers.
"""

import json
import math
import shutil
import time

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file

from policies.config import PolicyConfig
from policies.loading import load_policy
from policies.native.native_checkpoint import open_native_checkpoint
from policies.native.pi_zero_layers import PiZeroSizes
from policies.native.pi_zero_network import PiZeroNetwork
from policies.native.spatial_vla_files import read_config
from policies.native.spatial_vla_network import SpatialVlaNetwork
from policies.policy import make_memory
from sim.observation import Observation
from tests.full_size import in_own_process, read_peak_gb, save_once
from tests.native_checkpoints import save_spatial_processor
from tests.small_tokenizers import save_byte_tokenizer

# Shapes of the published bridge_beta.pt.
PI_ZERO = PiZeroSizes(
    vocabulary=257216,
    prefix_width=2048,
    prefix_mlp=16384,
    expert_width=1024,
    expert_mlp=4096,
    n_layers=18,
    n_heads=8,
    head_dim=256,
    vision_width=1152,
    vision_mlp=4304,
    vision_layers=27,
    image_px=224,
    patch_px=14,
    state_dim=7,
    action_dim=7,
)
# Sizes of SpatialVLA 4B: SigLIP so400m, Gemma 2 2B, and ZoeDepth of NYU and KITTI.
SPATIAL_VLA = {
    "action_token_begin_idx": 257153,
    "spatial_token_num": 8194,
    "ego3d_patch_reso": 2,
    "n_freqs": 8,
    "vision_config": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "vision_use_head": False,
    },
    "text_config": {"vocab_size": 265347},
    "vision_zoe_config": {
        "neck_hidden_sizes": [256, 512, 1024, 1024],
        "bin_configurations": [
            {"n_bins": 64, "min_depth": 0.001, "max_depth": max_depth_m, "name": name}
            for name, max_depth_m in (("nyu", 10.0), ("kitti", 80.0))
        ],
        "num_patch_transformer_layers": 4,
        "patch_transformer_hidden_size": 128,
        "patch_transformer_intermediate_size": 1024,
        "patch_transformer_num_attention_heads": 4,
    },
}


def make_filled(make):
    """Return the state of a network with random weights in bfloat16, made without drawing each."""
    with init_empty_weights(include_buffers=False):
        network = make()
    draw = (0.02 * torch.randn(2**24 + 1)).bfloat16()
    filled = {}
    for name, tensor in network.state_dict().items():
        n_draws = math.ceil(tensor.numel() / len(draw))
        filled[name] = draw.repeat(n_draws)[: tensor.numel()].reshape(tensor.shape).clone()
    return filled


def save_open_pi_zero(folder):
    folder.mkdir()
    save_byte_tokenizer(folder / "tokenizer")
    tensors = make_filled(lambda: PiZeroNetwork(PI_ZERO))
    for name in tensors:
        if name.startswith("state."):
            tensors[name] = tensors[name.replace("state.", "actions.", 1)]
    torch.save({"model": tensors}, folder / "bridge.pt")


def save_spatial_vla(folder):
    folder.mkdir()
    save_byte_tokenizer(folder, image_token="<image>")
    save_spatial_processor(folder)
    (folder / "config.json").write_text(json.dumps(SPATIAL_VLA))
    named = PolicyConfig("spatialvla", str(folder), dtype="bfloat16")
    (folder / "model.safetensors").touch()
    config = read_config(open_native_checkpoint(named))
    tensors = make_filled(lambda: SpatialVlaNetwork(config))
    # Its values are those of the embedding of tokens, and the file has them once.
    del tensors["language_model.lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")


def predict_once(policy_type, folder):
    """Load and plan once, as an evaluation does; return parameters, times and memory."""
    started_s = time.perf_counter()
    named = PolicyConfig(policy_type, str(folder), dtype="bfloat16")
    policy = load_policy(policy_type, checkpoint=open_native_checkpoint(named), device="cpu")
    loaded_s = time.perf_counter()
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    seen = Observation({"image": image}, np.zeros(7, np.float32), "put carrot")
    plan = policy.predict([make_memory(seen)], [np.random.default_rng(0)])[0]
    predicted_s = time.perf_counter()
    assert plan.shape == (4, 7) and np.isfinite(plan).all()
    return {
        "parameters, millions": policy.audit().n_parameters / 1e6,
        "load s": loaded_s - started_s,
        "prediction s": predicted_s - loaded_s,
        "peak GB": read_peak_gb(),
    }


# Shared weights count twice: the expert of open-pi-zero, and SpatialVLA's embedding of tokens.
# Memory includes mapped files.
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("policy_type", "save", "n_millions", "most_gb"),
    [("open_pi_zero", save_open_pi_zero, 3550, 18), ("spatialvla", save_spatial_vla, 4028, 18)],
)
def test_at_full_size_a_policy_loads_and_plans(policy_type, save, n_millions, most_gb, tmp_path):
    folder = tmp_path / "full"
    try:
        measured = in_own_process(save_once, save, folder)
        measured |= in_own_process(predict_once, policy_type, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # pytest would keep the gigabytes of three runs
    print(*(f"{key}: {value:.1f}" for key, value in measured.items()), sep="\n")
    assert measured["parameters, millions"] == pytest.approx(n_millions, rel=1e-3)
    assert measured["peak GB"] < most_gb
