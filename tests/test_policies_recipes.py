from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from lerobot.policies.factory import make_pre_post_processors
from numpy.testing import assert_allclose, assert_array_equal

from eval.config import DemoConfig
from eval.demos import record_demonstrations
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_dataset import DemonstrationFrames, DemonstrationWriter
from policies.lerobot_loading import load_lerobot_policy
from policies.recipes.fast_attention import fast_attention
from policies.recipes.loss_curve import LOSS_FILE, LOSS_PICTURE, read_losses
from policies.recipes.policy_parts import Batches, make_config, make_learner, make_vlm
from policies.recipes.recipe import RECIPES
from policies.recipes.training import Training, train
from policies.recipes.training_run import TrainingRun
from policies.recipes.training_set import TrainingSet
from sim.errors import WhiskerError
from sim.registry import make_env


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    root = tmp_path_factory.mktemp("demos") / "set"
    image_sizes = dict.fromkeys(("overhead_cam", "wrist_cam"), (64, 64))
    with closing(make_env("so101/pick_place", image_sizes)) as env:
        writer = DemonstrationWriter(root, env.spec, use_videos=False)
        record_demonstrations(
            DemoConfig(root, episodes=2),
            env,
            writer,
            lambda *_: None,
        )
    return root


@pytest.fixture(scope="module")
def frames(demos):
    return DemonstrationFrames(demos)


@pytest.fixture(scope="module")
def data(frames):
    return TrainingSet.from_frames(frames, before_grasp_weight=2.0)


def make_batch(frames, data, config, index):
    steps = config.observation_delta_indices or [0]
    batches = Batches(
        config,
        frames.stats,
        data.instructions,
        torch.device("cpu"),
    )
    raw = data.batch(index, steps, config.action_delta_indices)
    batch = batches(raw, data.instruction_index[index])
    return batch, data.weight[index], data.positions[index]


def test_chunks_end_with_their_episode(frames, data):
    last = frames.episode_index.tolist().index(1) - 1
    batch = data.batch(
        torch.tensor([last - 2, last + 1]),
        [0],
        range(5),
    )
    assert batch["action_is_pad"].tolist() == [[False] * 3 + [True] * 2, [False] * 5]
    assert_array_equal(
        batch["action"][0],
        frames.action[[last - 2, last - 1, last, last, last]],
    )
    assert_array_equal(
        batch["action"][1],
        frames.action[last + 1 : last + 6],
    )


def test_a_look_back_begins_with_its_episode(frames, data):
    first = frames.episode_index.tolist().index(1)
    batch = data.batch(
        torch.tensor([first, first + 1]),
        [-1, 0],
        [-1, 0, 1],
    )
    seen = [[first, first], [first, first + 1]]
    assert_array_equal(batch["observation.state"], frames.state[seen])
    assert batch["action_is_pad"].tolist() == [[True, False, False], [False] * 3]
    expected = frames.images["wrist_cam"][seen] / np.float32(255)
    assert_allclose(batch["observation.images.wrist_cam"], expected, atol=1e-7)


def test_frames_weigh_more_until_the_block_moves(frames, data):
    weight = data.weight.numpy()
    height = frames.object_pos_world[:, 2]
    assert (weight[height > 0.03] == 1).all() and weight[0] == 2
    assert 0.3 < (weight == 2).mean() < 0.8


def test_the_exported_act_predicts_what_was_trained(frames, data):
    """The exported policy predicts what the learner predicts after some real updates.

    The export is a vanilla policy with frozen batch normalisation.
    """
    recipe = RECIPES["act"]
    short = recipe.architecture | {"chunk_size": 10, "n_action_steps": 5}
    torch.manual_seed(0)
    config = make_config(
        replace(recipe, architecture=short),
        frames.features,
    )
    learner = make_learner(config, 3).train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3)
    batch, weight, positions = make_batch(
        frames,
        data,
        config,
        torch.arange(8) * 10,
    )
    losses = []
    for step in range(8):
        loss = learner.loss(batch, weight, positions).action
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 6:
            learner.start_last_fifth()
    assert losses[-1] < losses[0]
    exported = learner.export()
    model = learner.eval().policy.model
    with torch.no_grad():
        images = [batch[key] for key in config.image_features]
        model.backbone.prime(images)
        trained = model({**batch, "observation.images": images})[0]
        assert_allclose(exported.predict_action_chunk(batch), trained, atol=1e-5)


