"""Match the environment's cameras with the policy's, and say how where that is not possible yet."""

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

# Words in the names of cameras that look alike.
_ON_THE_HAND = ("wrist", "hand", "gripper")
# Names that do not say where the camera is: camera1, image2, cam_b.
_NEUTRAL = re.compile(r"(image|img|camera|cam|rgb|view)_?(\d*|[a-z])")


def adopt_renamed_cameras(
    adapters: Adapters,
    training: TrainingRecord,
    policy: PolicySpec | DeclaredPolicy,
    env_cameras: Sequence[str],
) -> dict[str, str]:
    """Return the environment's camera → the policy's, of those that the checkpoint's rename map pairs.

    A dataset whose cameras have the environment's names was recorded with these cameras. What the
    user says of one of the two has precedence.
    """
    given = adapters.camera_map
    return {
        camera: name
        for camera, name in training.renamed.items()
        if camera in env_cameras
        and camera not in given
        and camera != name
        and name in policy.image_sizes
        and name not in given.values()
    }


def select_cameras(
    policy: PolicySpec | DeclaredPolicy,
    adapters: Adapters,
    env_name: str,
    env_cameras: Sequence[str],
    training: TrainingRecord | None = None,
) -> dict[str, tuple[int, int]]:
    """Return the environment's cameras to observe → (height_px, width_px), as the policy wants to look through them.

    Args:
        env_cameras: all that the environment has.
        training: what the checkpoint says of it. A camera without images in training may be
            missing.

    Raises:
        WhiskerError: a camera is not there, or the map is wrong; proposes flags that are accepted,
            if there are any.
    """
    training = training or TrainingRecord()
    try:
        return _select(policy, adapters, env_name, env_cameras, training)
    except WhiskerError as refusal:
        hint = _advise(policy, adapters, env_name, env_cameras, training)
        raise WhiskerError(
            refusal.subject, expected=refusal.expected, got=refusal.got, hint=hint
        ) from None


def is_accepted(
    camera_map: Mapping[str, str],
    policy: PolicySpec | DeclaredPolicy,
    adapters: Adapters,
    env_name: str,
    env_cameras: Sequence[str],
    training: TrainingRecord | None = None,
) -> bool:
    """Return whether `select_cameras` goes on with this map in place of the one in `adapters`."""
    try:
        changed = replace(adapters, camera_map=camera_map)
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

    A policy's camera is known by the name that it had in the training's dataset. Pairs are what the
    user gave, the same name, the only camera on the hand, and the only one that is not. A name with
    "depth" in it is paired with a depth camera, and no other name is. Names that say nothing
    (camera1, camera2) are paired in their order, which is a guess.

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
        return [c for c in views if c not in pairs], [c for c in names if c not in pairs.values()]

    for camera, name in names.items():
        if name in env_cameras and name not in pairs and camera not in pairs.values():
            pairs[name] = camera
    for camera in free()[1]:
        # The user turned one of the two round: the other one takes its place.
        taker = pairs.get(camera)
        if taker is not None and taker in env_cameras and taker not in pairs:
            pairs[taker] = camera
    for kind in itertools.product((True, False), (False, True)):
        ours, theirs = free()
        ours = [
            camera
            for camera in ours
            if (_is_on_hand(views[camera]), "depth" in views[camera]) == kind
        ]
        theirs = [
            camera
            for camera in theirs
            if (_is_on_hand(names[camera]), "depth" in names[camera]) == kind
        ]
        if len(ours) == 1 and theirs:
            pairs[ours[0]] = theirs[0]
    ours, theirs = free()
    ours = [camera for camera in ours if "depth" not in views[camera]]
    theirs = [camera for camera in theirs if _NEUTRAL.fullmatch(names[camera])]
    guessed = dict(zip(ours, theirs, strict=False))
    found = pairs | guessed
    return {env: found[env] for env in env_cameras if env in found}, not guessed


def _select(
    policy: PolicySpec | DeclaredPolicy,
    adapters: Adapters,
    env_name: str,
    env_cameras: Sequence[str],
    training: TrainingRecord,
) -> dict[str, tuple[int, int]]:
    """Check the map, and resolve it."""
    given = adapters.camera_map
    unknown = sorted(set(given.values()) - policy.image_sizes.keys())
    if unknown:
        known = ", ".join(policy.image_sizes) or "none"
        raise WhiskerError(
            "--camera-map", expected=f"the policy's cameras: {known}", got=", ".join(unknown)
        )
    strange = sorted(given.keys() - set(env_cameras))
    if strange:
        expected = f"cameras of {env_name!r}: {', '.join(env_cameras)}"
        raise WhiskerError("--camera-map", expected=expected, got=", ".join(strange))
    sizes, missing, expected_cameras = {}, [], []
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
                got=f"{camera}={given[camera]}, which takes the one of that name",
            )
        else:
            missing.append(camera)
        expected_cameras.append(camera)
    if missing and not (adapters.allow_missing_camera and sizes):
        raise WhiskerError(
            f"cameras of policy {policy.type!r} ({policy.checkpoint}) in {env_name!r}",
            expected=", ".join(expected_cameras),
            got=", ".join(env_cameras),
        )
    return sizes


def _advise(
    policy: PolicySpec | DeclaredPolicy,
    adapters: Adapters,
    env_name: str,
    env_cameras: Sequence[str],
    training: TrainingRecord,
) -> str:
    """Return what to do, with flags that `_select` accepts, and with none where there are no such flags."""
    given = {
        e: p for e, p in adapters.camera_map.items() if e in env_cameras and p in policy.image_sizes
    }
    pairs, is_sure = propose_camera_map(
        list(policy.image_sizes), env_cameras, env_name=env_name, given=given, training=training
    )
    shown = {
        env: camera for env, camera in pairs.items() if env != camera or env in adapters.camera_map
    }
    lost = [c for c in policy.image_sizes if c not in pairs.values() and not training.lacked(c)]
    allowing = replace(adapters, allow_missing_camera=adapters.allow_missing_camera or bool(lost))
    history = ", ".join(f"{name} was {dataset!r}" for dataset, name in training.renamed.items())
    history = f"In training {history}. " if history else ""
    if not is_accepted(shown, policy, allowing, env_name, env_cameras, training):
        return f"{history}Their names do not say which is which. Pair them by --camera-map, the environment's name first."
    flags = [f"--camera-map {format_camera_map(shown)}"] if shown else []
    flags += ["--allow-missing-camera"] if lost else []
    if not flags:
        return "Leave --camera-map out: the names are the same."
    if_so = (
        "" if is_sure else "Their names do not say which is which. If they are in the same order: "
    )
    without = f", which goes on without {', '.join(lost)}" if lost else ""
    return f"{history}{if_so}{'Give' if is_sure else 'give'} {' '.join(flags)}{without}."


def find_role(env_name: str, env_camera: str) -> Literal["wrist", "scene"]:
    """Return where a camera of the environment is, by its name: on the hand or not."""
    views = family_of(env_name).describe_cameras([env_camera])
    return "wrist" if _is_on_hand(views.get(env_camera, env_camera)) else "scene"


def _is_on_hand(camera: str) -> bool:
    return any(word in camera for word in _ON_THE_HAND)
