import pytest

from eval.cameras import adopt_renamed_cameras, is_accepted, propose_camera_map, select_cameras
from policies.adapters import Adapters
from policies.policy import PolicySpec
from policies.training_record import TrainingRecord
from sim.errors import WhiskerError
from sim.libero_bench.conventions import CAMERA_NAMES as LIBERO_CAMERAS

ENV_CAMERAS = ("overhead_cam", "wrist_cam", "overhead_cam_depth", "wrist_cam_depth")


def looking(*cameras):
    """Return the spec of a policy that uses these cameras, each with its own image size."""
    sizes = {camera: (32 + i, 48) for i, camera in enumerate(cameras)}
    return PolicySpec(
        "act", sizes, 6, 6, chunk_size=10, n_action_steps=4, max_action_steps=10, stochastic=False
    )


def select(policy, env_cameras=ENV_CAMERAS, env_name="so101/pick_place", training=None, **adapters):
    return select_cameras(
        policy,
        Adapters(**adapters),
        env_name,
        env_cameras,
        training,
    )


@pytest.mark.parametrize(
    ("policy_cameras", "pairs", "follows_from_names"),
    [
        (
            ("base_0_rgb", "left_wrist_0_rgb"),
            {"overhead_cam": "base_0_rgb", "wrist_cam": "left_wrist_0_rgb"},
            True,
        ),
        (
            ("base", "left_wrist", "right_wrist"),
            {"overhead_cam": "base", "wrist_cam": "left_wrist"},
            True,
        ),
        (
            ("image", "wrist_image"),
            {
                "overhead_cam": "image",
                "wrist_cam": "wrist_image",
            },
            True,
        ),
        (
            ("front", "wrist"),
            {
                "overhead_cam": "front",
                "wrist_cam": "wrist",
            },
            True,
        ),
        (
            ("agentview", "robot0_eye_in_hand"),
            {"overhead_cam": "agentview", "wrist_cam": "robot0_eye_in_hand"},
            True,
        ),
        (
            ("image", "image2"),
            {
                "overhead_cam": "image",
                "wrist_cam": "image2",
            },
            False,
        ),
        (
            ("camera1", "camera2", "camera3"),
            {"overhead_cam": "camera1", "wrist_cam": "camera2"},
            False,
        ),
        # A second view of the scene does not stand in for the wrist camera.
        (("top", "front"), {"overhead_cam": "top"}, True),
        (("image",), {"overhead_cam": "image"}, True),
        (("gripper",), {"wrist_cam": "gripper"}, True),
        (
            ("overhead_cam", "left_wrist"),
            {"overhead_cam": "overhead_cam", "wrist_cam": "left_wrist"},
            True,
        ),
        (
            ("wrist_cam", "overhead_cam"),
            {"overhead_cam": "overhead_cam", "wrist_cam": "wrist_cam"},
            True,
        ),
    ],
)
def test_the_proposed_map_is_the_obvious_one_and_a_guess_is_told_from_it(
    policy_cameras, pairs, follows_from_names
):
    assert propose_camera_map(policy_cameras, ENV_CAMERAS) == (pairs, follows_from_names)


@pytest.mark.parametrize(
    ("policy_cameras", "pairs"),
    [
        (
            ("image", "wrist_image"),
            {
                "image": "image",
                "image2": "wrist_image",
            },
        ),
        (
            ("agentview", "wrist"),
            {
                "image": "agentview",
                "image2": "wrist",
            },
        ),
        (
            ("base_0_rgb", "left_wrist_0_rgb"),
            {
                "image": "base_0_rgb",
                "image2": "left_wrist_0_rgb",
            },
        ),
        (
            ("frontview", "eye_in_hand"),
            {
                "image2": "eye_in_hand",
                "frontview": "frontview",
            },
        ),
        (
            ("image", "image2"),
            {
                "image": "image",
                "image2": "image2",
            },
        ),
    ],
)
def test_the_second_camera_of_libero_is_the_one_in_the_hand(policy_cameras, pairs):
    assert propose_camera_map(policy_cameras, LIBERO_CAMERAS, env_name="libero_goal/0") == (
        pairs,
        True,
    )