@pytest.fixture(scope="module")
def smolvla(frames, tmp_path_factory):
    recipe = RECIPES["smolvla"]
    vlm = make_vlm(
        recipe,
        tmp_path_factory.mktemp("smolvla"),
        frames.instructions,
    )
    config = make_config(recipe, frames.features, vlm)
    torch.manual_seed(0)
    return config, make_learner(config, 3)


def test_the_loss_of_smolvla_is_lerobots(smolvla, frames, data):
    """The loss equals lerobot's up to rounding.

    The fused kernels and the vision tower without its mask change nothing else.
    """
    config, learner = smolvla
    # The last index is near an episode's end, where padded actions do not count.
    index = torch.tensor([0, 30, len(frames.state) - 5])
    batch, weight, positions = make_batch(frames, data, config, index)
    torch.manual_seed(1)
    ours = learner.loss(dict(batch), weight, positions).action
    torch.manual_seed(1)
    stock, _ = learner.policy.forward(dict(batch))
    assert_allclose(ours.detach(), stock.detach(), rtol=1e-5)


def test_fast_attention_leaves_the_policy_as_it_was(smolvla):
    vlm = smolvla[1].policy.model.vlm_with_expert
    before = vlm.get_attention_interface, vlm.vlm.model.vision_model.forward
    with fast_attention(vlm):
        assert vlm.get_attention_interface != before[0]
    assert (vlm.get_attention_interface, vlm.vlm.model.vision_model.forward) == before


def test_the_words_are_tokenized_as_the_processor_does(smolvla, frames, data):
    config, _ = smolvla
    batch, _, _ = make_batch(
        frames,
        data,
        config,
        torch.tensor([0, 5]),
    )
    preprocessor, _ = make_pre_post_processors(config, dataset_stats=frames.stats)
    task = list(frames.instructions) * 2
    told = preprocessor(
        {
            "observation.state": torch.zeros(2, 6),
            "task": task,
        }
    )
    for key in ("observation.language.tokens", "observation.language.attention_mask"):
        assert_array_equal(batch[key], told[key])


TINY = {
    "diffusion": {
        "down_dims": (16, 32),
        "resize_shape": None,
        "n_groups": 4,
        "horizon": 16,
        "n_action_steps": 8,
    },
}


def tiny(name):
    recipe = RECIPES[name]
    return replace(
        recipe,
        architecture=recipe.architecture | TINY.get(name, {}),
        batch_size=2,
        n_samples=8,
        n_processes=1,
        n_sync_steps=1,
        early={},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diffusion", "smolvla"])
def test_a_recipe_runs_through_and_its_checkpoint_loads(name, demos, frames, tmp_path):
    train(
        Training(name, tiny(name), demos, tmp_path),
        frames,
    )
    policy = load_lerobot_policy(
        open_checkpoint(name, str(tmp_path / name)),
        "cpu",
    )
    assert policy.spec.type == name
    assert (tmp_path / name / "training_env.json").is_file()
    assert [row["samples"] for row in read_losses(tmp_path / LOSS_FILE)] == [8]
    assert (tmp_path / LOSS_PICTURE).read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def training(demos, tmp_path):
    return Training(
        "diffusion",
        tiny("diffusion"),
        demos,
        tmp_path,
        n_checkpoint_samples=4,
    )


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    training, frames, tmp_path, monkeypatch
):
    whole = replace(training, output=tmp_path / "whole")
    train(whole, frames)
    stopped = replace(whole, output=tmp_path / "stopped")
    advance = TrainingRun.advance
    n_steps = []

    def advance_twice(run):
        n_steps.append(1)
        if len(n_steps) > 2:
            raise KeyboardInterrupt
        advance(run)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TrainingRun, "advance", advance_twice)
        train(stopped, frames)
    assert not (stopped.output / "diffusion").exists()
    train(stopped, frames, resume=True)
    weights = "diffusion/model.safetensors"
    assert (stopped.output / weights).read_bytes() == (whole.output / weights).read_bytes()


def test_going_on_with_nothing_or_another_recipe_is_refused(training, frames, tmp_path):
    with pytest.raises(WhiskerError, match="to resume from, got none"):
        train(training, frames, resume=True)
    (tmp_path / "resume").mkdir()
    (tmp_path / "resume" / "latest.json").write_text('{"step": 2}')
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(WhiskerError, match="the recipe that it began with"):
        train(training, frames, resume=True)
