"""Known bugs of a policy's images: orientation, preparation, normalisation and cameras."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from eval.doctor.bugs import Bug
from eval.doctor.camera_checks import propose_map_change
from eval.doctor.camera_pose_bugs import camera_pose_bugs
from eval.doctor.check_context import (
    CheckContext,
    ImageChange,
    ObservationChange,
    Reference,
    image_change,
)
from eval.doctor.finding import Level
from policies.normalisation import FeatureStats
from sim.observation import Observation

_GAMMA = 2.2
# Height of a 4:3 image between the bars of a square letterbox.
_LETTERBOX = 3 / 4


def image_bugs(context: CheckContext, reference: Reference) -> list[Bug]:
    """Return the bugs of the images of all cameras, then of each camera alone."""
    sizes = context.policy.image_sizes
    is_square = all(height == width for height, width in sizes.values())
    bugs = _orientation_bugs("the images", _in_all_cameras, is_square)
    bugs += _preparation_bugs()
    bugs += _statistics_bugs(context, reference)
    has_two_cameras = len(sizes) == 2
    if has_two_cameras and len(set(sizes.values())) == 1:
        bugs.append(_swapped_cameras_bug(context))
    for camera in sizes:
        if has_two_cameras:
            in_camera = partial(image_change, camera)
            bugs += _orientation_bugs(f"the images of {camera}", in_camera, is_square)
        bugs += camera_pose_bugs(context, camera)
    return bugs


def _in_all_cameras(change: ImageChange) -> ObservationChange:
    """Return a function that changes every image of an observation."""
    return lambda observation: replace(
        observation,
        images={
            camera: np.ascontiguousarray(change(image))
            for camera, image in observation.images.items()
        },
    )


def _orientation_bugs(
    which: str,
    in_cameras: Callable[[ImageChange], ObservationChange],
    is_square: bool,
) -> list[Bug]:
    """Return the flips, rotations and the channel order of some images.

    Args:
        which: the images in words.
        in_cameras: applies a change to these images of an observation.
        is_square: whether a rotation by 90 degrees keeps their size.
    """
    hint = "Turn them back where they are recorded or rendered; turning them twice is a bug too."
    changes: dict[str, ImageChange] = {
        "rotated by 180 degrees": lambda image: image[::-1, ::-1],
        "upside down": lambda image: image[::-1],
        "mirrored left to right": lambda image: image[:, ::-1],
    }
    if is_square:
        changes["rotated by 90 degrees"] = np.rot90
        changes["rotated by 270 degrees"] = lambda image: np.rot90(image, 3)
    bugs = [
        Bug("image flip", f"{which} are {words}", hint, in_cameras(change))
        for words, change in changes.items()
    ]
    channel_order = Bug(
        "channel order",
        f"red and blue are swapped in {which}",
        "Convert BGR to RGB once.",
        in_cameras(lambda image: image[..., ::-1]),
    )
    return [*bugs, channel_order]


def _preparation_bugs() -> list[Bug]:
    bugs = []
    hint = "Compare how the images were encoded in the training: linear light, or sRGB."
    for words, power in (("darker", 1 / _GAMMA), ("brighter", _GAMMA)):
        finding = f"the images are {words} than in training, as by a gamma of {_GAMMA:g}"
        table = np.rint(255 * (np.arange(256) / 255) ** power).astype(np.uint8)
        bugs.append(Bug("gamma", finding, hint, _in_all_cameras(table.take)))
    hint = "Resize as the training did, with or without bars."
    for finding, change in (
        ("the images are letterboxed", _crop_bars),
        ("the images are stretched, and were letterboxed in training", _add_bars),
    ):
        bugs.append(Bug("letterbox", finding, hint, _in_all_cameras(change)))
    return bugs


def _statistics_bugs(context: CheckContext, reference: Reference) -> list[Bug]:
    """Return the bug that a convention's statistics replace those of the training's images.

    Measured statistics are not considered: images in another light would look the same.
    """
    images = context.statistics.images
    camera_map = context.adapters.camera_map
    by_convention: dict[str, FeatureStats] = {}
    for camera in context.policy.image_sizes:
        stats = images.get(camera_map.get(camera, camera))
        if stats and stats.convention and stats.mode == "MEAN_STD":
            by_convention[camera] = stats
    if not by_convention:
        return []
    # Mean and std of each camera's channels, 0..1, over the expert's episode.
    measured = {}
    for camera in by_convention:
        frames = np.stack([memory.present.images[camera] for memory in reference.memories]) / 255
        measured[camera] = (frames.mean(axis=(0, 1, 2)), frames.std(axis=(0, 1, 2)))

    def renormalise(observation: Observation) -> Observation:
        changed = dict(observation.images)
        for camera, stats in by_convention.items():
            mean, std = measured[camera]
            normalised = (changed[camera] / 255 - mean) / std
            seen = normalised * stats.values["std"] + stats.values["mean"]
            changed[camera] = np.rint(255 * seen.clip(0, 1)).astype(np.uint8)
        return replace(observation, images=changed)

    names = " and ".join(sorted({stats.convention for stats in by_convention.values()}))
    return [
        Bug(
            "image statistics",
            f"the images are normalised by another mean and std ({names}) than in training",
            (
                "Save the processors with the image statistics of the training, "
                "which seem to be those of its data set."
            ),
            renormalise,
            level=Level.WARNING,
        )
    ]


def _swapped_cameras_bug(context: CheckContext) -> Bug:
    one, other = context.policy.image_sizes
    given = context.adapters.camera_map
    exchanged = {one: given.get(other, other), other: given.get(one, one)}
    hint = propose_map_change(context, exchanged) or "Exchange the two where they are named."

    return Bug(
        "cameras",
        "the two cameras are swapped",
        hint,
        lambda observation: replace(
            observation,
            images={one: observation.images[other], other: observation.images[one]},
        ),
    )


def _crop_bars(image: np.ndarray) -> np.ndarray:
    height, width, bar = _measure_bar(image)
    content = image[bar : height - bar]
    return cv2.resize(content, (width, height), interpolation=cv2.INTER_AREA)


def _add_bars(image: np.ndarray) -> np.ndarray:
    height, width, bar = _measure_bar(image)
    content = cv2.resize(image, (width, height - 2 * bar), interpolation=cv2.INTER_AREA)
    boxed = np.zeros_like(image)
    boxed[bar : height - bar] = content
    return boxed


def _measure_bar(image: np.ndarray) -> tuple[int, int, int]:
    """Return an image's height and width, and the height of a bar of a letterbox."""
    height, width = image.shape[:2]
    return height, width, round(height * (1 - _LETTERBOX) / 2)
