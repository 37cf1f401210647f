"""Tests that open-pi-zero loads and plans at its published size.

The weights are random and in bfloat16. Run with `-m slow -s` to read the numbers.
"""

import math
import shutil
import time

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights

from policies.config import PolicyConfig
from policies.loading import load_policy
from policies.native.native_checkpoint import open_native_checkpoint
from policies.native.pi_zero_layers import PiZeroSizes
from policies.native.pi_zero_network import PiZeroNetwork
from policies.policy import make_memory
from sim.observation import Observation
from tests.full_size import in_own_process, read_peak_gb, save_once
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


def predict_once(folder):
    """Load and plan once, as an evaluation does; return parameters, times and memory."""
    started_s = time.perf_counter()
    named = PolicyConfig("open_pi_zero", str(folder), dtype="bfloat16")
    policy = load_policy("open_pi_zero", checkpoint=open_native_checkpoint(named), device="cpu")
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


# open-pi-zero counts the expert twice, whose weights are shared. Memory includes mapped files.
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_at_full_size_a_policy_loads_and_plans(tmp_path):
    folder = tmp_path / "full"
    try:
        measured = in_own_process(save_once, save_open_pi_zero, folder)
        measured |= in_own_process(predict_once, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # pytest would keep the gigabytes of three runs
    print(*(f"{key}: {value:.1f}" for key, value in measured.items()), sep="\n")
    assert measured["parameters, millions"] == pytest.approx(3550, rel=1e-3)
    assert measured["peak GB"] < 18
