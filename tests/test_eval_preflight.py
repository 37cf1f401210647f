from dataclasses import replace

import pytest

from eval.preflight import check_fit, check_image_size, resolve_n_action_steps
from policies.adapters import Adapters
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import PolicySpec
from policies.training_record import TrainingRecord
from sim.errors import WhiskerError

POLICY = PolicySpec(
    type="act",
    image_sizes={},
    state_dim=6,
    action_dim=6,
    chunk_size=10,
    n_action_steps=4,
    max_action_steps=10,
    stochastic=False,
)
PADDED = Adapters(allow_padding=True)


@pytest.fixture
def env(blind_env):
    return blind_env.spec


@pytest.fixture
def pose(env):
    """Return the spec of an environment whose actions are absolute poses, as in LIBERO."""
    return with_action(env, rotation="axis_angle", rotation_frame="base")


def with_action(env, **changes):
    return replace(env, action=replace(env.action, **changes))


def refused(said):
    return pytest.raises(WhiskerError, match=said)


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ({"state_dim": 14, "action_dim": 14}, r"6 numbers \(shoulder_pan\.pos.*reads 14"),
        ({"action_dim": 7}, r"expected \(horizon, 6\).*got \(10, 7\)"),
    ],
)
def test_a_policy_for_another_robot_is_refused_with_both_sides_named(env, widths, said):
    with refused(said):
        check_fit(replace(POLICY, **widths), env)


@pytest.mark.parametrize(
    ("widths", "said"),
    [
        ({"state_dim": 2}, r"reads 2 \(waist, elbow\)"),
        ({"action_dim": 2}, r"got \(10, 2\) \(waist, elbow\)"),
    ],
)
def test_what_the_numbers_of_another_width_are_is_said_where_it_is_known(env, widths, said):
    names = ("waist", "elbow")
    training = TrainingRecord(state_names=names, action_names=names)
    with refused(said):
        check_fit(replace(POLICY, **widths), env, training=training)


@pytest.mark.parametrize("widths", [{}, {"state_dim": None, "action_dim": None}])
def test_what_fits_passes(env, widths):
    check_fit(replace(POLICY, **widths), env)


def test_n_action_steps_is_the_checkpoints_unless_asked_otherwise():
    assert resolve_n_action_steps(POLICY, None) == 4
    assert resolve_n_action_steps(POLICY, 10) == 10


@pytest.mark.parametrize("asked", [0, -1, 11])
def test_n_action_steps_outside_the_chunk_is_refused(asked):
    with refused("1 to 10"):
        resolve_n_action_steps(POLICY, asked)


def test_steps_that_the_checkpoint_itself_does_not_have_are_not_said_to_be_a_flag():
    """lerobot does not compare the two numbers for its diffusion policy."""
    policy = replace(POLICY, type="diffusion", checkpoint="mine", n_action_steps=12)
    with refused(r"checkpoint 'mine', n_action_steps: expected 1 to 10.*got 12") as refusal:
        resolve_n_action_steps(policy, None)
    assert "--n-action-steps" in refusal.value.hint
    assert resolve_n_action_steps(policy, 10) == 10


def test_an_ensemble_moves_on_by_one_step_a_prediction(small_act_ensembling):
    checkpoint = open_checkpoint("act", str(small_act_ensembling))
    spec = load_lerobot_policy(checkpoint, "cpu").spec
    assert resolve_n_action_steps(spec, None) == 1
    with refused("predicts at every step"):
        resolve_n_action_steps(spec, 2)


@pytest.mark.parametrize(
    "wider",
    [
        {"state_dim": 8},
        {"action_dim": 7},
        {"state_dim": 32, "action_dim": 32},
    ],
)
def test_a_wider_policy_fits_with_padding_and_is_told_so_without(env, wider):
    policy = replace(POLICY, **wider)
    with refused("--allow-padding"):
        check_fit(policy, env)
    check_fit(policy, env, PADDED)


