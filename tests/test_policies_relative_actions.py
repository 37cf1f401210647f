"""Tests checkpoints that plan differences from the state.

Their plans equal lerobot's own, row by row, and the state is added once.
"""

import json

import numpy as np
import pytest
import torch
from lerobot.policies.factory import make_pre_post_processors

from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import make_memory
from policies.random_draws import PerRowSeededRandom
from policies.relative_actions import RelativeActions, load_relative_actions
from sim.errors import WhiskerError
from sim.observation import Observation
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


@pytest.fixture(scope="module")
def relative_act(tmp_path_factory):
    folder = make_relative(
        save_small_act(tmp_path_factory.mktemp("checkpoints") / "relative", use_vae=True)
    )
    edit_statistics(folder, differences)
    return folder


@pytest.fixture(scope="module")
def relative_pi0(tmp_path_factory):
    """Return a Pi0 with relative actions, saved by lerobot itself."""
    relative = {"use_relative_actions": True, "action_feature_names": list(ACTION_NAMES)}
    return save_small_checkpoint(
        "pi0",
        tmp_path_factory.mktemp("checkpoints") / "pi0",
        **relative,
    )


def observations():
    """Yield three observations of the arm, in three poses."""
    rng = np.random.default_rng(0)
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
    return [np.random.default_rng(seed) for seed in range(3)]


def plan_with_lerobot(policy, folder, observation, seed):
    """Return lerobot's own plan, with the processors that it loads from the folder."""
    before, after = make_pre_post_processors(policy.network.config, pretrained_path=str(folder))
    batch = {f"observation.images.{c}": torch.from_numpy(i) for c, i in observation.images.items()}
    batch = {key: image.permute(2, 0, 1)[None].float() / 255 for key, image in batch.items()}
    batch |= {
        "observation.state": torch.from_numpy(observation.state)[None],
        "task": [observation.instruction],
    }
    with torch.inference_mode(), PerRowSeededRandom([np.random.default_rng(seed)]):
        return after(policy.network.predict_action_chunk(before(batch))).numpy()[0]


@pytest.mark.parametrize("checkpoint", ["relative_act", "relative_pi0"])
def test_the_plan_is_lerobots_own_for_every_row(checkpoint, request):
    folder = request.getfixturevalue(checkpoint)
    with shrunken_paligemma():
        policy = load_lerobot_policy(open_checkpoint(None, str(folder)), "cpu")
    seen = list(observations())
    expected = [
        plan_with_lerobot(policy, folder, observation, seed)
        for seed, observation in enumerate(seen)
    ]
    memories = [make_memory(observation) for observation in seen]
    together = policy.predict(
        memories, [np.random.default_rng(seed) for seed in range(len(seen))]
    ).actions
    np.testing.assert_allclose(together, expected, atol=1e-4)
    # The states differ by up to 30 degrees, so another row's state would shift the plan as much.
    for seed, memory in enumerate(memories):
        alone = policy.predict([memory], [np.random.default_rng(seed)]).actions[0]
        np.testing.assert_allclose(alone, expected[seed], atol=1e-4)


def test_a_plan_is_the_state_plus_what_the_network_plans_but_for_the_gripper(relative_act):
    """The plan is the network's plan plus the state, except for the gripper.

    The same weights and statistics also plan without the steps. The difference is the state, and
    zero for the gripper.
    """
    policy = load_lerobot_policy(open_checkpoint("act", str(relative_act)), "cpu")
    (observation, *_) = observations()
    with_state = policy.predict([make_memory(observation)], [np.random.default_rng(0)]).actions[0]
    policy._postprocessor.steps = [
        s for s in policy._postprocessor.steps if "Absolute" not in type(s).__name__
    ]
    without = policy.predict([make_memory(observation)], [np.random.default_rng(0)]).actions[0]
    added = np.where(np.arange(6) == GRIPPER, 0, observation.state)
    np.testing.assert_allclose(
        with_state - without, np.broadcast_to(added, without.shape), atol=1e-4
    )


@pytest.mark.parametrize("checkpoint", ["relative_act", "relative_pi0"])
def test_alternatives_begin_at_the_state_that_was_looked_at(checkpoint, request):
    """Alternatives begin at the given state, whatever was predicted before.

    The test samples in one pose after a prediction in another one.
    """
    with shrunken_paligemma():
        policy = load_lerobot_policy(
            open_checkpoint(None, str(request.getfixturevalue(checkpoint))), "cpu"
        )
    first, _, last = map(make_memory, observations())
    expected = policy.sample(last, make_rngs()).actions
    policy.predict([first, first], make_rngs()[:2])
    np.testing.assert_array_equal(
        policy.sample(last, make_rngs()).actions,
        expected,
    )
    if policy.spec.stochastic:  # ACT plans without a latent
        np.testing.assert_allclose(
            expected[0], policy.predict([last], make_rngs()[:1]).actions[0], atol=1e-4
        )


def test_the_files_say_what_leaves_the_postprocessor(relative_act, relative_pi0, small_act):
    for folder in (relative_act, relative_pi0):
        found = load_relative_actions(folder)
        assert (
            found == RelativeActions(True, True, ("gripper",), ACTION_NAMES)
            and found.output == "absolute"
        )
        assert [found.is_difference(i) for i in range(6)] == [True] * 5 + [False]
    assert (
        load_relative_actions(small_act) == RelativeActions() and RelativeActions().output is None
    )
    assert not RelativeActions().is_difference(0)
    policy = load_lerobot_policy(open_checkpoint("act", str(relative_act)), "cpu")
    assert policy.spec.action_mode == "absolute"


@pytest.mark.parametrize(
    ("trained", "added", "output"),
    [
        (True, True, "absolute"),
        (True, False, "delta"),
        (False, True, "absolute"),
        (False, False, None),
    ],
)
def test_steps_that_are_disabled_do_nothing(tmp_path, trained, added, output):
    folder = make_relative(
        save_small_act(tmp_path / "act"),
        trained=trained,
        added=added,
    )
    assert load_relative_actions(folder).output == output


def test_names_are_compared_as_lerobot_does(tmp_path):
    """A part of the name matches, in any case; without names every action is a difference."""
    from lerobot.processor import RelativeActionsProcessorStep

    base = save_small_act(tmp_path / "act")
    files = [base / f"policy_{part}.json" for part in ("preprocessor", "postprocessor")]
    originals = [file.read_text() for file in files]
    for names, exclude in (
        (("Left_Gripper.pos", "wrist_roll.pos"), ("GRIPPER", "")),
        (("wrist_roll.pos", "gripper"), ("wrist",)),
        ((), ("gripper",)),
        (ACTION_NAMES, ()),
    ):
        for file, original in zip(files, originals, strict=True):
            file.write_text(original)
        found = load_relative_actions(make_relative(base, names, exclude))
        step = RelativeActionsProcessorStep(
            enabled=True, exclude_joints=list(exclude), action_names=list(names)
        )
        assert [found.is_difference(i) for i in range(6)] == step._build_mask(6)


def test_a_state_that_no_step_keeps_is_refused_at_once(tmp_path):
    folder = make_relative(save_small_act(tmp_path / "act"))
    path = folder / "policy_preprocessor.json"
    pipeline = json.loads(path.read_text())
    pipeline["steps"] = [
        s for s in pipeline["steps"] if s["registry_name"] != "relative_actions_processor"
    ]
    path.write_text(json.dumps(pipeline))
    with pytest.raises(
        WhiskerError, match="expected a relative_actions_processor in policy_preprocessor"
    ):
        open_checkpoint("act", str(folder))
