"""Tests an ACT policy on its own: batches, threads, its spec, and what it cannot be given."""

import shutil
from contextlib import closing

import numpy as np
import pytest
import torch

from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.registry import make_env
from tests.json_files import edited_json
from tests.small_checkpoints import CAMERAS, IMAGE_PX

SIZES = dict.fromkeys(CAMERAS, (IMAGE_PX, IMAGE_PX))


def load(folder, device="cpu"):
    return load_lerobot_policy(open_checkpoint("act", str(folder)), device)


@pytest.fixture(scope="module")
def policy(small_act):
    return load(small_act)


@pytest.fixture(scope="module")
def env():
    with closing(make_env("so101/pick_place", SIZES)) as env:
        yield env


def look(env, episode_index):
    env.reset(episode_index)
    return make_memory(env.observe())


def test_rows_of_a_batch_do_not_influence_one_another(env, policy):
    memories = [look(env, index) for index in range(8)]
    rngs = [episode_rng(env.spec.task, index, 0) for index in range(8)]
    batched = policy.predict(memories, rngs).actions
    # Float32 sums are in another order, and are scaled by the action's standard deviation of 15.
    for plan, memory, rng in zip(batched, memories, rngs, strict=True):
        np.testing.assert_allclose(
            plan,
            policy.predict([memory], [rng])[0],
            atol=1e-4,
        )


def test_the_number_of_threads_changes_no_bit(env, small_act):
    memory = look(env, 0)
    plans = []
    for n_threads in (1, 4):
        torch.set_num_threads(n_threads)
        plans.append(
            load(small_act).predict(
                [memory],
                [episode_rng("t", 0, 0)],
            )[0]
        )
    np.testing.assert_array_equal(*plans)


def test_the_spec_says_what_the_checkpoint_is(policy):
    spec = policy.spec
    assert spec.image_sizes == SIZES
    assert spec.state_dim == 6
    assert spec.action_dim == 6
    assert spec.chunk_size == 10
    assert spec.n_action_steps == 4
    files = {"config.json", "model.safetensors", "policy_preprocessor.json"}
    assert files <= spec.files_sha256.keys()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
def test_an_absent_device_is_refused(small_act):
    with pytest.raises(WhiskerError, match="device 'cuda'"):
        load(small_act, "cuda")


def test_an_input_that_no_environment_shows_is_refused(small_act, tmp_path):
    folder = shutil.copytree(small_act, tmp_path / "privileged")
    with edited_json(folder / "config.json") as config:
        privileged = {"type": "ENV", "shape": [3]}
        config["input_features"]["observation.environment_state"] = privileged
    said = r"input 'observation\.environment_state' of shape \(3,\)"
    with pytest.raises(WhiskerError, match=said):
        load(folder)