@pytest.mark.parametrize("adapters", [Adapters(), PADDED])
@pytest.mark.parametrize(
    "widths",
    [
        {"state_dim": 5},
        {"action_dim": 5},
        {"state_dim": 8, "action_dim": 5},
    ],
)
def test_padding_makes_no_narrower_policy_fit_and_is_not_advised(env, adapters, widths):
    """Whisker neither truncates a state nor invents an action.

    Padding would help a wider state, but not the narrower action beside it.
    """
    with refused("trained for another robot") as refusal:
        check_fit(replace(POLICY, **widths), env, adapters)
    assert "--allow-padding" not in str(refusal.value)


@pytest.mark.parametrize(
    ("needs_declared_size", "size"),
    [
        (True, (32, 48)),
        (False, (480, 640)),
        (True, None),
    ],
)
def test_another_image_size_is_accepted_where_the_layers_take_it(needs_declared_size, size):
    training = TrainingRecord(needs_declared_size=needs_declared_size)
    policy = replace(POLICY, image_sizes={"overhead_cam": (32, 48)})
    check_image_size(policy, Adapters(image_size=size), training)


def test_another_image_size_is_refused_where_the_layers_need_the_declared_one():
    training = TrainingRecord(needs_declared_size=True)
    policy = replace(POLICY, image_sizes={"overhead_cam": (32, 48)})
    with refused(r"expected 48x32, which its layers need, got 640x480\. Leave --image-size"):
        check_image_size(policy, Adapters(image_size=(480, 640)), training)


@pytest.mark.parametrize(
    ("mode", "asked"),
    [
        ("absolute", None),
        ("absolute", "absolute"),
        ("absolute", "delta"),
        ("delta", None),
        ("delta", "delta"),
    ],
)
def test_what_the_policy_outputs_is_converted(env, mode, asked):
    check_fit(POLICY, with_action(env, mode=mode), Adapters(policy_actions=asked))


def test_targets_are_not_converted_to_differences(env):
    said = r"--policy-actions absolute.*one that takes differences\. It has no absolute form"
    with refused(said):
        check_fit(POLICY, with_action(env, mode="delta"), Adapters(policy_actions="absolute"))


@pytest.mark.parametrize(("mode", "asked"), [("delta", "absolute"), ("absolute", "delta")])
def test_liberos_other_form_is_another_control(pose, mode, asked):
    libero = replace(with_action(pose, mode=mode), name="libero_goal/0")
    with refused(rf"--control {asked}\.$"):
        check_fit(POLICY, libero, Adapters(policy_actions=asked))


def test_differences_are_not_added_where_that_is_no_addition(env, pose):
    """The state can be added to the action only where both hold the same numbers.

    Rotation vectors do not add at all.
    """
    delta = Adapters(policy_actions="delta")
    with refused(r"--policy-actions delta.*Rotations do not add"):
        check_fit(POLICY, pose, delta)
    other_state = replace(env, state_names=env.state_names[::-1])
    with refused("same numbers as the action"):
        check_fit(POLICY, other_state, delta)
    check_fit(POLICY, other_state, Adapters(policy_actions="absolute"))


def test_a_gripper_range_of_one_value_is_refused(env):
    with refused(r"--gripper-range: expected two different values.*got 1 1"):
        check_fit(POLICY, env, Adapters(gripper_range=(1.0, 1.0)))
    check_fit(POLICY, env, Adapters(gripper_range=(1.0, -1.0)))


def test_a_wrong_instruction_needs_several_and_a_policy_that_reads(env):
    adapters = Adapters(wrong_instruction=True)
    reading = replace(POLICY, reads_instruction=True)
    with refused("such as so101/pick_place_words, got one instruction for all"):
        check_fit(reading, env, adapters)
    several = replace(env, instructions=("Take it.", "Leave it."))
    with refused("expected a policy that reads its instruction, got one that does not"):
        check_fit(POLICY, several, adapters)
    check_fit(reading, several, adapters)
