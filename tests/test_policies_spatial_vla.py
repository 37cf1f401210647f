"""Compares SpatialVLA with outputs of the original, and tests how its checkpoints are read.

The twin is a small checkpoint with random weights that the original saved under transformers 4.47,
with inputs, image features, hidden states, logits and greedy tokens of the original.
"""

import json
import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch

from cknna.hooks import FeatureHook
from eval.preflight import check_batch
from policies.config import PolicyConfig
from policies.loading import find_policy_name
from policies.native.spatial_actions import ActionBins, average_chunks
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.observation import Observation
from tests.native_checkpoints import SPATIAL_BINS, save_spatial_processor, save_spatial_vla
from tests.twins import load_expected, load_twin

pytestmark = pytest.mark.usefixtures("one_thread")

ENV = "tests.hand_env:family/touch"
N_IMAGE_TOKENS = 256


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return save_spatial_vla(tmp_path_factory.mktemp("spatialvla") / "checkpoint")


@pytest.fixture(scope="session")
def policy(checkpoint):
    return load_twin("spatialvla", checkpoint)


@pytest.fixture(scope="session")
def expected():
    return load_expected("spatialvla")


def observe(seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return Observation({"image": image}, np.zeros(7, np.float32), "put carrot on plate")


@torch.inference_mode()
def test_the_image_tokens_are_the_originals(policy, expected):
    features = policy.network.image_features(expected["px"], expected["K"][0])
    # The original divides them by √width, and its Gemma 2 multiplies by it again.
    width = policy.network.config.text.hidden_size
    np.testing.assert_allclose(features / width**0.5, expected["feat"], atol=1e-6)


@torch.inference_mode()
def test_hidden_states_logits_and_greedy_tokens_are_the_originals(policy, expected):
    network = policy.network
    hidden = []
    norm = network.language_model.model.norm
    handle = norm.register_forward_hook(lambda _, __, output: hidden.append(output))
    prompt = expected["ids"][:, N_IMAGE_TOKENS:]
    try:
        tokens = network(expected["px"], expected["K"][0], prompt, 12)
    finally:
        handle.remove()
    np.testing.assert_allclose(hidden[0], expected["hidden"], atol=2e-5)
    np.testing.assert_allclose(network.logits(hidden[0]), expected["logits"], atol=2e-5)
    assert tokens.tolist() == expected["gen"][0].tolist()


def test_the_camera_is_scaled_to_the_networks_image(policy, expected):
    np.testing.assert_allclose(policy._processor.camera, expected["K"][0], rtol=1e-5)


@torch.inference_mode()
def test_points_of_a_flat_wall_lie_on_rays_through_the_patches(policy):
    camera = torch.tensor([[200.0, 0, 112], [0, 100.0, 112], [0, 0, 1]])
    depth = torch.full((1, 1, 224, 224), 2.0)
    points = policy.network._find_points(depth, camera)[0].view(16, 16, 2, 2, 3)
    # Row 3, column 5 of the patches, lower left point: pixel (73.5, 52.5).
    expected = [(73.5 - 112) / 200 * 2, (52.5 - 112) / 100 * 2, 2.0]
    np.testing.assert_allclose(points[3, 5, 1, 0], expected, rtol=1e-5)


def test_tokens_are_decoded_as_the_centres_of_their_bins():
    edges = [
        np.linspace(*SPATIAL_BINS[part][name][:2], SPATIAL_BINS[part][name][2] + 1)
        for part, name in (
            ("translation", "theta_bins"),
            ("translation", "phi_bins"),
            ("translation", "r_bins"),
        )
    ]
    angles = (np.linspace(-1, 1, 17),) * 3
    low, high = np.full(7, -1.0), np.full(7, 3.0)
    bins = ActionBins(100, tuple(edges), angles, low, high, np.array([True] * 6 + [False]))
    assert bins.n_tokens == 8194
    theta, phi, r = 3, 20, 1
    translation = 100 + (theta * 32 + phi) * 8 + r
    rotation = 100 + 4096 + (2 * 16 + 7) * 16 + 15
    (action,) = bins.decode(np.array([translation, rotation, 100 + 8193]))
    centre = [np.mean(each[i : i + 2]) for each, i in zip(edges, (theta, phi, r), strict=True)]
    x = centre[2] * np.sin(centre[0]) * np.cos(centre[1])
    z = centre[2] * np.cos(centre[0])
    roll, pitch, yaw = -1 + 2.5 / 8, -1 + 7.5 / 8, 1 - 0.5 / 8
    np.testing.assert_allclose(action[[0, 2]], [2 * x + 1, 2 * z + 1])
    np.testing.assert_allclose(action[3:6], 2 * np.array([roll, pitch, yaw]) + 1)
    assert action[6] == 1
    # Tokens of another kind count as the nearest: the first translation, the closed gripper.
    first, last = bins.decode(np.array([0, 0, 0, 10**6, 10**6, 100 + 8192]))
    assert first[6] == last[6] == 0
    np.testing.assert_allclose(last[3:6], 2 * (1 - 0.5 / 8) + 1)


def test_past_chunks_count_less_and_only_for_the_steps_that_they_cover():
    chunks = [np.full((4, 7), value) + np.arange(4)[:, None] for value in (0.0, 10.0)]
    averaged = average_chunks(chunks)
    weight = np.exp(0.8)
    np.testing.assert_allclose(averaged[0], (1 + weight * 10) / (1 + weight))
    np.testing.assert_allclose(averaged[3], 13.0)


def test_a_batch_is_its_rows_and_the_past_is_of_the_episode(policy):
    def run(seeds):
        memories = [policy.reset() for _ in seeds]
        plans = []
        for step in range(2):
            for memory, seed in zip(memories, seeds, strict=True):
                memory.observations.append(observe(10 * seed + step))
            plans.append(policy.predict(memories, [np.random.default_rng(0)] * len(seeds)).actions)
        return np.stack(plans, axis=1)

    both = run([1, 2])
    np.testing.assert_array_equal(both[0], run([1])[0])
    np.testing.assert_array_equal(both[1], run([2])[0])


def test_bfloat16_runs_and_is_near(checkpoint, expected):
    with torch.inference_mode():
        features = load_twin("spatialvla", checkpoint, "bfloat16").network.image_features(
            expected["px"], expected["K"][0]
        )
    assert features.dtype == torch.bfloat16
    exact = expected["feat"] * features.shape[-1] ** 0.5
    assert 0 < (features.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_on_the_cpu_its_convolutions_sum_in_float32(checkpoint):
    """PyTorch's own convolution in bfloat16 sums in another order, and so rounds otherwise."""
    network = load_twin("spatialvla", checkpoint, "bfloat16").network
    convolutions = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)]
    assert len(convolutions) > 20
    for layer in convolutions:
        x = torch.randn(1, layer.in_channels, 32, 32, dtype=torch.bfloat16)
        stock = deepcopy(layer).bfloat16()
        stock._forward_hooks.clear()
        stock._forward_pre_hooks.clear()
        expected = stock(x)
        atol = 2**-7 * expected.abs().max().item()
        assert layer.weight.dtype == torch.float32
        torch.testing.assert_close(layer(x), expected, rtol=2**-7, atol=atol)