def test_what_the_user_gave_stays_and_is_completed():
    given = {"wrist_cam": "camera1"}
    pairs, _ = propose_camera_map(("camera1", "camera2"), ENV_CAMERAS, given=given)
    assert pairs == {"overhead_cam": "camera2", "wrist_cam": "camera1"}
    # If the user maps one camera to the other one's name, the other one gets the name that is left.
    pairs, _ = propose_camera_map(
        ("overhead_cam", "wrist_cam"), ENV_CAMERAS, given={"wrist_cam": "overhead_cam"}
    )
    assert pairs == {"overhead_cam": "wrist_cam", "wrist_cam": "overhead_cam"}


def test_a_renamed_camera_is_known_by_the_name_that_the_dataset_gave_it():
    training = TrainingRecord(
        {
            "front": "camera2",
            "hand": "camera1",
        },
        cameras=frozenset({"camera1", "camera2"}),
    )
    pairs, is_sure = propose_camera_map(
        ("camera1", "camera2", "camera3"), ENV_CAMERAS, training=training
    )
    assert pairs == {"overhead_cam": "camera2", "wrist_cam": "camera1"} and is_sure


def test_names_that_contradict_each_other_are_not_paired_and_no_flag_is_proposed():
    assert propose_camera_map(("front", "hand"), ("left", "right")) == ({}, True)
    with pytest.raises(WhiskerError, match=r"do not say which is which\. Pair them") as refusal:
        select(looking("front", "hand"), ("left", "right"))
    assert "=" not in refusal.value.hint and "--allow" not in refusal.value.hint


def test_a_refusal_says_what_both_sides_have():
    with pytest.raises(WhiskerError) as refusal:
        select(looking("front", "wrist"))
    assert refusal.value.expected == "front, wrist" and refusal.value.got == ", ".join(ENV_CAMERAS)
    assert refusal.value.hint == "Give --camera-map overhead_cam=front,wrist_cam=wrist."


def test_cameras_of_the_same_name_need_no_map_and_a_swap_swaps_their_sizes():
    policy = looking("wrist_cam", "overhead_cam")
    assert select(policy) == policy.image_sizes
    swapped = select(
        policy,
        camera_map={"overhead_cam": "wrist_cam", "wrist_cam": "overhead_cam"},
    )
    assert swapped == {
        "overhead_cam": (32, 48),
        "wrist_cam": (33, 48),
    }


@pytest.mark.parametrize(
    "given",
    [
        ("image",),
        ("image", "wrist_image"),
        ("wrist_image",),
    ],
)
def test_a_camera_may_be_mapped_to_its_own_name(given):
    whole = {"image": "image", "image2": "wrist_image"}
    policy = looking("image", "wrist_image")
    part = {env: camera for env, camera in whole.items() if camera in given}
    if "wrist_image" in given:
        assert select(policy, LIBERO_CAMERAS, "libero_goal/0", camera_map=part) == {
            "image": (32, 48),
            "image2": (33, 48),
        }
        return
    with pytest.raises(WhiskerError, match=r"Give --camera-map image=image,image2=wrist_image\.$"):
        select(policy, LIBERO_CAMERAS, "libero_goal/0", camera_map=part)


def test_a_map_to_no_camera_of_the_policy_is_refused():
    with pytest.raises(
        WhiskerError, match="--camera-map: expected the policy's cameras: image, image2, got base"
    ):
        select(looking("image", "image2"), camera_map={"overhead_cam": "base"})


@pytest.mark.parametrize("allow", [False, True])
def test_a_misspelt_camera_of_the_environment_does_not_pass_for_a_missing_one(allow):
    with pytest.raises(
        WhiskerError, match=r"--camera-map: expected cameras of 'so101/pick_place'.*got overhed_cam"
    ):
        select(
            looking("image", "wrist_cam"),
            camera_map={"overhed_cam": "image"},
            allow_missing_camera=allow,
        )


