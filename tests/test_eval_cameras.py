from functools import partial

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


select_in_libero = partial(select, env_cameras=LIBERO_CAMERAS, env_name="libero_goal/0")


def pair(overhead=None, wrist=None):
    pairs = {"overhead_cam": overhead, "wrist_cam": wrist}
    return {env: policy for env, policy in pairs.items() if policy}


@pytest.mark.parametrize(
    ("overhead", "wrist"),
    [
        ("base_0_rgb", "left_wrist_0_rgb"),
        ("image", "wrist_image"),
        ("front", "wrist"),
        ("agentview", "robot0_eye_in_hand"),
        ("overhead_cam", "left_wrist"),
        ("overhead_cam", "wrist_cam"),
    ],
)
def test_the_proposed_map_is_the_obvious_one(overhead, wrist):
    expected = (pair(overhead, wrist), True)
    assert propose_camera_map((overhead, wrist), ENV_CAMERAS) == expected
    assert propose_camera_map((wrist, overhead), ENV_CAMERAS) == expected


@pytest.mark.parametrize(
    ("policy_cameras", "pairs", "is_sure"),
    [
        (
            ("base", "left_wrist", "right_wrist"),
            pair("base", "left_wrist"),
            True,
        ),
        # A second view of the scene does not stand in for the wrist camera.
        (("top", "front"), pair("top"), True),
        (("image",), pair("image"), True),
        (("gripper",), pair(wrist="gripper"), True),
        (("image", "image2"), pair("image", "image2"), False),
        (
            ("camera1", "camera2", "camera3"),
            pair("camera1", "camera2"),
            False,
        ),
    ],
)
def test_the_cameras_need_not_be_two_and_a_guess_is_told(policy_cameras, pairs, is_sure):
    assert propose_camera_map(policy_cameras, ENV_CAMERAS) == (pairs, is_sure)


@pytest.mark.parametrize(
    ("scene", "hand", "scene_camera"),
    [
        ("image", "wrist_image", "image"),
        ("agentview", "wrist", "image"),
        ("base_0_rgb", "left_wrist_0_rgb", "image"),
        ("frontview", "eye_in_hand", "frontview"),
        ("image", "image2", "image"),
    ],
)
def test_the_second_camera_of_libero_is_the_one_in_the_hand(scene, hand, scene_camera):
    proposed = propose_camera_map((scene, hand), LIBERO_CAMERAS, env_name="libero_goal/0")
    assert proposed == ({scene_camera: scene, "image2": hand}, True)


def test_what_the_user_gave_stays_and_is_completed():
    given = pair(wrist="camera1")
    pairs, _ = propose_camera_map(
        ("camera1", "camera2"),
        ENV_CAMERAS,
        given=given,
    )
    assert pairs == pair("camera2", "camera1")
    # If the user maps one camera to the other one's name, the other one gets the name that is left.
    given = pair(wrist="overhead_cam")
    pairs, _ = propose_camera_map(
        ("overhead_cam", "wrist_cam"),
        ENV_CAMERAS,
        given=given,
    )
    assert pairs == pair("wrist_cam", "overhead_cam")


def test_a_renamed_camera_is_known_by_the_name_that_the_dataset_gave_it():
    training = TrainingRecord(
        {"front": "camera2", "hand": "camera1"},
        cameras=frozenset({"camera1", "camera2"}),
    )
    policy_cameras = ("camera1", "camera2", "camera3")
    proposed = propose_camera_map(policy_cameras, ENV_CAMERAS, training=training)
    assert proposed == (pair("camera2", "camera1"), True)


def test_names_that_contradict_each_other_are_not_paired_and_no_flag_is_proposed():
    assert propose_camera_map(("front", "hand"), ("left", "right")) == ({}, True)
    with pytest.raises(WhiskerError, match=r"do not say which is which\. Pair them") as refusal:
        select(looking("front", "hand"), ("left", "right"))
    assert "=" not in refusal.value.hint
    assert "--allow" not in refusal.value.hint


def test_a_refusal_says_what_both_sides_have():
    with pytest.raises(WhiskerError) as refusal:
        select(looking("front", "wrist"))
    assert refusal.value.expected == "front, wrist"
    assert refusal.value.got == ", ".join(ENV_CAMERAS)
    assert refusal.value.hint == "Give --camera-map overhead_cam=front,wrist_cam=wrist."


def test_cameras_of_the_same_name_need_no_map_and_a_swap_swaps_their_sizes():
    policy = looking("wrist_cam", "overhead_cam")
    assert select(policy) == policy.image_sizes
    swapped = select(policy, camera_map=pair("wrist_cam", "overhead_cam"))
    assert swapped == {"overhead_cam": (32, 48), "wrist_cam": (33, 48)}


