import numpy as np
import pytest
import torch
from lerobot.policies.act.modeling_act import ACTPolicy

from eval.config import DemoConfig
from eval.demos import record_demonstrations
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_dataset import DemonstrationFrames, DemonstrationWriter
from policies.lerobot_loading import load_lerobot_policy
from policies.recipes.act_so101 import ActLearner, ActRecipe, TrainingSet, act_config, freeze_statistics, train
from sim.registry import make_env


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    root = tmp_path_factory.mktemp("demos") / "set"
    env = make_env("so101/pick_place", image_sizes={"overhead_cam": (32, 32), "wrist_cam": (32, 32)})
    writer = DemonstrationWriter(root, env.spec, use_videos=False)
    record_demonstrations(DemoConfig(root, episodes=2), env, writer, lambda *_: None)
    env.close()
    return root


def test_chunks_end_with_their_episode(demos):
    frames = DemonstrationFrames(demos)
    data = TrainingSet.from_frames(frames, before_grasp_weight=2.0)
    boundary = int(np.flatnonzero(np.diff(frames.episode_index))[0])
    batch = data.batch(torch.tensor([boundary - 2, boundary + 1]), chunk_size=5)
    assert batch["action_is_pad"].tolist() == [[False] * 3 + [True] * 2, [False] * 5]
    np.testing.assert_array_equal(batch["action"][0, 2:], np.repeat(frames.action[boundary][None], 3, axis=0))
    np.testing.assert_array_equal(batch["action"][1], frames.action[boundary + 1 : boundary + 6])


def test_frames_weigh_more_until_the_block_moves(demos):
    frames = DemonstrationFrames(demos)
    weight = TrainingSet.from_frames(frames, before_grasp_weight=2.0).weight.numpy()
    height = frames.object_pos_world[:, 2]
    assert (weight[height > 0.03] == 1).all() and weight[0] == 2
    assert 0.3 < (weight == 2).mean() < 0.8


def test_the_export_predicts_what_was_trained(demos):
    """A vanilla policy with frozen batch normalisation, against the learner after some real updates."""
    recipe = ActRecipe(demos, demos, chunk_size=10, n_action_steps=5)
    frames = DemonstrationFrames(demos)
    data = TrainingSet.from_frames(frames, 2.0)
    torch.manual_seed(0)
    learner = ActLearner(ACTPolicy(act_config(recipe, frames)), n_features=2 * 512).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3)
    losses = []
    for step in range(8):
        index = torch.arange(8) * 10
        batch = {key: value for key, value in data.batch(index, 10).items() if isinstance(value, torch.Tensor)}
        batch["action"] = batch["action"] / 30
        loss = learner.loss(batch, data.weight[index], data.object_pos[index], 0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 6:
            freeze_statistics(learner)
    assert losses[-1] < losses[0]
    exported, learner = learner.export(), learner.eval()
    with torch.no_grad():
        images = [batch[key] for key in learner.policy.config.image_features]
        learner.policy.model.backbone.prime(images)
        trained = learner.policy.model({**batch, "observation.images": images})[0]
        np.testing.assert_allclose(exported.predict_action_chunk(batch), trained, atol=1e-5)


@pytest.mark.slow
def test_the_recipe_runs_through_and_its_checkpoints_load(demos, tmp_path):
    train(ActRecipe(demos, tmp_path, n_samples=256, n_early_samples=128, batch_size=16))
    for name in ("act", "act-early"):
        policy = load_lerobot_policy(open_checkpoint("act", str(tmp_path / name)), "cpu")
        assert policy.spec.chunk_size == 40
        assert (tmp_path / name / "model.safetensors").stat().st_size < 32e6
