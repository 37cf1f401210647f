import re
from dataclasses import replace

import pytest

from eval.preflight import check_fit, propose_camera_map, resolve_n_action_steps, select_cameras
from policies.adapters import Adapters, parse_camera_map
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import PolicySpec
from sim.errors import WhiskerError
from tests.small_checkpoints import save_small_act


def spec(**changes):
    return PolicySpec(**({"type": "act", "image_sizes": {}, "state_dim": 6, "action_dim": 6, "chunk_size": 10}
                         | {"n_action_steps": 4, "max_action_steps": 10, "stochastic": False} | changes))  # fmt: skip


def test_a_checkpoint_for_another_robot_is_refused_with_both_sides_named(blind_env, tmp_path):
    folder = save_small_act(tmp_path / "other_robot", state_dim=14, action_dim=14)
    policy = load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")
    with pytest.raises(WhiskerError, match=r"6 numbers \(shoulder_pan\.pos.*reads 14"):
        check_fit(policy.spec, blind_env.spec)


def test_an_action_of_another_width_is_refused(blind_env):
    with pytest.raises(WhiskerError, match=r"expected \(horizon, 6\).*got \(10, 7\)"):
        check_fit(spec(action_dim=7), blind_env.spec)


def test_what_fits_passes(blind_env):
    check_fit(spec(), blind_env.spec)
    check_fit(spec(state_dim=None, action_dim=None), blind_env.spec)


def test_x_vla_in_libero_is_refused_whatever_its_widths(blind_env):
    libero = replace(blind_env.spec, name="libero_goal/0")
    check_fit(spec(), libero)
    for adapters in (None, Adapters(allow_padding=True)):
        with pytest.raises(WhiskerError, match="X-VLA's own LIBERO processors"):
            check_fit(spec(type="xvla"), libero, adapters)


def test_n_action_steps_is_the_checkpoints_unless_asked_otherwise():
    assert resolve_n_action_steps(spec(), None) == 4
    assert resolve_n_action_steps(spec(), 10) == 10


@pytest.mark.parametrize("asked", [0, -1, 11])
def test_n_action_steps_outside_the_chunk_is_refused(asked):
    with pytest.raises(WhiskerError, match="1 to 10"):
        resolve_n_action_steps(spec(), asked)


def test_an_ensemble_moves_on_by_one_step_a_prediction(small_act_ensembling):
    policy = load_lerobot_policy(open_checkpoint("act", str(small_act_ensembling)), "cpu")
    assert resolve_n_action_steps(policy.spec, None) == 1
    with pytest.raises(WhiskerError, match="predicts at every step"):
        resolve_n_action_steps(policy.spec, 2)


ENV_CAMERAS = ("overhead_cam", "wrist_cam", "overhead_cam_depth", "wrist_cam_depth")


def looking(*cameras, **changes):
    """A spec that looks through these, each of a size of its own."""
    return spec(image_sizes={camera: (32 + i, 48) for i, camera in enumerate(cameras)}, **changes)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        (None, {}),
        ("", {}),
        ("overhead_cam=base_0_rgb", {"overhead_cam": "base_0_rgb"}),
        ("overhead_cam=image,wrist_cam=image2", {"overhead_cam": "image", "wrist_cam": "image2"}),
        (" overhead_cam = image , wrist_cam=image2,", {"overhead_cam": "image", "wrist_cam": "image2"}),
        ("a=b,b=a", {"a": "b", "b": "a"}),
    ],
)
def test_a_camera_map_is_read_as_written(text, pairs):
    assert parse_camera_map(text) == pairs


@pytest.mark.parametrize(
    "text", ["overhead_cam", "=image", "overhead_cam=", "a=b=c", "a=b,c", "a=b,a=c", "a=c,b=c", "a:b", " ", "a= ,b=c"]
)
def test_a_camera_map_that_is_none_is_refused_as_it_was_given(text):
    with pytest.raises(WhiskerError, match=f"--camera-map: expected env=policy.*got {re.escape(repr(text))}"):
        parse_camera_map(text)


