"""Tests what only EVO1 does: its InternVL, its padded numbers, and the prompt that it writes.

The tests of every type are elsewhere (`tests/test_policies_lerobot_types.py`).
"""

import shutil

import numpy as np
import pytest
import torch
from lerobot.policies.factory import get_policy_class
from numpy.testing import assert_allclose, assert_array_equal

from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.normalisation import load_normalisation
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.observation import Observation
from tests.json_files import edited_json
from tests.small_checkpoints import (
    CAMERAS,
    HOME,
    IMAGE_PX,
    SPREAD,
    copy_naming,
    save_small_checkpoint,
)

pytestmark = pytest.mark.usefixtures("no_network")
IMAGE = np.random.default_rng(0).integers(0, 256, (IMAGE_PX, IMAGE_PX, 3), dtype=np.uint8)
LONG = "Take the small blue cylinder beside the plate to the far end of the table"
GRIPPER = 5


def load(folder):
    return load_lerobot_policy(open_checkpoint("evo1", str(folder)), "cpu")


def remember(instruction="Pick up the block."):
    images = dict.fromkeys(CAMERAS, IMAGE)
    return make_memory(Observation(images, np.float32(HOME), instruction))


def plan(policy, *memories):
    rngs = [np.random.default_rng(seed) for seed in range(len(memories))]
    return policy.predict([memory.copy() for memory in memories], rngs).actions


@pytest.fixture
def moved(small_checkpoint, tmp_path):
    """Return a copy of the small checkpoint that names its InternVL relatively."""
    return copy_naming(small_checkpoint("evo1"), tmp_path / "moved", "vlm_model_name", "vlm")


def test_a_moved_checkpoint_finds_its_internvl(moved, small_checkpoint, monkeypatch):
    """Of the InternVL, the configuration and the tokenizer are enough.

    lerobot loads its weights too, and then replaces all of them by the checkpoint's.
    """
    (moved / "vlm" / "model.safetensors").unlink()
    monkeypatch.chdir(moved.parent)
    expected = plan(load(small_checkpoint("evo1")), remember())
    assert_array_equal(plan(load("moved"), remember()), expected)


@pytest.mark.parametrize(
    ("missing", "got"),
    [
        ("", "got no such folder"),
        ("config.json", r"got no config\.json in it"),
        ("tokenizer.json", r"got no tokenizer\.json or tokenizer\.model in it"),
    ],
)
def test_what_is_missing_of_its_internvl_is_named(moved, missing, got):
    path = moved / "vlm" / missing
    if missing:
        path.unlink()
    else:
        shutil.rmtree(path)
    with pytest.raises(WhiskerError, match=f"a folder 'vlm' inside, .* vlm_model_name.*{got}"):
        load(moved)


