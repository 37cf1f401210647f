"""Tests the policy against lerobot's own `select_action`, which is an independent reference."""

import json
import shutil

import numpy as np
import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.utils import preprocess_observation
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from safetensors.torch import load_file, save_file

from eval.drivers import play_episode
from eval.rollout import ControlStep, RolloutSettings
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.registry import make_env
from tests.small_checkpoints import CAMERAS, IMAGE_PX

N_STEPS = 23


@pytest.fixture(scope="module")
def env():
    env = make_env(
        "so101/pick_place",
        image_sizes=dict.fromkeys(CAMERAS, (IMAGE_PX, IMAGE_PX)),
    )
    yield env
    env.close()


def lerobot_rollout(env, folder, episode_index):
    """Return the actions of lerobot's `select_action` at every step after a reset.

    The observations pass through lerobot's own preprocessing.
    """
    config = PreTrainedConfig.from_pretrained(folder)
    policy = ACTPolicy.from_pretrained(folder, config=config, strict=True)
    preprocessor, postprocessor = make_pre_post_processors(config, pretrained_path=str(folder))
    env.reset(episode_index)
    policy.reset()
    actions = []
    for _ in range(N_STEPS):
        seen = env.observe()
        pixels = {camera: image[None] for camera, image in seen.images.items()}
        batch = preprocess_observation(
            {
                "pixels": pixels,
                "agent_pos": seen.state[None],
            }
        )
        batch["task"] = [seen.instruction]
        with torch.inference_mode():
            action = postprocessor(policy.select_action(preprocessor(batch)))
        actions.append(action[0].numpy())
        env.step(actions[-1])
    return np.stack(actions)


@pytest.mark.parametrize("checkpoint", ["small_act", "small_act_ensembling"])
def test_same_actions_as_lerobot_over_chunks_and_an_episode_boundary(env, checkpoint, request):
    folder = request.getfixturevalue(checkpoint)
    policy = load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")
    for episode_index in (0, 1):
        events = play_episode(
            env, policy, episode_index, RolloutSettings(policy.spec.n_action_steps, N_STEPS)
        )
        ours = np.stack([event.action for event in events if isinstance(event, ControlStep)])
        np.testing.assert_array_equal(
            ours,
            lerobot_rollout(env, folder, episode_index),
        )


def test_rows_of_a_batch_do_not_influence_one_another(env, small_act):
    policy = load_lerobot_policy(open_checkpoint("act", str(small_act)), "cpu")
    memories = []
    for index in range(8):
        env.reset(index)
        memories.append(make_memory(env.observe()))
    rngs = [episode_rng(env.spec.task, index, 0) for index in range(8)]
    batched = policy.predict(memories, rngs).actions
    singles = np.concatenate(
        [policy.predict([m], [rng]).actions for m, rng in zip(memories, rngs, strict=True)]
    )
    # Float32 sums are in another order, and are scaled by the action's standard deviation of 15.
    np.testing.assert_allclose(batched, singles, atol=1e-4)


def test_the_number_of_threads_changes_no_bit(env, small_act):
    env.reset(0)
    plans = []
    for n_threads in (1, 4):
        torch.set_num_threads(n_threads)
        policy = load_lerobot_policy(open_checkpoint("act", str(small_act)), "cpu")
        plans.append(
            policy.predict(
                [make_memory(env.observe())],
                [episode_rng(env.spec.task, 0, 0)],
            ).actions
        )
    np.testing.assert_array_equal(*plans)


def test_the_spec_says_what_the_checkpoint_is(small_act):
    spec = load_lerobot_policy(
        open_checkpoint("act", str(small_act)),
        "cpu",
    ).spec
    assert spec.image_sizes == dict.fromkeys(CAMERAS, (IMAGE_PX, IMAGE_PX))
    assert (spec.state_dim, spec.action_dim, spec.chunk_size, spec.n_action_steps) == (6, 6, 10, 4)
    assert {
        "config.json",
        "model.safetensors",
        "policy_preprocessor.json",
    } <= spec.files_sha256.keys()


def test_missing_and_unexpected_weights_are_refused(small_act, tmp_path):
    """Missing and unexpected weights are refused.

    lerobot itself only warns, and the missing tensor stays random.
    """
    for change in ("missing", "unexpected"):
        folder = shutil.copytree(small_act, tmp_path / change)
        weights = load_file(folder / "model.safetensors")
        if change == "missing":
            del weights["model.action_head.weight"]
        else:
            weights["model.surplus.weight"] = torch.zeros(3)
        save_file(weights, folder / "model.safetensors")
        with pytest.raises(WhiskerError, match=r"action_head\.weight|surplus\.weight"):
            load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")


def test_no_imagenet_weights_are_downloaded(small_act, tmp_path):
    folder = shutil.copytree(small_act, tmp_path / "imagenet")
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_backbone_weights"] = "ResNet18_Weights.IMAGENET1K_V1"
    (folder / "config.json").write_text(json.dumps(config))
    load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")


def test_a_checkpoint_saved_on_a_gpu_loads_on_the_cpu(small_act, tmp_path):
    folder = shutil.copytree(small_act, tmp_path / "cuda")
    for file in ("config.json", "policy_preprocessor.json", "policy_postprocessor.json"):
        (folder / file).write_text((folder / file).read_text().replace('"cpu"', '"cuda"'))
    assert (
        load_lerobot_policy(
            open_checkpoint("act", str(folder)),
            "cpu",
        ).spec.type
        == "act"
    )


def test_an_absent_device_is_refused(small_act):
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(WhiskerError, match="device 'cuda'"):
        load_lerobot_policy(open_checkpoint("act", str(small_act)), "cuda")


def test_an_input_that_no_environment_shows_is_refused(small_act, tmp_path):
    folder = shutil.copytree(small_act, tmp_path / "privileged")
    config = json.loads((folder / "config.json").read_text())
    config["input_features"]["observation.environment_state"] = {
        "type": "ENV",
        "shape": [3],
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        WhiskerError, match=r"input 'observation\.environment_state' of shape \(3,\)"
    ):
        load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")