@pytest.mark.parametrize(
    ("policy_cameras", "proposal"),
    [
        (("base_0_rgb", "left_wrist_0_rgb"), {"overhead_cam": "base_0_rgb", "wrist_cam": "left_wrist_0_rgb"}),
        (("base", "left_wrist", "right_wrist"), {"overhead_cam": "base", "wrist_cam": "left_wrist"}),
        (("image", "wrist_image"), {"overhead_cam": "image", "wrist_cam": "wrist_image"}),
        (("front", "wrist"), {"overhead_cam": "front", "wrist_cam": "wrist"}),
        (("agentview", "robot0_eye_in_hand"), {"overhead_cam": "agentview", "wrist_cam": "robot0_eye_in_hand"}),
        # Which of the two is the wrist their names do not say.
        (("image", "image2"), {"overhead_cam": "image"}),
        (("camera1", "camera2"), {"overhead_cam": "camera1"}),
        (("image",), {"overhead_cam": "image"}),
        (("gripper",), {"wrist_cam": "gripper"}),
        (("overhead_cam", "left_wrist_0_rgb"), {"overhead_cam": "overhead_cam", "wrist_cam": "left_wrist_0_rgb"}),
        (("wrist_cam", "overhead_cam"), {"overhead_cam": "overhead_cam", "wrist_cam": "wrist_cam"}),
    ],
)
def test_the_proposed_map_is_the_obvious_one(policy_cameras, proposal):
    assert propose_camera_map(policy_cameras, ENV_CAMERAS) == proposal


def test_nothing_is_proposed_where_the_environment_has_two_of_a_kind():
    assert propose_camera_map(("front", "hand"), ("left", "right")) == {}


@pytest.mark.parametrize(
    "cameras", [("base_0_rgb", "left_wrist_0_rgb"), ("image", "wrist_image"), ("front", "wrist"), ("image",)]
)
def test_other_names_are_refused_with_a_map_that_then_passes(cameras):
    policy = looking(*cameras)
    with pytest.raises(WhiskerError, match="--camera-map") as refusal:
        select_cameras(policy, Adapters(), "so101/pick_place", ENV_CAMERAS)
    assert "--allow-missing-camera" in refusal.value.do
    assert refusal.value.expected == ", ".join(cameras) and refusal.value.got == ", ".join(ENV_CAMERAS)
    proposed = parse_camera_map(re.search(r"--camera-map (\S+),", refusal.value.do)[1])
    selected = select_cameras(policy, Adapters(camera_map=proposed), "so101/pick_place", ENV_CAMERAS)
    assert selected == {env: policy.image_sizes[camera] for env, camera in proposed.items()}


def test_cameras_of_the_same_name_need_no_map_and_a_swap_swaps_their_sizes():
    policy = looking("wrist_cam", "overhead_cam")
    assert select_cameras(policy, Adapters(), "so101/pick_place", ENV_CAMERAS) == policy.image_sizes
    swap = Adapters(camera_map={"overhead_cam": "wrist_cam", "wrist_cam": "overhead_cam"})
    selected = select_cameras(policy, swap, "so101/pick_place", ENV_CAMERAS)
    assert selected == {"overhead_cam": (32, 48), "wrist_cam": (33, 48)}


def test_a_map_to_no_camera_of_the_policy_is_refused():
    adapters = Adapters(camera_map={"overhead_cam": "base"})
    with pytest.raises(WhiskerError, match="--camera-map: expected the policy's cameras: image, image2, got base"):
        select_cameras(looking("image", "image2"), adapters, "so101/pick_place", ENV_CAMERAS)


@pytest.mark.parametrize("allow", [False, True])
def test_a_misspelt_camera_of_the_environment_does_not_pass_for_a_missing_one(allow):
    adapters = Adapters(camera_map={"overhed_cam": "image"}, allow_missing_camera=allow)
    with pytest.raises(WhiskerError, match=r"--camera-map: expected cameras of 'so101/pick_place'.*got overhed_cam"):
        select_cameras(looking("image", "wrist_cam"), adapters, "so101/pick_place", ENV_CAMERAS)


