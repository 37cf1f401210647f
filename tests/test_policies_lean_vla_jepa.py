"""Tests that VLA-JEPA plans as in lerobot without what it is loaded without.

All checkpoints are small.
"""

import re
import shutil

import numpy as np
import pytest
import torch
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from numpy.testing import assert_array_equal
from safetensors.torch import load_file, save_file

from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from sim.errors import WhiskerError
from tests.json_files import edited_json
from tests.lerobot_batches import make_lerobot_batch
from tests.observations import make_random_memories
from tests.small_checkpoints import copy_naming, read_lerobot_config, save_small_checkpoint

INSTRUCTION = "Pick up the red block."
FIRST_LAYER = "model.video_encoder.encoder.embeddings.patch_embeddings.proj.weight"

pytestmark = pytest.mark.usefixtures("no_network", "one_thread")


@pytest.fixture(scope="module")
def with_world_model(tmp_path_factory):
    """Return a checkpoint whose V-JEPA 2 takes two frames at once.

    Its config says one, which is also the number of cameras that its world model sees.
    """
    folder = tmp_path_factory.mktemp("checkpoints") / "jepa"
    return save_small_checkpoint("vla_jepa", folder, enable_world_model=True, jepa_tubelet_size=1)


@pytest.fixture
def moved(small_checkpoint, tmp_path):
    """Return a copy of the small checkpoint elsewhere, which names its Qwen3-VL relatively."""
    return copy_naming(small_checkpoint("vla_jepa"), tmp_path / "moved", "qwen_model_name", "qwen")


def load(folder):
    return load_lerobot_policy(open_checkpoint(None, str(folder)), "cpu")


def rng():
    return np.random.default_rng(5)


def plan(policy):
    return policy.predict(make_random_memories(policy.spec, [INSTRUCTION]), [rng()])[0]


def load_with_lerobot(folder):
    config = read_lerobot_config(folder)
    with torch.random.fork_rng(devices=[]):
        return get_policy_class("vla_jepa").from_pretrained(folder, config=config).eval()


def plan_with_lerobot(folder, spec):
    """Return lerobot's plan for the observation and the noise that `plan` has."""
    network = load_with_lerobot(folder)
    before, after = make_pre_post_processors(network.config, pretrained_path=str(folder))
    (memory,) = make_random_memories(spec, [INSTRUCTION])
    batch = before(make_lerobot_batch(memory.present))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng().integers(2**63)))
        return after(network.predict_action_chunk(batch))[0].numpy()


def test_plans_are_lerobots_without_the_world_model(with_world_model):
    policy = load(with_world_model)
    assert policy.network.model.video_encoder is None
    assert load_with_lerobot(with_world_model).model.video_encoder is not None
    assert_array_equal(plan(policy), plan_with_lerobot(with_world_model, policy.spec))


def test_the_folder_of_the_world_model_is_not_read(with_world_model, tmp_path):
    folder = shutil.copytree(with_world_model, tmp_path / "copy")
    shutil.rmtree(folder / "jepa")
    with edited_json(folder / "config.json") as config:
        config["jepa_encoder_name"] = str(folder / "jepa")
    assert_array_equal(plan(load(folder)), plan(load(with_world_model)))


def test_a_world_model_that_the_file_does_not_have_is_named(with_world_model, tmp_path):
    folder = shutil.copytree(with_world_model, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    del weights[FIRST_LAYER]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(WhiskerError, match=f"expected the tensor '{re.escape(FIRST_LAYER)}'"):
        load(folder)


def test_a_moved_checkpoint_finds_its_qwen_and_reads_no_weights_there(moved, small_checkpoint):
    (moved / "qwen" / "model.safetensors").unlink()
    assert_array_equal(plan(load(moved)), plan(load(small_checkpoint("vla_jepa"))))


def test_a_qwen_of_the_hub_that_is_not_here_is_named(moved):
    with edited_json(moved / "config.json") as config:
        config["qwen_model_name"] = "Qwen/Qwen3-VL-2B-Instruct"
    with pytest.raises(WhiskerError, match=r"names \(Qwen/Qwen3-VL-2B-Instruct\), here or in"):
        load(moved)


def test_bfloat16_is_lerobots_number_by_number(tmp_path):
    folder = save_small_checkpoint("vla_jepa", tmp_path / "bfloat16", torch_dtype="bfloat16")
    policy = load(folder)
    theirs = load_with_lerobot(folder)
    ours = dict(policy.network.named_parameters()) | dict(policy.network.named_buffers())
    assert {tensor.dtype for tensor in ours.values()} >= {torch.bfloat16, torch.float32}
    for name, tensor in (*theirs.named_parameters(), *theirs.named_buffers()):
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name], tensor), name
    assert_array_equal(plan(policy), plan_with_lerobot(folder, policy.spec))


def test_a_state_that_the_features_do_not_list_is_read_as_in_lerobot(moved):
    """lerobot gives the network any state that the environment has."""
    with edited_json(moved / "config.json") as config:
        del config["input_features"]["observation.state"]
    policy = load(moved)
    assert policy.spec.state_dim == 6
    with edited_json(moved / "config.json") as config:
        config["qwen_model_name"] = str(moved / "qwen")
    assert_array_equal(plan(policy), plan_with_lerobot(moved, policy.spec))
