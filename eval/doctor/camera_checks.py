"""Checks of the pictures: are they those that the checkpoint was trained on?"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from eval.cameras import is_accepted
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level
from eval.doctor.picture_checks import find_dead_cameras
from policies.adapters import format_camera_map
from policies.normalisation import FeatureStats
from policies.policy import PolicySpec
from policies.training_record import TrainingRecord
from sim.rendering import DEPTH_SUFFIX

# Mean colour of a frame against the training's, in standard deviations of its pixels.
_UNLIKE = 1.5
_GREY = 0.01


def check_cameras(context: CheckContext) -> Iterator[Finding]:
    """Names and sizes fit already; are these the pictures of the training?"""
    shown = _frames_by_policy_camera(context)
    yield from _check_names(context, set(shown))
    dead = find_dead_cameras(context)
    frames = {camera: seen for camera, seen in shown.items() if seen[0] not in dead}
    images = {} if context.normalisation is None else context.normalisation.images
    conventions = {image.convention for image in images.values() if image.convention}
    # A convention says nothing of the training's pictures.
    stats = {camera: image for camera, image in images.items() if not image.convention}
    for camera, (env_camera, frame) in frames.items():
        yield from _check_depth(context, camera, env_camera, frame, stats.get(camera))
    known = {
        c: _distance(f, stats[c])
        for c, (_, f) in frames.items()
        if c in stats and "mean" in stats[c].values
    }
    evidence = ", ".join(f"{camera} {distance:.1f} std" for camera, distance in known.items())
    swap = _find_swap(frames, stats) if len(known) > 1 else None
    if swap:
        hint = (
            propose_map_change(context, swap) or "Compare them with the training's, side by side."
        )
        yield Finding(
            "cameras",
            Level.WARNING,
            "the pictures fit the training's colours better if swapped",
            evidence,
            hint,
        )
    elif any(distance > _UNLIKE for distance in known.values()):
        hint = "Another background, light, camera or resolution than in training: compare pictures side by side."
        yield Finding(
            "cameras", Level.WARNING, "the pictures do not look like the training's", evidence, hint
        )
    else:
        yield Finding(
            "cameras",
            Level.OK if known else Level.UNKNOWN,
            "colours are those of the training"
            if known
            else "nothing known of the training's colours",
            evidence
            or "; ".join(f"image statistics by convention: {name}" for name in sorted(conventions)),
        )


def propose_map_change(context: CheckContext, changes: Mapping[str, str]) -> str:
    """Return the advice that puts these pairs in place of the present ones, "" if `eval` would refuse it.

    Args:
        changes: the environment's camera → the policy's.
    """
    adapters = context.adapters
    now = {adapters.env_camera(camera): camera for camera in _policy_image_sizes(context)}
    kept = {
        env: camera
        for env, camera in now.items()
        if env in context.env.camera_names and env not in changes and camera not in changes.values()
    }
    pairs = {env: camera for env, camera in (kept | dict(changes)).items() if env != camera}
    policy, env, training = _policy_spec(context), context.env, context.setup.training
    if not is_accepted(pairs, policy, adapters, env.name, env.camera_names, training):
        return ""
    return f"Give --camera-map {format_camera_map(pairs)}" if pairs else "Leave --camera-map out."


def _check_names(context: CheckContext, shown: set[str]) -> Iterator[Finding]:
    """Say which cameras the checkpoint itself paired, which it never had, and which are missing."""
    training = context.setup.training or TrainingRecord()
    renamed = format_camera_map(context.setup.renamed_cameras)
    if renamed:
        yield Finding(
            "camera names", Level.OK, "paired as the checkpoint's own rename map says", renamed
        )
    absent = sorted(set(_policy_image_sizes(context)) - shown)
    untrained = [camera for camera in absent if training.lacked(camera)]
    disputed = [camera for camera in untrained if camera in training.cameras_with_stats]
    if disputed:
        hint = "If the training had images for them after all, pair them by --camera-map."
        finding = "taken for cameras without images in training: the rename map leaves them out, yet they have statistics"
        yield Finding("camera names", Level.WARNING, finding, ", ".join(disputed), hint)
    elif untrained:
        finding = "not all of the policy's cameras had images in training; it plans without the others here too"
        yield Finding("camera names", Level.OK, finding, ", ".join(untrained))
    missing = [camera for camera in absent if camera not in untrained]
    if missing:
        hint = "It plans without them: expect less."
        yield Finding(
            "cameras",
            Level.WARNING,
            "the policy expects cameras that are not there",
            ", ".join(missing),
            hint,
        )
    images = {} if context.normalisation is None else context.normalisation.images
    raw = sorted(
        c
        for c, stats in images.items()
        if c in shown and stats.mode != "IDENTITY" and not stats.values
    )
    if raw:
        finding = "images are not normalised, as in training: lerobot had their statistics under the dataset's names"
        evidence = ", ".join(f"{camera} was {training.original_name(camera)!r}" for camera in raw)
        hint = "The rollout repeats that. Before the next training, rename the cameras in the dataset instead."
        yield Finding("image statistics", Level.WARNING, finding, evidence, hint)


def _policy_spec(context: CheckContext) -> PolicySpec:
    """Return the policy's own side of the contract, before any adapter."""
    return getattr(context.setup.policy, "inner", context.setup.policy).spec


