"""Checks that the cameras show what the cameras of the training showed."""

import itertools
from collections.abc import Mapping

import numpy as np

from eval.cameras import is_accepted
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Findings, fail, fine, unknown, warn
from eval.doctor.image_checks import find_dead_cameras
from policies.adapters import format_camera_map
from policies.normalisation import FeatureStats
from policies.policy import PolicySpec
from sim.rendering import DEPTH_SUFFIX

# Distance of a frame's mean colour from the training's, in standard deviations of its pixels.
_UNLIKE = 1.5
_GREY = 0.01
# Two cameras are swapped if their distance is at least this, and at most this share of it is left
# once they are exchanged.
_LEAST_SWAP_DISTANCE = 0.4
_LEFT_BY_SWAP = 0.4

# The policy's camera → (the environment's name of it, a real frame).
type Frames = Mapping[str, tuple[str, np.ndarray]]


def check_cameras(context: CheckContext) -> Findings:
    """Check names, colours and depth of the cameras against what is known of the training."""
    shown = _frames_by_policy_camera(context)
    yield from _check_names(context, set(shown))
    dead = find_dead_cameras(context)
    frames = {camera: seen for camera, seen in shown.items() if seen[0] not in dead}
    # A convention's statistics say nothing about the training's images.
    images = context.statistics.images
    measured = {camera: stats for camera, stats in images.items() if not stats.convention}
    for camera, (env_camera, frame) in frames.items():
        mean = measured[camera].values.get("mean") if camera in measured else None
        if mean is not None and len(mean) == 3:
            yield from _check_depth_by_colours(context, (camera, env_camera), frame, mean)
        else:
            yield from _check_depth_by_name(context, camera, env_camera)
    yield _check_colours(context, frames, measured)


def _check_colours(
    context: CheckContext,
    frames: Frames,
    measured: Mapping[str, FeatureStats],
) -> Finding:
    """Compare the mean colour of each camera with that of the training."""
    distances = {}
    for camera, (_, frame) in frames.items():
        if camera in measured and "mean" in measured[camera].values:
            distances[camera] = _distance(frame, measured[camera])
    if not distances:
        conventions = {stats.convention for stats in context.statistics.images.values()} - {""}
        named = [f"image statistics by convention: {name}" for name in sorted(conventions)]
        return unknown(
            "cameras",
            "nothing known of the training's colours",
            "; ".join(named),
        )
    evidence = ", ".join(f"{camera} {distance:.1f} std" for camera, distance in distances.items())
    swap = _find_swap(frames, measured) if len(distances) > 1 else None
    if swap:
        return warn(
            "cameras",
            "the images fit the training's colours better if swapped",
            evidence,
            propose_map_change(context, swap) or "Compare them with the training's, side by side.",
        )
    if any(distance > _UNLIKE for distance in distances.values()):
        return warn(
            "cameras",
            "the images do not look like the training's",
            evidence,
            (
                "The background, light, camera or resolution is another than in training: "
                "compare images side by side."
            ),
        )
    return fine("cameras", "colours are those of the training", evidence)


def propose_map_change(context: CheckContext, changes: Mapping[str, str]) -> str:
    """Return the advice to pair these cameras instead; "" if `eval` would refuse that.

    Args:
        changes: the environment's camera → the policy's.
    """
    adapters = context.adapters
    policy = _policy_spec(context)
    env = context.env
    pairs = {}
    for camera in policy.image_sizes:
        env_camera = adapters.env_camera(camera)
        is_changed = env_camera in changes or camera in changes.values()
        if env_camera in env.camera_names and not is_changed:
            pairs[env_camera] = camera
    pairs |= changes
    pairs = {env_camera: camera for env_camera, camera in pairs.items() if env_camera != camera}
    if not is_accepted(pairs, policy, adapters, env.name, env.camera_names, context.training):
        return ""
    return f"Give --camera-map {format_camera_map(pairs)}" if pairs else "Leave --camera-map out."


def _check_names(context: CheckContext, shown: set[str]) -> Findings:
    """Report cameras that the checkpoint renamed, that it never had, and that are missing."""
    training = context.training
    renamed = format_camera_map(context.setup.renamed_cameras)
    if renamed:
        yield fine(
            "camera names",
            "paired as the checkpoint's own rename map says",
            renamed,
        )
    absent = sorted(set(_policy_spec(context).image_sizes) - shown)
    untrained = [camera for camera in absent if training.lacked(camera)]
    disputed = [camera for camera in untrained if camera in training.cameras_with_stats]
    missing = [camera for camera in absent if camera not in untrained]
    if disputed:
        yield warn(
            "camera names",
            (
                "taken for cameras without images in training: the rename map leaves them out, "
                "yet they have statistics"
            ),
            ", ".join(disputed),
            "If the training had images for them after all, pair them by --camera-map.",
        )
    elif untrained:
        yield fine(
            "camera names",
            (
                "not all of the policy's cameras had images in training; "
                "it plans without the others here too"
            ),
            ", ".join(untrained),
        )
    if missing:
        yield warn(
            "cameras",
            "the policy expects cameras that are not there",
            ", ".join(missing),
            "It plans without them, so expect a lower success rate.",
        )
    yield from _check_raw_images(context, shown)


