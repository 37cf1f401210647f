"""Tests that the small checkpoints load with lerobot alone, offline, and use their inputs."""

import json
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.small_checkpoints import (
    BUILDERS,
    HOME,
    SPREAD,
    save_small_checkpoint,
    shrunken_paligemma,
)

N_STEPS = 5  # more than a chunk
DETERMINISTIC = ("act", "pi0_fast")


def forbid_network(*args, **kwargs):
    raise AssertionError(f"asked for the network: {args[1:]}")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", forbid_network)
    monkeypatch.setattr(socket, "getaddrinfo", forbid_network)


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def checkpoint(request, tmp_path_factory):
    return save_small_checkpoint(
        request.param, tmp_path_factory.mktemp("checkpoints") / request.param
    )


def load(folder: Path):
    import lerobot.policies  # noqa: F401 - registers the types and the steps of their processors
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    torch.set_num_threads(1)
    config = PreTrainedConfig.from_pretrained(folder)
    with shrunken_paligemma() if config.type.startswith("pi0") else nullcontext():
        policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    preprocessor, postprocessor = make_pre_post_processors(config, pretrained_path=str(folder))
    return policy.eval(), preprocessor, postprocessor


def act(loaded, image_seed=0, state=HOME, noise_seed=0) -> np.ndarray:
    """The actions of the first steps of an episode, all with the same observation."""
    policy, preprocessor, postprocessor = loaded
    generator = torch.Generator().manual_seed(image_seed)
    features = policy.config.input_features
    images = {
        k: torch.rand((1, *f.shape), generator=generator)
        for k, f in features.items()
        if "image" in k
    }
    observation = images | {
        "observation.state": torch.tensor([state]),
        "task": ["Pick up the red block"],
    }
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
        assert loaded[name].dtype == weights.dtype and torch.equal(loaded[name], weights), name
    # What is not in the file is another name of something that is.
    pointers = {loaded[name].data_ptr() for name in saved}
    assert all(loaded[name].data_ptr() in pointers for name in loaded.keys() - saved.keys())


def test_actions_lie_around_the_home_pose_and_depend_on_the_observation_and_on_noise(checkpoint):
    loaded = load(checkpoint)
    first = act(loaded)
    assert np.isfinite(first).all()
    assert np.abs(first - HOME).max() < 5 * SPREAD
    assert np.array_equal(first, act(loaded))
    other_state = tuple(np.float32(HOME) + np.float32([4, -6, 8, -5, 7, 3]))
    assert not np.allclose(first, act(loaded, image_seed=1), atol=1e-2)
    assert not np.allclose(first, act(loaded, state=other_state), atol=1e-2)
    if loaded[0].config.type in DETERMINISTIC:
        assert np.array_equal(first, act(loaded, noise_seed=1))
    else:
        assert not np.allclose(first, act(loaded, noise_seed=1), atol=1e-2)


def test_a_second_build_is_the_same_and_leaves_the_generator_alone(checkpoint, tmp_path):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again = save_small_checkpoint(checkpoint.name, tmp_path / checkpoint.name)
    assert torch.equal(before, torch.random.get_rng_state())
    for path in checkpoint.glob("*.safetensors"):
        # Not the bytes: safetensors lists tensors with two names in random order.
        ours = load_file(path)
        theirs = load_file(again / path.name)
        assert ours.keys() == theirs.keys() and all(
            torch.equal(ours[key], theirs[key]) for key in ours
        ), path


def test_everything_that_a_checkpoint_names_lies_inside_it(checkpoint):
    def strings(value):
        if isinstance(value, dict):
            value = list(value.values())
        return [s for v in value for s in strings(v)] if isinstance(value, list) else [value]

    for name in ("config.json", "policy_preprocessor.json", "policy_postprocessor.json"):
        paths = [
            s
            for s in strings(json.loads((checkpoint / name).read_text()))
            if isinstance(s, str) and "/" in s
        ]
        used = [
            s
            for s in paths
            if s not in ("./tmp/gr00t", "google/paligemma-3b-pt-224", "facebook/bart-large")
        ]
        assert all(Path(s).is_dir() and Path(s).is_relative_to(checkpoint) for s in used), (
            name,
            used,
        )


FRESH_PROCESS = """
import json, sys
from pathlib import Path
from tests.test_small_checkpoints import act, forbid_network, load, socket
socket.socket.connect = socket.getaddrinfo = forbid_network
print(json.dumps([act(load(Path(folder))).tolist() for folder in sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_fresh_process_gives_the_same_actions(tmp_path):
    folders = [
        save_small_checkpoint(policy_type, tmp_path / policy_type)
        for policy_type in sorted(BUILDERS)
    ]
    command = [sys.executable, "-c", FRESH_PROCESS, *map(str, folders)]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for folder, theirs in zip(
        folders,
        json.loads(done.stdout.splitlines()[-1]),
        strict=True,
    ):
        np.testing.assert_array_equal(act(load(folder)), np.float32(theirs), err_msg=folder.name)
