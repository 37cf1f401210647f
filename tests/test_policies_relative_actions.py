"""Tests checkpoints that plan differences from the state.

Their plans equal lerobot's own, row by row, and the state is added once.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from lerobot.policies.factory import make_pre_post_processors
from lerobot.processor import RelativeActionsProcessorStep
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal

from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import make_memory
from policies.random_draws import PerRowSeededRandom
from policies.relative_actions import RelativeActions, load_relative_actions
from sim.errors import WhiskerError
from sim.observation import Observation
from tests.lerobot_batches import make_lerobot_batch
from tests.small_checkpoints import (
    ACTION_NAMES,
    CAMERAS,
    HOME,
    edit_statistics,
    make_relative,
    save_small_act,
    save_small_checkpoint,
    shrunken_paligemma,
)

GRIPPER = 5


def differences(name, value):
    """Return the statistics of an action that is relative, except for its gripper."""
    if name in ("action.mean", "action.min", "action.max", "action.q01", "action.q99"):
        value = value - np.float32(HOME) * (np.arange(6) != GRIPPER)
    return value.astype(value.dtype)


@pytest.fixture(scope="module", params=["act", "pi0"])
def checkpoint(request, tmp_path_factory):
    """Return a checkpoint with relative actions; lerobot itself saves that of Pi0."""
    folder = tmp_path_factory.mktemp("checkpoints") / "relative"
    if request.param == "act":
        make_relative(save_small_act(folder, use_vae=True))
        edit_statistics(folder, differences)
        return folder
    relative = {"use_relative_actions": True, "action_feature_names": list(ACTION_NAMES)}
    return save_small_checkpoint("pi0", folder, **relative)


@pytest.fixture
def policy(checkpoint):
    with shrunken_paligemma():
        return load_lerobot_policy(open_checkpoint(None, str(checkpoint)), "cpu")


@pytest.fixture
def copied(small_act, tmp_path):
    return shutil.copytree(small_act, tmp_path / "act")


def observations():
    """Yield three observations of the arm, in three poses."""
    rng = default_rng(0)
    for offset in (0, 10, -20):
        images = {
            camera: rng.integers(
                0,
                256,
                (32, 32, 3),
                dtype=np.uint8,
            )
            for camera in CAMERAS
        }
        yield Observation(
            images,
            np.float32(HOME) + np.float32(offset),
            "pick",
        )


def make_rngs():
    return [default_rng(seed) for seed in range(3)]


def plan_with_lerobot(policy, folder, observation, seed):
    """Return lerobot's own plan, with the processors that it loads from the folder."""
    before, after = make_pre_post_processors(policy.network.config, pretrained_path=str(folder))
    batch = before(make_lerobot_batch(observation))
    with torch.inference_mode(), PerRowSeededRandom([default_rng(seed)]):
        return after(policy.network.predict_action_chunk(batch)).numpy()[0]


def test_the_plan_is_lerobots_own_for_every_row(policy, checkpoint):
    seen = list(observations())
    memories = list(map(make_memory, seen))
    together = policy.predict(memories, make_rngs()).actions
    # The states differ by up to 30 degrees, so another row's state would shift the plan as much.
    for row, memory in enumerate(memories):
        expected = plan_with_lerobot(
            policy,
            checkpoint,
            seen[row],
            seed=row,
        )
        alone = policy.predict([memory], [default_rng(row)]).actions[0]
        assert_allclose(together[row], expected, atol=1e-4)
        assert_allclose(alone, expected, atol=1e-4)


def test_alternatives_begin_at_the_state_that_was_looked_at(policy):
    """Alternatives begin at the given state, whatever was predicted before.

    The test samples in one pose after a prediction in another one.
    """
    first, _, last = map(make_memory, observations())
    expected = policy.sample(last, make_rngs()).actions
    policy.predict([first, first], make_rngs()[:2])
    assert_array_equal(
        policy.sample(last, make_rngs()).actions,
        expected,
    )
    if policy.spec.stochastic:  # ACT plans without a latent
        assert_allclose(
            expected[0],
            policy.predict([last], make_rngs()[:1]).actions[0],
            atol=1e-4,
        )


def test_the_files_say_what_leaves_the_postprocessor(checkpoint, policy):
    found = load_relative_actions(checkpoint)
    assert found == RelativeActions(True, True, ("gripper",), ACTION_NAMES)
    assert [found.is_difference(i) for i in range(6)] == [True] * 5 + [False]
    assert found.output == policy.spec.action_mode == "absolute"


def test_a_checkpoint_without_the_steps_has_no_differences(small_act):
    found = load_relative_actions(small_act)
    assert found == RelativeActions() and found.output is None and not found.is_difference(0)


@pytest.mark.parametrize(
    ("trained", "added", "output"),
    [
        (True, True, "absolute"),
        (True, False, "delta"),
        (False, True, "absolute"),
        (False, False, None),
    ],
)
def test_steps_that_are_disabled_do_nothing(copied, trained, added, output):
    make_relative(copied, trained=trained, added=added)
    assert load_relative_actions(copied).output == output


@pytest.mark.parametrize(
    ("names", "exclude"),
    [
        (["Left_Gripper.pos", "wrist_roll.pos"], ["GRIPPER", ""]),
        (["wrist_roll.pos", "gripper"], ["wrist"]),
        ([], ["gripper"]),
        (list(ACTION_NAMES), []),
    ],
)
def test_names_are_compared_as_lerobot_does(names, exclude, copied):
    """A part of the name matches, in any case; without names every action is a difference."""
    found = load_relative_actions(make_relative(copied, names, exclude))
    step = RelativeActionsProcessorStep(True, exclude, names)
    assert [found.is_difference(i) for i in range(6)] == step._build_mask(6)


def test_a_state_that_no_step_keeps_is_refused_at_once(copied):
    path = make_relative(copied) / "policy_preprocessor.json"
    pipeline = json.loads(path.read_text())
    names = [step["registry_name"] for step in pipeline["steps"]]
    del pipeline["steps"][names.index("relative_actions_processor")]
    path.write_text(json.dumps(pipeline))
    with pytest.raises(
        WhiskerError, match="expected a relative_actions_processor in policy_preprocessor"
    ):
        open_checkpoint("act", str(copied))