@pytest.mark.parametrize("allow", [False, True])
def test_one_camera_is_not_two_of_the_policy(allow):
    """Otherwise one of the policy's two images would be shown and the other would be black."""
    given = {"wrist_cam": "overhead_cam"}
    with pytest.raises(WhiskerError, match="for the policy's 'wrist_cam' too"):
        select(
            looking("overhead_cam", "wrist_cam"),
            camera_map=given,
            allow_missing_camera=allow,
        )


def test_a_camera_may_be_missing_where_that_is_allowed_but_not_all_of_them():
    given = {"overhead_cam": "image"}
    selected = select(
        looking("image", "image2", "image3"), camera_map=given, allow_missing_camera=True
    )
    assert selected == {"overhead_cam": (32, 48)}
    with pytest.raises(WhiskerError, match=r"got overhead_cam.*--camera-map overhead_cam=image\.$"):
        select(looking("image"), allow_missing_camera=True)


def test_a_camera_without_images_in_training_may_be_missing_and_another_one_not():
    training = TrainingRecord(cameras=frozenset({"overhead_cam", "wrist_cam"}))
    assert set(
        select(
            looking("overhead_cam", "wrist_cam", "third"),
            training=training,
        )
    ) == {
        "overhead_cam",
        "wrist_cam",
    }
    with pytest.raises(WhiskerError, match="expected overhead_cam, left, got"):
        select(
            looking("overhead_cam", "left", "third"),
            training=TrainingRecord(cameras=frozenset({"left"})),
        )


def test_a_camera_without_images_in_training_gives_way_to_the_one_that_was_renamed():
    """The camera that was renamed takes precedence.

    The dataset's `image` became the policy's `camera1`, so the policy's own `image` was empty.
    """
    training = TrainingRecord({"image": "camera1"}, cameras=frozenset({"camera1"}))
    policy = looking("camera1", "image")
    adopted = adopt_renamed_cameras(Adapters(), training, policy, LIBERO_CAMERAS)
    assert adopted == {"image": "camera1"}
    assert select(
        policy,
        LIBERO_CAMERAS,
        "libero_goal/0",
        training,
        camera_map=adopted,
    ) == {"image": (32, 48)}


@pytest.mark.parametrize(
    ("given", "adopted"),
    [
        ({}, {"overhead_cam": "camera1", "wrist_cam": "camera2"}),
        ({"overhead_cam": "camera1"}, {"wrist_cam": "camera2"}),
        ({"wrist_cam": "camera1"}, {}),
        ({"wrist_cam": "camera1", "overhead_cam": "camera2"}, {}),
        ({"overhead_cam_depth": "camera1"}, {"wrist_cam": "camera2"}),
    ],
)
def test_the_users_word_has_precedence_over_the_checkpoints_rename_map(given, adopted):
    training = TrainingRecord(
        {"overhead_cam": "camera1", "wrist_cam": "camera2", "elsewhere": "camera3"}
    )
    policy = looking("camera1", "camera2", "camera3")
    assert (
        adopt_renamed_cameras(
            Adapters(camera_map=given),
            training,
            policy,
            ENV_CAMERAS,
        )
        == adopted
    )


def test_one_size_is_given_to_all_cameras():
    assert select(
        looking("overhead_cam", "wrist_cam"),
        image_size=(480, 640),
    ) == {
        "overhead_cam": (480, 640),
        "wrist_cam": (480, 640),
    }


def test_what_is_accepted_is_what_is_selected():
    policy = looking("front", "wrist")
    adapters = Adapters()
    whole = {"overhead_cam": "front", "wrist_cam": "wrist"}
    assert is_accepted(whole, policy, adapters, "so101/pick_place", ENV_CAMERAS)
    assert not is_accepted(
        {"overhead_cam": "front"}, policy, adapters, "so101/pick_place", ENV_CAMERAS
    )


def test_what_looks_through_no_camera_needs_none():
    assert select(looking()) == {}
