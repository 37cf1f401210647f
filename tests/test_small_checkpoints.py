"""Tests that the small checkpoints load with lerobot alone, offline, and use their inputs."""

import json
import re
import socket
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.small_checkpoints import (
    BUILDERS,
    HOME,
    SPREAD,
    read_lerobot_config,
    save_small_checkpoint,
    shrunken_paligemma,
)

N_STEPS = 5  # more than a chunk
DETERMINISTIC = ("act", "pi0_fast")
UNUSED_PATHS = {
    "./tmp/gr00t",
    "google/paligemma-3b-pt-224",
    "facebook/bart-large",
    "facebook/vjepa2-vitl-fpc64-256",
}
# Compares type and values of tensors, bit for bit.
assert_same = partial(
    assert_close,
    rtol=0,
    atol=0,
)


def forbid_network(*args, **kwargs):
    raise AssertionError(f"asked for the network: {args[1:]}")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", forbid_network)
    monkeypatch.setattr(socket, "getaddrinfo", forbid_network)


@pytest.fixture(
    scope="module",
    params=sorted(BUILDERS),
)
def checkpoint(request, tmp_path_factory):
    return save_small_checkpoint(
        request.param, tmp_path_factory.mktemp("checkpoints") / request.param
    )


def load(folder):
    import lerobot.policies  # noqa: F401 - registers the types and the steps of their processors
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    torch.set_num_threads(1)
    config = read_lerobot_config(folder)
    with shrunken_paligemma() if config.type.startswith("pi0") else nullcontext():
        policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    preprocessor, postprocessor = make_pre_post_processors(config, pretrained_path=str(folder))
    return policy.eval(), preprocessor, postprocessor


def act(loaded, image_seed=0, state=HOME, noise_seed=0):
    """The actions of the first steps of an episode, all with the same observation."""
    policy, preprocessor, postprocessor = loaded
    generator = torch.Generator().manual_seed(image_seed)
    observation = {
        "observation.state": torch.tensor([state]),
        "task": ["Pick up the red block"],
    }
    for key, feature in policy.config.input_features.items():
        if "image" in key:
            observation[key] = torch.rand((1, *feature.shape), generator=generator)
    policy.reset()
    actions = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(noise_seed)
        for _ in range(N_STEPS):
            action = postprocessor(policy.select_action(preprocessor(dict(observation))))
            assert action.shape == (1, 6)
            actions.append(action[0].numpy())
    return np.stack(actions)


def test_loaded_weights_are_the_saved_ones_bit_for_bit(checkpoint):
    saved = load_file(checkpoint / "model.safetensors")
    loaded = load(checkpoint)[0].state_dict()
    for name, weights in saved.items():
        assert_same(loaded[name], weights)
    # What is not in the file is another name of something that is.
    pointers = {name: weights.data_ptr() for name, weights in loaded.items()}
    assert set(pointers.values()) == {pointers[name] for name in saved}


def test_actions_lie_around_the_home_pose_and_depend_on_the_observation_and_on_noise(checkpoint):
    loaded = load(checkpoint)
    first = act(loaded)
    assert np.isfinite(first).all()
    assert np.abs(first - HOME).max() < 5 * SPREAD
    assert np.array_equal(first, act(loaded))
    other_state = tuple(np.float32(HOME) + np.float32([4, -6, 8, -5, 7, 3]))
    assert not np.allclose(first, act(loaded, image_seed=1), atol=1e-2)
    assert not np.allclose(first, act(loaded, state=other_state), atol=1e-2)
    other_noise = act(loaded, noise_seed=1)
    if loaded[0].config.type in DETERMINISTIC:
        assert np.array_equal(first, other_noise)
    else:
        assert not np.allclose(first, other_noise, atol=1e-2)


def test_a_second_build_is_the_same_and_leaves_the_generator_alone(checkpoint, tmp_path):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again = save_small_checkpoint(checkpoint.name, tmp_path / checkpoint.name)
    assert torch.equal(before, torch.random.get_rng_state())
    for path in checkpoint.glob("*.safetensors"):
        # Not the bytes: safetensors lists tensors with two names in random order.
        assert_same(load_file(path), load_file(again / path.name))


def test_everything_that_a_checkpoint_names_lies_inside_it(checkpoint):
    for name in ("config.json", "policy_preprocessor.json", "policy_postprocessor.json"):
        paths = set(
            re.findall(
                '"([^"]*/[^"]*)"',
                (checkpoint / name).read_text(),
            )
        )
        for path in paths - UNUSED_PATHS:
            assert Path(path).is_dir(), (name, path)
            assert Path(path).is_relative_to(checkpoint), (name, path)


FRESH_PROCESS = """
import json, sys
from pathlib import Path
from tests.test_small_checkpoints import act, forbid_network, load, socket
socket.socket.connect = socket.getaddrinfo = forbid_network
print(json.dumps([act(load(Path(folder))).tolist() for folder in sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_actions(tmp_path):
    folders = [save_small_checkpoint(each, tmp_path / each) for each in BUILDERS]
    command = [sys.executable, "-c", FRESH_PROCESS, *folders]
    printed = subprocess.check_output(
        command,
        cwd=Path(__file__).parents[1],
        text=True,
    )
    theirs = json.loads(printed.splitlines()[-1])
    for folder, actions in zip(folders, theirs, strict=True):
        np.testing.assert_array_equal(act(load(folder)), np.float32(actions), folder.name)