def _policy_image_sizes(context: CheckContext) -> Mapping[str, tuple[int, int]]:
    return _policy_spec(context).image_sizes


def _frames_by_policy_camera(context: CheckContext) -> dict[str, tuple[str, np.ndarray]]:
    """Policy's camera → (the environment's name of it, a real frame)."""
    images, adapters = context.first_memory.present.images, context.adapters
    named = {camera: adapters.env_camera(camera) for camera in _policy_image_sizes(context)}
    return {camera: (env, images[env]) for camera, env in named.items() if env in images}


def _check_depth(
    context: CheckContext,
    camera: str,
    env_camera: str,
    frame: np.ndarray,
    stats: FeatureStats | None,
) -> Iterator[Finding]:
    """Compare what the training's pictures were, by their measured colours or else by the name, with the frame."""
    is_depth = env_camera.endswith(DEPTH_SUFFIX)
    mean = None if stats is None else stats.values.get("mean")
    if mean is not None and len(mean) == 3:
        trained_grey, is_grey = (
            float(np.ptp(mean)) < _GREY,
            bool((np.ptp(frame, axis=-1) == 0).all()),
        )
        colours = ", ".join(f"{m:.2f}" for m in mean)
        shown = "grey" if is_grey else "coloured"
        evidence = f"{camera}: training means of R, G, B {colours}; the frame is {shown}"
        if is_grey and not trained_grey and not is_depth:
            hint = "Look at what the environment's `observe` hands over: the colours are lost on the way."
            yield Finding(
                "colour",
                Level.ERROR,
                "a policy trained on colour is shown grey pictures",
                evidence,
                hint,
            )
        elif is_grey and not trained_grey:
            hint = _propose_camera(context, camera, env_camera.removesuffix(DEPTH_SUFFIX))
            yield Finding(
                "depth or colour",
                Level.ERROR,
                "a policy trained on colour is shown depth",
                evidence,
                hint,
            )
        elif trained_grey and not is_grey:
            hint = _propose_camera(context, camera, env_camera + DEPTH_SUFFIX)
            yield Finding(
                "depth or colour",
                Level.ERROR,
                "a policy trained on depth is shown colour",
                evidence,
                hint,
            )
    elif is_depth != ("depth" in camera):
        shown = "depth" if is_depth else "colour"
        other = env_camera.removesuffix(DEPTH_SUFFIX) if is_depth else env_camera + DEPTH_SUFFIX
        hint = _propose_camera(context, camera, other)
        yield Finding(
            "depth or colour",
            Level.WARNING,
            f"{camera} is shown {shown}, which its name does not say",
            env_camera,
            hint,
        )


def _propose_camera(context: CheckContext, camera: str, env_camera: str) -> str:
    """Return what to do so that the policy's camera shows that one of the environment's, the others staying."""
    if env_camera not in context.env.camera_names:
        return f"The environment has no {env_camera!r}: evaluate where the cameras of the training are."
    advice = propose_map_change(context, {env_camera: camera})
    return advice or "Another of the policy's cameras has it: say with --camera-map which is which."


def _distance(frame: np.ndarray, stats: FeatureStats) -> float:
    """Of the mean colour from the training's, in standard deviations of its pixels."""
    mean = frame.reshape(-1, 3).mean(axis=0) / 255
    return float(
        np.abs((mean - stats.values["mean"]) / np.maximum(stats.values["std"], 0.02)).mean()
    )


def _find_swap(
    frames: Mapping[str, tuple[str, np.ndarray]], stats: Mapping[str, FeatureStats]
) -> dict[str, str] | None:
    """Environment's camera → policy's, if two of them fit far better the other way round."""
    for one, other in itertools.combinations(
        [c for c in frames if c in stats and "std" in stats[c].values], 2
    ):
        own = _distance(frames[one][1], stats[one]) + _distance(frames[other][1], stats[other])
        swapped = _distance(frames[one][1], stats[other]) + _distance(frames[other][1], stats[one])
        if own > 0.4 and swapped < 0.4 * own:
            return {frames[one][0]: other, frames[other][0]: one}
    return None