@pytest.mark.parametrize("allow", [False, True])
def test_one_camera_is_not_two_of_the_policy(allow):
    """Of the two, one would be shown and the other be black."""
    adapters = Adapters(camera_map={"wrist_cam": "overhead_cam"}, allow_missing_camera=allow)
    with pytest.raises(WhiskerError, match="for the policy's 'wrist_cam' too"):
        select_cameras(looking("overhead_cam", "wrist_cam"), adapters, "so101/pick_place", ENV_CAMERAS)


def test_a_camera_may_be_missing_where_that_is_allowed_but_not_all_of_them():
    adapters = Adapters(camera_map={"overhead_cam": "image"}, allow_missing_camera=True)
    selected = select_cameras(looking("image", "image2", "image3"), adapters, "so101/pick_place", ENV_CAMERAS)
    assert selected == {"overhead_cam": (32, 48)}
    with pytest.raises(WhiskerError, match=r"got overhead_cam.*--camera-map overhead_cam=image\.$"):
        select_cameras(looking("image"), Adapters(allow_missing_camera=True), "so101/pick_place", ENV_CAMERAS)


def test_what_looks_through_no_camera_needs_none():
    assert select_cameras(spec(), Adapters(), "so101/pick_place", ENV_CAMERAS) == {}


@pytest.mark.parametrize("wider", [{"state_dim": 8}, {"action_dim": 7}, {"state_dim": 32, "action_dim": 32}])
def test_a_wider_policy_fits_with_padding_and_is_told_so_without(blind_env, wider):
    with pytest.raises(WhiskerError, match="--allow-padding"):
        check_fit(spec(**wider), blind_env.spec)
    check_fit(spec(**wider), blind_env.spec, Adapters(allow_padding=True))


@pytest.mark.parametrize("narrower", [{"state_dim": 5}, {"action_dim": 5}])
def test_padding_makes_no_narrower_policy_fit(blind_env, narrower):
    """A state is not cut, and an action is not made up."""
    for adapters in (Adapters(), Adapters(allow_padding=True)):
        with pytest.raises(WhiskerError, match="trained for another robot") as refusal:
            check_fit(spec(**narrower), blind_env.spec, adapters)
        assert "--allow-padding" not in str(refusal.value)


def in_mode(env_spec, mode, **changes):
    return replace(env_spec, action=replace(env_spec.action, mode=mode, **changes))


def test_what_the_policy_outputs_must_be_convertible(blind_env):
    absolute, delta = in_mode(blind_env.spec, "absolute"), in_mode(blind_env.spec, "delta")
    for asked in (None, "absolute", "delta"):
        check_fit(spec(), absolute, Adapters(policy_actions=asked))
    for asked in (None, "delta"):
        check_fit(spec(), delta, Adapters(policy_actions=asked))
    with pytest.raises(WhiskerError, match=r"--policy-actions absolute.*one that takes differences.*absolute form"):
        check_fit(spec(), delta, Adapters(policy_actions="absolute"))


def test_differences_are_not_added_where_that_is_no_addition(blind_env):
    """Rotation vectors do not add, and a state of other numbers is not what the action is a difference from."""
    poses = in_mode(blind_env.spec, "absolute", rotation="axis_angle", rotation_frame="base")
    with pytest.raises(WhiskerError, match=r"--policy-actions delta.*Rotations do not add"):
        check_fit(spec(), poses, Adapters(policy_actions="delta"))
    other_state = replace(blind_env.spec, state_names=blind_env.spec.state_names[::-1])
    with pytest.raises(WhiskerError, match="same numbers as the action"):
        check_fit(spec(), other_state, Adapters(policy_actions="delta"))
    check_fit(spec(), other_state, Adapters(policy_actions="absolute"))


def test_a_gripper_range_of_one_value_is_refused(blind_env):
    with pytest.raises(WhiskerError, match=r"--gripper-range: expected two different values.*got 1 1"):
        check_fit(spec(), blind_env.spec, Adapters(gripper_range=(1.0, 1.0)))
    check_fit(spec(), blind_env.spec, Adapters(gripper_range=(1.0, -1.0)))
