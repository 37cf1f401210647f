"""Tests the conversion of joints against lerobot's own formulas.

It applies to states, plans, differences and histories.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.config import SubjectConfig
from eval.evaluation import set_up
from policies.action_chunk import ActionChunk
from policies.adapters import AdaptedPolicy, Adapters
from policies.calibration import (
    check_calibration,
    describe_calibration,
    form_in_degrees,
    make_calibration_map,
)
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.flags import make_config
from sim.observation import Observation
from sim.registry import make_env
from tests.small_checkpoints import ACTION_NAMES, HOME, make_relative, save_small_act
from tests.test_policies_adapters import FakePolicy

OLD = "so100-old"
# Each pose is (joints of the environment, joints in lerobot's old calibration). At the old zero,
# the arm was stretched out horizontally.
POSES = {
    "upright": (
        (0, 0, 0, 0, 0, 0),
        (0, 90, 90, 0, 0, 0),
    ),
    "stretched out": (
        (0, 90, -90, 0, 0, 30),
        (0, 0, 0, 0, 0, 30),
    ),
    "folded": (
        (10, -100, 95, 70, -20, 5),
        (10, 190, 185, 70, -20, 5),
    ),
}


def as_lerobot_migrates(old):
    """Convert an action that was recorded before lerobot's pull request 777.

    The formulas are those of docs/source/backwardcomp.mdx.
    """
    new = np.array(old, dtype=np.float64)
    new[..., 1] = -(new[..., 1] - 90)
    new[..., 2] -= 90
    return new


def seen(state):
    return Observation({}, np.float32(state), "tidy up")


class Echo(FakePolicy):
    """A policy that plans the state it is shown, with twice that state as an intermediate plan."""

    def predict(self, memories, rngs):
        super().predict(memories, rngs)
        states = np.stack([memory.present.state for memory in memories])[:, None]
        return ActionChunk(states, 2 * states[:, None])


def predict(policy, *observations):
    memory = make_memory(*observations, n_obs_steps=len(observations))
    return policy.predict([memory], [np.random.default_rng(0)])


def predict_adapted(policy, spec, *states, **adapters):
    """Return what the policy plans in an environment that is in these states."""
    adapted = AdaptedPolicy(
        policy,
        Adapters(calibration=OLD, **adapters),
        spec,
    )
    return predict(adapted, *map(seen, states))


def fake(chunk, state_dim=6, **changes):
    return FakePolicy(
        [chunk],
        image_sizes={},
        state_dim=state_dim,
        **changes,
    )


@pytest.fixture
def spec(blind_env):
    return blind_env.spec


@pytest.mark.parametrize(
    ("ours", "theirs"),
    POSES.values(),
    ids=POSES,
)
def test_state_and_plan_are_converted_as_lerobot_does(spec, ours, theirs):
    assert_array_equal(as_lerobot_migrates(theirs), ours)
    policy = fake(theirs)
    plan = predict_adapted(policy, spec, ours)[0]
    assert_array_equal(plan, [ours])
    shown = policy.shown[0][0].state
    assert_array_equal(shown, theirs)
    assert plan.dtype == shown.dtype == np.float32


def test_the_two_directions_cancel(spec):
    state = np.random.default_rng(0).uniform(-100, 100, 6).astype(np.float32)
    policy = Echo(image_sizes={}, state_dim=6, action_dim=6)
    chunk = predict_adapted(policy, spec, state)
    assert_allclose(chunk.actions[0, 0], state, atol=2e-5)
    # An intermediate plan is converted as a plan is. It is twice the old numbers.
    theirs = make_calibration_map(OLD, ACTION_NAMES).to_policy(state)
    intermediate = chunk.intermediate_plans[0, 0, 0]
    assert_allclose(intermediate, as_lerobot_migrates(2 * theirs), atol=5e-5)


def test_a_history_is_converted_as_a_whole(spec):
    policy = fake([0] * 6, n_obs_steps=2)
    ours, theirs = zip(
        POSES["upright"],
        POSES["folded"],
        strict=True,
    )
    predict_adapted(policy, spec, *ours)
    assert_array_equal([each.state for each in policy.shown[0]], theirs)


def test_a_difference_turns_and_has_no_offset(spec):
    ours, theirs = POSES["folded"]
    target = np.add(theirs, (1, 2, 3, 4, 5, 0))
    difference = target - theirs
    target[5] = difference[5] = 55  # the gripper's value is a target
    plan = predict_adapted(
        fake(difference),
        spec,
        ours,
        policy_actions="delta",
    )[0]
    assert_array_equal(plan, [as_lerobot_migrates(target)])


def test_an_environment_of_differences_gets_them_turned(spec):
    in_deltas = replace(spec, action=replace(spec.action, mode="delta"))
    plan = predict_adapted(
        fake([1, 2, 3, 4, 5, 6]),
        in_deltas,
        [0] * 6,
    )[0]
    assert_array_equal(plan, [[1, -2, 3, 4, 5, 6]])


def test_a_checkpoint_that_adds_the_state_itself_adds_the_old_one(spec, tmp_path):
    """A checkpoint with lerobot's relative actions adds the state that the policy was shown.

    That state is in the old calibration.
    """
    folder = make_relative(save_small_act(tmp_path / "act", use_vae=True))
    policy = load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")
    images = {name: np.full((32, 32, 3), 90, np.uint8) for name in policy.spec.image_sizes}
    ours = Observation(images, np.float32(HOME), "pick")
    state = make_calibration_map(OLD, ACTION_NAMES).to_policy(ours.state)
    assert_allclose(as_lerobot_migrates(state), HOME, atol=1e-5)
    expected = as_lerobot_migrates(predict(policy, replace(ours, state=state))[0])
    blind = replace(spec, cameras=())
    adapted = AdaptedPolicy(policy, Adapters(calibration=OLD), blind)
    assert_allclose(
        predict(adapted, ours)[0],
        expected,
        atol=1e-4,
    )


def test_it_comes_before_padding_and_leaves_the_gripper_to_its_own_flag(spec):
    policy = fake(
        [0, 90, 90, 0, 0, 0.25, 7],
        state_dim=8,
    )
    state = (0, 0, 0, 0, 0, 50)
    plan = predict_adapted(
        policy,
        spec,
        state,
        allow_padding=True,
        gripper_range=(0.0, 1.0),
    )[0]
    assert_allclose(
        policy.shown[0][0].state,
        [0, 90, 90, 0, 0, 0.5, 0, 0],
        atol=1e-6,
    )
    assert_allclose(
        plan,
        [[0, 0, 0, 0, 0, 25]],
        atol=1e-5,
    )


def test_the_formulas_are_said():
    assert describe_calibration(OLD) == "shoulder_lift = 90 - x, elbow_flex = x + 90"


def test_joints_in_degrees_are_converted(spec):
    check_calibration(OLD, spec)
    assert form_in_degrees(spec) == "so101/pick_place"


def test_joints_in_another_unit_are_refused():
    in_range = make_env("so101/pick_place_range", {}).spec
    said = r"in degrees.*got these joints in range_m100_100.*--env so101/pick_place\."
    with pytest.raises(WhiskerError, match=said):
        check_calibration(OLD, in_range)
    own_scene = replace(in_range, name="so101/pick_place_range@own.xml")
    assert form_in_degrees(own_scene) == "so101/pick_place@own.xml"


def test_poses_are_refused(spec):
    poses = make_env("so101/pick_place_ee", {}).spec
    with pytest.raises(WhiskerError, match=r"got state ee\.x, .*Leave --calibration out"):
        check_calibration(OLD, poses)
    # Joints that are only in the actions cannot be shown to the policy.
    half = replace(
        spec,
        state_names=poses.state_names,
        state_units=poses.state_units,
    )
    with pytest.raises(WhiskerError, match=r"in the state and in the actions"):
        check_calibration(OLD, half)


def test_a_policy_without_a_checkpoint_has_no_calibration():
    with pytest.raises(WhiskerError, match="expected no --checkpoint and no adapter"):
        set_up(make_config(SubjectConfig, policy="scripted", calibration=OLD))