def _check_raw_images(context: CheckContext, shown: set[str]) -> Findings:
    """Warn of images that were not normalised, since their statistics had other names."""
    raw = []
    for camera, stats in sorted(context.statistics.images.items()):
        is_meant = stats.mode != "IDENTITY"
        if camera in shown and is_meant and not stats.values:
            raw.append(f"{camera} was {context.training.original_name(camera)!r}")
    if raw:
        yield warn(
            "image statistics",
            (
                "images are not normalised, as in training: "
                "lerobot had their statistics under the dataset's names"
            ),
            ", ".join(raw),
            (
                "The rollout repeats that. Before the next training, "
                "rename the cameras in the dataset instead."
            ),
        )


def _policy_spec(context: CheckContext) -> PolicySpec:
    """Return the spec of the policy itself, before any adapter."""
    return getattr(context.setup.policy, "inner", context.setup.policy).spec


def _frames_by_policy_camera(context: CheckContext) -> dict[str, tuple[str, np.ndarray]]:
    images = context.first_memory.present.images
    adapters = context.adapters
    frames = {}
    for camera in _policy_spec(context).image_sizes:
        env_camera = adapters.env_camera(camera)
        if env_camera in images:
            frames[camera] = (env_camera, images[env_camera])
    return frames


def _check_depth_by_colours(
    context: CheckContext,
    cameras: tuple[str, str],
    frame: np.ndarray,
    mean: np.ndarray,
) -> Findings:
    """Check that a policy trained on colour is not shown depth, and the other way round.

    Args:
        cameras: the policy's camera, and the environment's that it shows.
        mean: mean of R, G and B that was measured on the training's images.
    """
    camera, env_camera = cameras
    is_depth = env_camera.endswith(DEPTH_SUFFIX)
    was_grey = float(np.ptp(mean)) < _GREY
    is_grey = bool((np.ptp(frame, axis=-1) == 0).all())
    if is_grey == was_grey:
        return
    colours = ", ".join(f"{channel:.2f}" for channel in mean)
    shown = "grey" if is_grey else "coloured"
    evidence = f"{camera}: training means of R, G, B {colours}; the frame is {shown}"
    if is_grey and not is_depth:
        yield fail(
            "colour",
            "a policy trained on colour is shown grey images",
            evidence,
            "Look at what the environment's `observe` returns: the colours are lost on the way.",
        )
    else:
        kinds = "colour is shown depth" if is_grey else "depth is shown colour"
        yield fail(
            "depth or colour",
            f"a policy trained on {kinds}",
            evidence,
            _propose_counterpart(context, camera, env_camera),
        )


def _check_depth_by_name(
    context: CheckContext,
    camera: str,
    env_camera: str,
) -> Findings:
    """Check the same by the name of the policy's camera, as nothing was measured."""
    is_depth = env_camera.endswith(DEPTH_SUFFIX)
    if is_depth == ("depth" in camera):
        return
    shown = "depth" if is_depth else "colour"
    yield warn(
        "depth or colour",
        f"{camera} is shown {shown}, which its name does not say",
        env_camera,
        _propose_counterpart(context, camera, env_camera),
    )


def _propose_counterpart(context: CheckContext, camera: str, env_camera: str) -> str:
    """Return the advice to show the policy's camera colour in place of depth, or the reverse."""
    if env_camera.endswith(DEPTH_SUFFIX):
        env_camera = env_camera.removesuffix(DEPTH_SUFFIX)
    else:
        env_camera += DEPTH_SUFFIX
    if env_camera not in context.env.camera_names:
        return (
            f"The environment has no {env_camera!r}: "
            "evaluate where the cameras of the training are."
        )
    advice = propose_map_change(context, {env_camera: camera})
    if advice:
        return advice
    return "Another of the policy's cameras has it: say with --camera-map which is which."


def _distance(frame: np.ndarray, stats: FeatureStats) -> float:
    """Return the distance of the mean colour from the training's, in stds of its pixels."""
    mean = frame.reshape(-1, 3).mean(axis=0) / 255
    std = np.maximum(stats.values["std"], 0.02)
    return float(np.abs((mean - stats.values["mean"]) / std).mean())


def _find_swap(frames: Frames, stats: Mapping[str, FeatureStats]) -> dict[str, str] | None:
    """Return the environment's camera → the policy's, if two of them fit far better exchanged."""
    known = [camera for camera in frames if camera in stats and "std" in stats[camera].values]
    for one, other in itertools.combinations(known, 2):
        env_one, frame_one = frames[one]
        env_other, frame_other = frames[other]
        own = _distance(frame_one, stats[one]) + _distance(frame_other, stats[other])
        swapped = _distance(frame_one, stats[other]) + _distance(frame_other, stats[one])
        if own > _LEAST_SWAP_DISTANCE and swapped < _LEFT_BY_SWAP * own:
            return {env_one: other, env_other: one}
    return None