TO_ITSELF = {"image": "image"}
TO_ANOTHER = {"image2": "wrist_image"}


@pytest.mark.parametrize(
    "given",
    [TO_ITSELF | TO_ANOTHER, TO_ANOTHER],
)
def test_a_camera_may_be_mapped_to_its_own_name(given):
    selected = select_in_libero(looking("image", "wrist_image"), camera_map=given)
    assert selected == {"image": (32, 48), "image2": (33, 48)}


def test_a_map_that_is_not_complete_is_refused():
    with pytest.raises(WhiskerError, match=r"Give --camera-map image=image,image2=wrist_image\.$"):
        select_in_libero(looking("image", "wrist_image"), camera_map=TO_ITSELF)


def test_a_map_to_no_camera_of_the_policy_is_refused():
    said = "--camera-map: expected the policy's cameras: image, image2, got base"
    with pytest.raises(WhiskerError, match=said):
        select(
            looking("image", "image2"),
            camera_map={"overhead_cam": "base"},
        )


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize(
    ("policy_camera", "given", "said"),
    [
        (
            "image",
            {"overhed_cam": "image"},
            "--camera-map: expected cameras of 'so101/pick_place'.*got overhed_cam",
        ),
        # Otherwise one of the policy's two images would be shown and the other would be black.
        (
            "overhead_cam",
            {"wrist_cam": "overhead_cam"},
            "for the policy's 'wrist_cam' too",
        ),
    ],
)
def test_a_wrong_map_does_not_pass_for_a_missing_camera(policy_camera, given, said, allow):
    policy = looking(policy_camera, "wrist_cam")
    with pytest.raises(WhiskerError, match=said):
        select(policy, camera_map=given, allow_missing_camera=allow)


def test_a_camera_may_be_missing_where_that_is_allowed_but_not_all_of_them():
    policy = looking("image", "image2", "image3")
    given = {"overhead_cam": "image"}
    selected = select(policy, camera_map=given, allow_missing_camera=True)
    assert selected == {"overhead_cam": (32, 48)}
    with pytest.raises(WhiskerError, match=r"got overhead_cam.*--camera-map overhead_cam=image\.$"):
        select(looking("image"), allow_missing_camera=True)


def test_a_camera_without_images_in_training_may_be_missing_and_another_one_not():
    both = TrainingRecord(cameras=frozenset({"overhead_cam", "wrist_cam"}))
    selected = select(looking("overhead_cam", "wrist_cam", "third"), training=both)
    assert set(selected) == both.cameras
    left = TrainingRecord(cameras=frozenset({"left"}))
    with pytest.raises(WhiskerError, match="expected overhead_cam, left, got"):
        select(looking("overhead_cam", "left", "third"), training=left)


def test_a_camera_without_images_in_training_gives_way_to_the_one_that_was_renamed():
    """The camera that was renamed takes precedence.

    The dataset's `image` became the policy's `camera1`, so the policy's own `image` was empty.
    """
    training = TrainingRecord(
        {"image": "camera1"},
        cameras=frozenset({"camera1"}),
    )
    policy = looking("camera1", "image")
    adopted = adopt_renamed_cameras(Adapters(), training, policy, LIBERO_CAMERAS)
    assert adopted == {"image": "camera1"}
    selected = select_in_libero(policy, training=training, camera_map=adopted)
    assert selected == {"image": (32, 48)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, pair("camera1", "camera2")),
        (pair("camera1"), pair(wrist="camera2")),
        (pair(wrist="camera1"), {}),
        (pair("camera2", "camera1"), {}),
        ({"overhead_cam_depth": "camera1"}, pair(wrist="camera2")),
    ],
)
def test_the_users_word_has_precedence_over_the_checkpoints_rename_map(given, expected):
    training = TrainingRecord(pair("camera1", "camera2") | {"elsewhere": "camera3"})
    policy = looking("camera1", "camera2", "camera3")
    adapters = Adapters(camera_map=given)
    assert adopt_renamed_cameras(adapters, training, policy, ENV_CAMERAS) == expected


def test_one_size_is_given_to_all_cameras():
    sizes = select(
        looking("overhead_cam", "wrist_cam"),
        image_size=(480, 640),
    )
    assert sizes == dict.fromkeys(("overhead_cam", "wrist_cam"), (480, 640))


@pytest.mark.parametrize("wrist", ["wrist", None])
def test_what_is_accepted_is_what_is_selected(wrist):
    policy = looking("front", "wrist")
    given = pair("front", wrist)
    accepted = is_accepted(given, policy, Adapters(), "so101/pick_place", ENV_CAMERAS)
    assert accepted == (wrist is not None)


def test_what_looks_through_no_camera_needs_none():
    assert select(looking()) == {}
