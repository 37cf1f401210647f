from dataclasses import replace

import pytest

from eval.preflight import check_fit, check_image_size, resolve_n_action_steps
from policies.adapters import Adapters
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import PolicySpec
from policies.training_record import TrainingRecord
from sim.errors import WhiskerError
from tests.small_checkpoints import save_small_act


def spec(**changes):
    return PolicySpec(
        **(
            {
                "type": "act",
                "image_sizes": {},
                "state_dim": 6,
                "action_dim": 6,
                "chunk_size": 10,
            }
            | {"n_action_steps": 4, "max_action_steps": 10, "stochastic": False}
            | changes
        )
    )


def test_a_checkpoint_for_another_robot_is_refused_with_both_sides_named(blind_env, tmp_path):
    folder = save_small_act(tmp_path / "other_robot", state_dim=14, action_dim=14)
    policy = load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")
    with pytest.raises(WhiskerError, match=r"6 numbers \(shoulder_pan\.pos.*reads 14"):
        check_fit(policy.spec, blind_env.spec)


def test_what_the_numbers_of_another_width_are_is_said_where_it_is_known(blind_env):
    training = TrainingRecord(
        state_names=("waist", "elbow"),
        action_names=("waist", "elbow"),
    )
    with pytest.raises(WhiskerError, match=r"reads 2 \(waist, elbow\)"):
        check_fit(spec(state_dim=2), blind_env.spec, training=training)
    with pytest.raises(WhiskerError, match=r"got \(10, 2\) \(waist, elbow\)"):
        check_fit(spec(action_dim=2), blind_env.spec, training=training)


def test_an_action_of_another_width_is_refused(blind_env):
    with pytest.raises(WhiskerError, match=r"expected \(horizon, 6\).*got \(10, 7\)"):
        check_fit(spec(action_dim=7), blind_env.spec)


def test_what_fits_passes(blind_env):
    check_fit(spec(), blind_env.spec)
    check_fit(
        spec(state_dim=None, action_dim=None),
        blind_env.spec,
    )


def test_x_vla_in_libero_is_refused_whatever_its_widths(blind_env):
    libero = replace(blind_env.spec, name="libero_goal/0")
    check_fit(spec(), libero)
    for adapters in (None, Adapters(allow_padding=True)):
        with pytest.raises(WhiskerError, match="X-VLA's own LIBERO processors"):
            check_fit(spec(type="xvla"), libero, adapters)


def test_n_action_steps_is_the_checkpoints_unless_asked_otherwise():
    assert resolve_n_action_steps(spec(), None) == 4
    assert resolve_n_action_steps(spec(), 10) == 10


@pytest.mark.parametrize(
    "asked",
    [0, -1, 11],
)
def test_n_action_steps_outside_the_chunk_is_refused(asked):
    with pytest.raises(WhiskerError, match="1 to 10"):
        resolve_n_action_steps(spec(), asked)


def test_steps_that_the_checkpoint_itself_does_not_have_are_not_said_to_be_a_flag():
    """lerobot does not compare the two numbers for its diffusion policy."""
    policy = spec(type="diffusion", checkpoint="mine", n_action_steps=12)
    with pytest.raises(
        WhiskerError, match=r"checkpoint 'mine', n_action_steps: expected 1 to 10.*got 12"
    ) as refusal:
        resolve_n_action_steps(policy, None)
    assert "--n-action-steps" in refusal.value.hint and resolve_n_action_steps(policy, 10) == 10


def test_an_ensemble_moves_on_by_one_step_a_prediction(small_act_ensembling):
    policy = load_lerobot_policy(open_checkpoint("act", str(small_act_ensembling)), "cpu")
    assert resolve_n_action_steps(policy.spec, None) == 1
    with pytest.raises(WhiskerError, match="predicts at every step"):
        resolve_n_action_steps(policy.spec, 2)


@pytest.mark.parametrize(
    "wider",
    [
        {"state_dim": 8},
        {"action_dim": 7},
        {"state_dim": 32, "action_dim": 32},
    ],
)
def test_a_wider_policy_fits_with_padding_and_is_told_so_without(blind_env, wider):
    with pytest.raises(WhiskerError, match="--allow-padding"):
        check_fit(spec(**wider), blind_env.spec)
    check_fit(spec(**wider), blind_env.spec, Adapters(allow_padding=True))


@pytest.mark.parametrize(
    "narrower",
    [{"state_dim": 5}, {"action_dim": 5}],
)
def test_padding_makes_no_narrower_policy_fit(blind_env, narrower):
    """Whisker neither truncates a state nor invents an action."""
    for adapters in (Adapters(), Adapters(allow_padding=True)):
        with pytest.raises(WhiskerError, match="trained for another robot") as refusal:
            check_fit(spec(**narrower), blind_env.spec, adapters)
        assert "--allow-padding" not in str(refusal.value)


