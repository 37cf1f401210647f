"""Matches the environment's cameras with the policy's, or proposes flags that do."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from policies.adapters import Adapters, format_camera_map
from policies.declared_policy import DeclaredPolicy
from policies.policy import PolicySpec
from policies.training_record import TrainingRecord
from sim.errors import WhiskerError
from sim.registry import family_of

# Words in the names of cameras on the hand.
_ON_THE_HAND = ("wrist", "hand", "gripper")
# Names that do not say where the camera is: camera1, image2, cam_b.
_NEUTRAL = re.compile(r"(image|img|camera|cam|rgb|view)_?(\d*|[a-z])")
_UNCLEAR = "Their names do not say which is which."


def adopt_renamed_cameras(
    adapters: Adapters,
    training: TrainingRecord,
    policy: PolicySpec | DeclaredPolicy,
    env_cameras: Sequence[str],
) -> dict[str, str]:
    """Return the pairs (environment's camera → policy's) of the checkpoint's rename map.

    A dataset whose cameras have the environment's names was recorded with these cameras. A pair
    that the user gave for one of the two takes precedence.
    """
    given = adapters.camera_map
    adopted = {}
    for camera, name in training.renamed.items():
        both_exist = camera in env_cameras and name in policy.image_sizes
        is_given = camera in given or name in given.values()
        if both_exist and not is_given and camera != name:
            adopted[camera] = name
    return adopted


def select_cameras(
    policy: PolicySpec | DeclaredPolicy,
    adapters: Adapters,
    env_name: str,
    env_cameras: Sequence[str],
    training: TrainingRecord | None = None,
) -> dict[str, tuple[int, int]]:
    """Return the environment's cameras to observe → (height_px, width_px), at the policy's sizes.

    Args:
        env_cameras: all cameras of the environment.
        training: the checkpoint's record of its training. A camera without images in training may
            be missing.

    Raises:
        WhiskerError: a camera is missing, or the map is wrong; the message proposes flags that are
            accepted, if there are any.
    """
    training = training or TrainingRecord()
    try:
        return _select(policy, adapters, env_name, env_cameras, training)
    except WhiskerError as refusal:
        raise WhiskerError(
            refusal.subject,
            expected=refusal.expected,
            got=refusal.got,
            hint=_advise(policy, adapters, env_name, env_cameras, training),
        ) from None


def is_accepted(
    camera_map: Mapping[str, str],
    policy: PolicySpec | DeclaredPolicy,
    adapters: Adapters,
    env_name: str,
    env_cameras: Sequence[str],
    training: TrainingRecord | None = None,
) -> bool:
    """Return whether `select_cameras` accepts this map in place of the one in `adapters`."""
    changed = replace(adapters, camera_map=camera_map)
    try:
        _select(policy, changed, env_name, env_cameras, training or TrainingRecord())
    except WhiskerError:
        return False
    return True


def propose_camera_map(
    policy_cameras: Sequence[str],
    env_cameras: Sequence[str],
    *,
    env_name: str = "",
    given: Mapping[str, str] | None = None,
    training: TrainingRecord | None = None,
) -> tuple[dict[str, str], bool]:
    """Return (pairs, whether all of them follow from names).

    A policy's camera is identified by its name in the training's dataset. Cameras are paired if the
    user gave the pair, if they have the same name, if both are the only ones on the hand, or if
    both are the only ones that are not. A name with "depth" in it is paired with a depth camera
    only. Names that say nothing (camera1, camera2) are paired in their order, which is a guess.

    Args:
        given: pairs that stay as they are.
    """
    training = training or TrainingRecord()
    views = family_of(env_name).describe_cameras(env_cameras)
    pairs = dict(given or {})
    names = {
        camera: training.original_name(camera)
        for camera in policy_cameras
        if not training.lacked(camera)
    }

    def free() -> tuple[list[str], list[str]]:
        """Return the environment's and the policy's cameras that have no pair yet."""
        ours = [camera for camera in views if camera not in pairs]
        theirs = [camera for camera in names if camera not in pairs.values()]
        return ours, theirs

    for camera, name in names.items():
        if name in env_cameras and name not in pairs and camera not in pairs.values():
            pairs[name] = camera
    _, theirs = free()
    for camera in theirs:
        # If the user exchanged one of two cameras, the other takes its place.
        taker = pairs.get(camera)
        if taker is not None and taker in env_cameras and taker not in pairs:
            pairs[taker] = camera
    for kind in itertools.product((True, False), (False, True)):
        ours, theirs = free()
        ours_of_kind = [camera for camera in ours if _kind_of(views[camera]) == kind]
        theirs_of_kind = [camera for camera in theirs if _kind_of(names[camera]) == kind]
        if len(ours_of_kind) == 1 and theirs_of_kind:
            pairs[ours_of_kind[0]] = theirs_of_kind[0]
    ours, theirs = free()
    ours = [camera for camera in ours if "depth" not in views[camera]]
    theirs = [camera for camera in theirs if _NEUTRAL.fullmatch(names[camera])]
    guessed = dict(zip(ours, theirs, strict=False))
    found = pairs | guessed
    in_order = {camera: found[camera] for camera in env_cameras if camera in found}
    return in_order, not guessed


def _kind_of(name: str) -> tuple[bool, bool]:
    """Return whether a camera is on the hand, and whether it is a depth camera."""
    return _is_on_hand(name), "depth" in name


def _select(
    policy: PolicySpec | DeclaredPolicy,
    adapters: Adapters,
    env_name: str,
    env_cameras: Sequence[str],
    training: TrainingRecord,
) -> dict[str, tuple[int, int]]:
    """Check the map, and resolve it."""
    given = adapters.camera_map
    _check_known_names(policy, given, env_name, env_cameras)
    sizes = {}
    missing = []
    expected_cameras = []
    for camera, size in policy.image_sizes.items():
        env_camera = adapters.env_camera(camera)
        is_taken = given.get(env_camera, camera) != camera
        if env_camera in env_cameras and not is_taken:
            sizes[env_camera] = adapters.image_size or size
        elif training.lacked(camera):
            continue
        elif is_taken:
            raise WhiskerError(
                "--camera-map",
                expected=f"one of the environment's cameras for the policy's {camera!r} too",
                got=f"{camera}={given[camera]}, which takes the camera of that name",
            )
        else:
            missing.append(camera)
        expected_cameras.append(camera)
    may_be_missing = adapters.allow_missing_camera and sizes
    if missing and not may_be_missing:
        raise WhiskerError(
            f"cameras of policy {policy.type!r} ({policy.checkpoint}) in {env_name!r}",
            expected=", ".join(expected_cameras),
            got=", ".join(env_cameras),
        )
    return sizes


def _check_known_names(
    policy: PolicySpec | DeclaredPolicy,
    given: Mapping[str, str],
    env_name: str,
    env_cameras: Sequence[str],
) -> None:
    """Reject a map with names that the policy or the environment does not have."""
    for whose, named, cameras in (
        ("the policy's cameras", given.values(), policy.image_sizes),
        (f"cameras of {env_name!r}", given, env_cameras),
    ):
        unknown = sorted(set(named) - set(cameras))
        if unknown:
            raise WhiskerError(
                "--camera-map",
                expected=f"{whose}: {', '.join(cameras) or 'none'}",
                got=", ".join(unknown),
            )


def _advise(
    policy: PolicySpec | DeclaredPolicy,
    adapters: Adapters,
    env_name: str,
    env_cameras: Sequence[str],
    training: TrainingRecord,
) -> str:
    """Return a hint with flags that `_select` accepts, or without flags if there are none."""
    given = {
        env_camera: camera
        for env_camera, camera in adapters.camera_map.items()
        if env_camera in env_cameras and camera in policy.image_sizes
    }
    pairs, is_sure = propose_camera_map(
        list(policy.image_sizes),
        env_cameras,
        env_name=env_name,
        given=given,
        training=training,
    )
    shown = {
        env_camera: camera
        for env_camera, camera in pairs.items()
        if env_camera != camera or env_camera in adapters.camera_map
    }
    lost = [
        camera
        for camera in policy.image_sizes
        if camera not in pairs.values() and not training.lacked(camera)
    ]
    allows_missing = adapters.allow_missing_camera or bool(lost)
    allowing = replace(adapters, allow_missing_camera=allows_missing)
    history = _describe_renaming(training)
    if not is_accepted(shown, policy, allowing, env_name, env_cameras, training):
        return f"{history}{_UNCLEAR} Pair them by --camera-map, the environment's name first."
    flags = []
    if shown:
        flags.append(f"--camera-map {format_camera_map(shown)}")
    if lost:
        flags.append("--allow-missing-camera")
    if not flags:
        return "Leave --camera-map out: the names are the same."
    given_flags = " ".join(flags)
    without = f", which goes on without {', '.join(lost)}" if lost else ""
    if is_sure:
        return f"{history}Give {given_flags}{without}."
    return f"{history}{_UNCLEAR} If they are in the same order: give {given_flags}{without}."


def _describe_renaming(training: TrainingRecord) -> str:
    if not training.renamed:
        return ""
    renamed = [f"{name} was {dataset!r}" for dataset, name in training.renamed.items()]
    return f"In training {', '.join(renamed)}. "


def find_role(env_name: str, env_camera: str) -> Literal["wrist", "scene"]:
    """Return by its name whether a camera of the environment is on the hand or not."""
    views = family_of(env_name).describe_cameras([env_camera])
    return "wrist" if _is_on_hand(views.get(env_camera, env_camera)) else "scene"


def _is_on_hand(camera: str) -> bool:
    return any(word in camera for word in _ON_THE_HAND)