@pytest.mark.parametrize("model_type", ["internvl", "internvl_chat"])
def test_code_beside_its_internvl_does_not_run(moved, tmp_path, model_type):
    """InternVL3 was published a second time with code of its own, as the type internvl_chat."""
    vlm = (moved / "vlm").rename(tmp_path / "elsewhere")
    (vlm / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with edited_json(vlm / "config.json") as config:
        config["auto_map"] = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
        config["model_type"] = model_type
    with edited_json(moved / "config.json") as config:
        config["vlm_model_name"] = str(vlm)
    if model_type == "internvl":
        assert load(moved).spec.type == "evo1"
    else:
        with pytest.raises(WhiskerError, match=r"lerobot can make it of.*trust_remote_code"):
            load(moved)
    assert not (tmp_path / "ran").exists()


def test_an_internvl_of_another_size_does_not_fit_the_weights(moved):
    with edited_json(moved / "vlm" / "config.json") as config:
        config["text_config"]["intermediate_size"] = 48
    with pytest.raises(WhiskerError, match=r"(?s)weights: expected exactly the tensors.*mlp"):
        load(moved)


def test_an_internvl_that_is_not_here_is_one_clear_error(moved):
    with edited_json(moved / "config.json") as config:
        config["vlm_model_name"] = "nobody/no-such-model"
    said = r"network: expected all that its config\.json names \(nobody/no-such-model\), here or"
    with pytest.raises(WhiskerError, match=said):
        load(moved)


@pytest.mark.parametrize(
    ("field", "value", "got"),
    [
        ("max_views", 1, "got EVO1 supports at most 1 camera streams, got 2"),
        ("image_resolution", [64, 64], r"got EVO1 image_resolution \(64\) must match"),
    ],
)
def test_a_network_that_lerobot_refuses_to_make_is_no_missing_folder(moved, field, value, got):
    with edited_json(moved / "config.json") as config:
        config[field] = value
    said = f"network: expected a config.json that lerobot can make it of, with .*vlm, {got}"
    with pytest.raises(WhiskerError, match=said) as refusal:
        load(moved)
    assert refusal.value.hint == ""


def test_statistics_are_those_of_the_robot_without_the_padding(small_checkpoint):
    """EVO1's processors pad state and action to 24 numbers, and its statistics with them."""
    statistics = load_normalisation(small_checkpoint("evo1"))
    for stats in (statistics.state, statistics.trained_action, statistics.action):
        low, high = stats.span
        assert_allclose(low, np.float32(HOME) - SPREAD)
        assert_allclose(high, np.float32(HOME) + SPREAD)


def test_plans_are_as_wide_as_the_postprocessor_cuts_them(moved):
    whole = load(moved)
    assert whole.spec.action_dim == 6
    expected = plan(whole, remember())[..., :4]
    with edited_json(moved / "config.json") as config:
        config["postprocess_action_dim"] = 4
    cut = load(moved)
    assert cut.spec.action_dim == 4
    assert_array_equal(plan(cut, remember()), expected)


def test_a_gripper_that_only_opens_and_closes_does_so_in_every_planned_step(moved):
    expected = plan(load(moved), remember())
    with edited_json(moved / "config.json") as config:
        config |= {"binarize_gripper": True, "gripper_index": GRIPPER, "gripper_threshold": 45.0}
    actions = plan(load(moved), remember())
    is_above = expected[..., GRIPPER] > 45
    assert 0 < is_above.sum() < is_above.size
    assert_array_equal(actions[..., GRIPPER], np.where(is_above, -1, 1))
    assert_array_equal(actions[..., :GRIPPER], expected[..., :GRIPPER])


def test_padded_instructions_are_no_other_instructions(moved):
    """Padding changes the last bits alone, and then every plan has been made from one length."""
    policy = load(moved)
    memories = [remember(), remember(LONG)]
    expected = plan(policy, *memories)
    lengths = []
    language_model = policy.network.model.embedder.model.language_model
    language_model.register_forward_hook(
        lambda module, arguments, output: lengths.append(output.last_hidden_state.shape[1])
    )
    for _ in range(2):
        policy.pad_instructions()
        for row, memory in enumerate(memories):
            (padded,) = policy.predict([memory.copy()], [np.random.default_rng(row)]).actions
            assert_allclose(padded, expected[row], rtol=0, atol=0.002)
    assert set(lengths) == {policy.network.config.max_text_length}
    assert np.abs(expected[0] - expected[1]).max() > 0.1


def test_a_backbone_in_bfloat16_is_lerobots_and_plans_the_same_in_a_batch(tmp_path):
    """bfloat16 is lerobot's default for the backbone."""
    folder = save_small_checkpoint("evo1", tmp_path / "evo1", vlm_dtype="bfloat16")
    policy = load(folder)
    theirs = get_policy_class("evo1").from_pretrained(folder).state_dict()
    for name, tensor in policy.network.state_dict().items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name
    memories = [remember(), remember(LONG), remember("Wait")]
    together = plan(policy, *memories)
    for row, memory in enumerate(memories):
        (alone,) = policy.predict([memory], [np.random.default_rng(row)]).actions
        assert_allclose(alone, together[row], rtol=0, atol=0.002)