def test_padding_is_advised_only_where_it_is_accepted(blind_env):
    """Padding would help the wider state, but not the narrower action."""
    with pytest.raises(WhiskerError, match="trained for another robot") as refusal:
        check_fit(
            spec(state_dim=8, action_dim=5),
            blind_env.spec,
        )
    assert "--allow-padding" not in str(refusal.value)


@pytest.mark.parametrize(
    ("needs", "size", "accepted"),
    [
        (True, (480, 640), False),
        (True, (32, 48), True),
        (False, (480, 640), True),
        (True, None, True),
    ],
)
def test_another_image_size_is_refused_where_the_layers_need_the_declared_one(
    needs, size, accepted
):
    policy = spec(image_sizes={"overhead_cam": (32, 48)})
    training = TrainingRecord(needs_declared_size=needs)
    if accepted:
        check_image_size(policy, Adapters(image_size=size), training)
        return
    with pytest.raises(
        WhiskerError,
        match=r"expected 48x32, which its layers need, got 640x480\. Leave --image-size",
    ):
        check_image_size(policy, Adapters(image_size=size), training)


def in_mode(env_spec, mode, **changes):
    return replace(
        env_spec,
        action=replace(env_spec.action, mode=mode, **changes),
    )


def test_what_the_policy_outputs_must_be_convertible(blind_env):
    absolute = in_mode(blind_env.spec, "absolute")
    delta = in_mode(blind_env.spec, "delta")
    for asked in (None, "absolute", "delta"):
        check_fit(spec(), absolute, Adapters(policy_actions=asked))
    for asked in (None, "delta"):
        check_fit(spec(), delta, Adapters(policy_actions=asked))
    with pytest.raises(
        WhiskerError,
        match=r"--policy-actions absolute.*one that takes differences\. It has no absolute form",
    ):
        check_fit(spec(), delta, Adapters(policy_actions="absolute"))


@pytest.mark.parametrize(
    ("mode", "asked", "other"),
    [
        ("delta", "absolute", "absolute"),
        ("absolute", "delta", "delta"),
    ],
)
def test_liberos_other_form_is_another_control(blind_env, mode, asked, other):
    pose = in_mode(
        blind_env.spec,
        mode,
        rotation="axis_angle",
        rotation_frame="base",
    )
    with pytest.raises(WhiskerError, match=rf"--control {other}\.$"):
        check_fit(
            spec(),
            replace(pose, name="libero_goal/0"),
            Adapters(policy_actions=asked),
        )


def test_differences_are_not_added_where_that_is_no_addition(blind_env):
    """The state can be added to the action only where both hold the same numbers.

    Rotation vectors do not add at all.
    """
    poses = in_mode(
        blind_env.spec,
        "absolute",
        rotation="axis_angle",
        rotation_frame="base",
    )
    with pytest.raises(WhiskerError, match=r"--policy-actions delta.*Rotations do not add"):
        check_fit(spec(), poses, Adapters(policy_actions="delta"))
    other_state = replace(
        blind_env.spec,
        state_names=blind_env.spec.state_names[::-1],
    )
    with pytest.raises(WhiskerError, match="same numbers as the action"):
        check_fit(spec(), other_state, Adapters(policy_actions="delta"))
    check_fit(spec(), other_state, Adapters(policy_actions="absolute"))


def test_a_gripper_range_of_one_value_is_refused(blind_env):
    with pytest.raises(
        WhiskerError, match=r"--gripper-range: expected two different values.*got 1 1"
    ):
        check_fit(
            spec(),
            blind_env.spec,
            Adapters(gripper_range=(1.0, 1.0)),
        )
    check_fit(
        spec(),
        blind_env.spec,
        Adapters(gripper_range=(1.0, -1.0)),
    )


def test_a_wrong_instruction_needs_several_and_a_policy_that_reads(blind_env):
    adapters = Adapters(wrong_instruction=True)
    with pytest.raises(
        WhiskerError, match="such as so101/pick_place_words, got one instruction for all"
    ):
        check_fit(spec(reads_instruction=True), blind_env.spec, adapters)
    several = replace(blind_env.spec, instructions=("Take it.", "Leave it."))
    with pytest.raises(
        WhiskerError, match="expected a policy that reads its instruction, got one that does not"
    ):
        check_fit(spec(), several, adapters)
    check_fit(spec(reads_instruction=True), several, adapters)