def test_the_embedding_is_the_mean_of_the_prefill(policy):
    hook = FeatureHook(policy)
    outputs = []
    norm = policy.network.language_model.model.norm
    handle = norm.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        with hook.listening(1) as features:
            policy.predict([make_memory(observe())], [np.random.default_rng(0)])
    finally:
        handle.remove()
    assert outputs[0].shape[1] == N_IMAGE_TOKENS + len("put carrot on plate") + 2
    np.testing.assert_allclose(features["embedding"][0], outputs[0][0].mean(0), atol=1e-5)


def test_an_episode_runs(checkpoint, eval_here, tmp_path):
    command = f"--policy spatialvla --checkpoint {checkpoint} --env {ENV} --episodes 1 --quiet"
    extra = "--max-steps 3 --intermediate-plans --collect-features --run-dir"
    eval_here(f"{command} {extra}", tmp_path)
    (path,) = tmp_path.glob("*/episodes/*/0.npz")
    with np.load(path) as episode:
        assert episode["chunk"].shape == (3, 4, 7)
        assert set(np.unique(episode["action"][:, 6])) <= {-1.0, 1.0}


def test_the_type_is_found_from_the_folder(checkpoint):
    assert find_policy_name(PolicyConfig(checkpoint=str(checkpoint))) == "spatialvla"


def refuse(path):
    with pytest.raises(WhiskerError) as raised:
        load_twin("spatialvla", path)
    return str(raised.value)


@pytest.fixture
def copied(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "copy")


def test_missing_and_damaged_files_are_named(copied):
    (copied / "tokenizer.json").rename(copied / "away")
    assert "expected that of IPEC-COMMUNITY/spatialvla-4b-224-pt in the folder" in refuse(copied)
    (copied / "away").rename(copied / "tokenizer.json")
    (copied / "processor_config.json").write_text("{}")
    assert "the bins, statistics and cameras of SpatialVLA" in refuse(copied)
    save_spatial_processor(copied, statistics={"a": {}, "b": {}})
    assert "the statistics of 'bridge_orig/1.0.0', or of a single training set" in refuse(copied)
    (copied / "config.json").write_text('{"type": "act"}')
    assert "the settings of SpatialVLA, got others (KeyError: 'vision_config')" in refuse(copied)
    weights = copied / "model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "a Git LFS pointer" in refuse(copied)
    weights.unlink()
    assert "none that ends in .safetensors" in refuse(copied)


def test_weights_and_bins_of_other_sizes_are_named(copied):
    config = json.loads((copied / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 80
    (copied / "config.json").write_text(json.dumps(config))
    assert "layers.0.mlp.down_proj.weight' of 48×80, got of 48×96 (9 such" in refuse(copied)
    config["spatial_token_num"] = 10
    (copied / "config.json").write_text(json.dumps(config))
    assert "expected bins for 10 tokens, and statistics of 7 numbers" in refuse(copied)


def test_batches_are_refused_since_one_episode_is_decoded_at_a_time():
    with pytest.raises(WhiskerError, match="one that decodes for one episode at a time"):
        check_batch("spatialvla", 2)
