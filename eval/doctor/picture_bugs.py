"""Bugs of the pictures that a policy is shown: how they are turned, prepared, normalised, and from where they look."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float

from eval.doctor.bugs import Bug, See
from eval.doctor.camera_checks import propose_map_change
from eval.doctor.check_context import CheckContext, Reference, changed_camera
from eval.doctor.finding import Level
from policies.normalisation import FeatureStats
from sim.capabilities import Drawable, provides

type Change = Callable[[np.ndarray], np.ndarray]

_GAMMA = 2.2
# Height of a 4:3 picture within the bars of a square letterbox.
_LETTERBOX = 3 / 4


def image_bugs(context: CheckContext, reference: Reference) -> list[Bug]:
    """Return what can be wrong with the pictures: of all cameras, then of each by itself."""
    sizes = context.setup.policy.spec.image_sizes
    is_square = all(height == width for height, width in sizes.values())
    bugs = _bugs_of_turning("the images", _each, is_square) + _bugs_of_preparation()
    bugs += _bugs_of_statistics(context, reference)
    two_cameras = len(sizes) == 2
    if two_cameras and len(set(sizes.values())) == 1:
        bugs.append(_swapped_cameras(context))
    for camera in sizes:

        def of_camera(change: Change, camera: str = camera) -> See:
            return changed_camera(camera, change)

        if two_cameras:
            bugs += _bugs_of_turning(f"the images of {camera}", of_camera, is_square)
        bugs += _bugs_of_pose(context, camera)
    return bugs


def _bugs_of_turning(which: str, of: Callable[[Change], See], is_square: bool) -> list[Bug]:
    hint = "Turn them back where they are recorded or rendered; twice is a bug too."
    changes: list[tuple[str, Change]] = [
        ("rotated by 180 degrees", lambda i: i[::-1, ::-1]),
        ("upside down", lambda i: i[::-1]),
        ("mirrored left to right", lambda i: i[:, ::-1]),
    ]
    if is_square:
        changes += [
            ("rotated by 90 degrees", np.rot90),
            ("rotated by 270 degrees", lambda i: np.rot90(i, 3)),
        ]
    bugs = [
        Bug("image flip", f"{which} are {words}", hint, see=of(change)) for words, change in changes
    ]
    hint = "Convert BGR to RGB once."
    bugs.append(
        Bug(
            "channel order",
            f"red and blue are swapped in {which}",
            hint,
            see=of(lambda i: i[..., ::-1]),
        )
    )
    return bugs


def _bugs_of_preparation() -> list[Bug]:
    hint = "Compare how the pictures were encoded in the training: linear light, or sRGB."
    bugs = [
        Bug(
            "gamma",
            f"the images are {words} than in training, as by a gamma of {_GAMMA:g}",
            hint,
            see=_each(_gamma(power)),
        )
        for words, power in (("darker", 1 / _GAMMA), ("brighter", _GAMMA))
    ]
    hint = "Resize as the training did, with or without bars."
    finding = "the images are stretched, and were between bars in training"
    bugs.append(Bug("letterbox", "the images are shown between bars", hint, see=_each(_crop_bars)))
    bugs.append(Bug("letterbox", finding, hint, see=_each(_add_bars)))
    return bugs


def _bugs_of_statistics(context: CheckContext, reference: Reference) -> list[Bug]:
    """Return the bug of statistics that nobody measured, in a checkpoint that was trained with its pictures' own.

    That of measured ones is not here: other light would look the same.
    """
    images = {} if context.normalisation is None else context.normalisation.images
    by_convention = {
        camera: stats
        for camera in context.setup.policy.spec.image_sizes
        if (stats := images.get(_checkpoint_name(context, camera)))
        and stats.convention
        and stats.mode == "MEAN_STD"
    }
    if not by_convention:
        return []
    own = {camera: _measure_colours(reference, camera) for camera in by_convention}

    def normalise(
        image: np.ndarray, stats: FeatureStats, mean: np.ndarray, std: np.ndarray
    ) -> np.ndarray:
        seen = (image / 255 - mean) / std * stats.values["std"] + stats.values["mean"]
        return np.rint(255 * seen.clip(0, 1)).astype(np.uint8)

    see: See = lambda o: replace(  # noqa: E731
        o,
        images=dict(o.images)
        | {
            camera: normalise(o.images[camera], stats, *own[camera])
            for camera, stats in by_convention.items()
        },
    )
    names = " and ".join(sorted({stats.convention for stats in by_convention.values()}))
    finding = f"the images are normalised by another mean and std ({names}) than in training"
    hint = "Save the processors with the image statistics of the training: those of its data set, it seems."
    return [Bug("image statistics", finding, hint, see=see, level=Level.WARNING)]


def _measure_colours(
    reference: Reference, camera: str
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Return mean and standard deviation of a camera's channels over an episode of the expert, of pixels in 0..1."""
    frames = np.stack([memory.present.images[camera] for memory in reference.memories]) / 255
    return frames.mean(axis=(0, 1, 2)), frames.std(axis=(0, 1, 2))


def _checkpoint_name(context: CheckContext, camera: str) -> str:
    return context.adapters.camera_map.get(camera, camera)


def _swapped_cameras(context: CheckContext) -> Bug:
    one, other = context.setup.policy.spec.image_sizes
    given = context.adapters.camera_map
    exchanged = {one: given.get(other, other), other: given.get(one, one)}
    hint = propose_map_change(context, exchanged) or "Exchange the two where they are named."

    def swap(observation):
        return replace(
            observation, images={one: observation.images[other], other: observation.images[one]}
        )

    return Bug("cameras", "the two cameras are swapped", hint, see=swap)


@dataclass(frozen=True)
class Pose:
    """How a camera looks, compared with the training's, as far as a plane picture can tell.

    Attributes:
        right: what it shows lies further left by this share of the width: it looks further right.
        down: likewise of the height.
        turn_deg: it is turned about its axis, clockwise.
        zoom: it shows things larger by this factor.
    """

    right: float = 0.0
    down: float = 0.0
    turn_deg: float = 0.0
    zoom: float = 1.0

    def undo(self, image: np.ndarray) -> np.ndarray:
        """Return the picture as the training's camera would show it; what lies beyond the edge repeats it."""
        height, width = image.shape[:2]
        middle = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(middle, -self.turn_deg, 1 / self.zoom)
        matrix[:, 2] += np.array([self.right, self.down]) * (width, height)
        return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)

    def nearby(self, step: float) -> list["Pose"]:
        """Return the poses that differ in one number: at a step of 1, by 4 % of the picture, 4 degrees, 10 %."""
        moves: Mapping[str, float] = {
            "right": 0.04 * step,
            "down": 0.04 * step,
            "turn_deg": 4 * step,
        }
        around = [
            replace(self, **{k: getattr(self, k) + s * d})
            for k, d in moves.items()
            for s in (-1, 1)
        ]
        return around + [replace(self, zoom=self.zoom * 1.1 ** (s * step)) for s in (-1, 1)]


def _bugs_of_pose(context: CheckContext, camera: str) -> list[Bug]:
    """Return a camera that stands or looks a little elsewhere, or has another angle of view."""
    starts = [Pose(zoom=zoom) for zoom in (0.67, 0.8, 1.25, 1.5)]
    starts += [
        Pose(right=right, down=down)
        for right, down in ((-0.08, 0.0), (0.08, 0.0), (0.0, -0.08), (0.0, 0.08))
    ]
    starts += [Pose(turn_deg=turn_deg) for turn_deg in (-8.0, 8.0)]
    view = _measure_view(context, camera)
    return [_bug_of_pose(camera, pose, view) for pose in starts]


def _bug_of_pose(camera: str, pose: Pose, view: "View") -> Bug:
    def nearby(step: float) -> list[Bug]:
        return [_bug_of_pose(camera, other, view) for other in pose.nearby(step)]

    looks = []
    for share, words, (width_deg, width_m) in (
        (pose.right, ("left", "right"), view.across),
        (pose.down, ("up", "down"), view.down),
    ):
        if share:
            size = f"{abs(share):.0%} of its picture ({abs(share) * width_deg:.1f}°"
            size += (
                ""
                if np.isnan(width_m)
                else f", or {1000 * abs(share) * width_m:.0f} mm at the object"
            )
            looks.append(f"looks further {words[share > 0]} by about {size})")
    if pose.turn_deg:
        looks.append(
            f"is turned {'clockwise' if pose.turn_deg > 0 else 'anticlockwise'} by about {abs(pose.turn_deg):.0f}°"
        )
    if pose.zoom != 1:
        looks.append(
            f"sees {'less' if pose.zoom > 1 else 'more'} of the scene ({1 / pose.zoom:.0%} of its width)"
        )
    finding = f"compared with the training, {camera} {' and '.join(looks)}"
    hint = "Evaluate with the camera of the training."
    see = changed_camera(camera, pose.undo)
    return Bug("camera pose", finding, hint, see=see, level=Level.WARNING, nearby=nearby)


@dataclass(frozen=True)
class View:
    """How much a camera shows: (degrees, m at the object's distance at the start or nan), across and down."""

    across: tuple[float, float]
    down: tuple[float, float]


def _measure_view(context: CheckContext, camera: str) -> View:
    env = context.setup.env
    spec = env.spec.camera(camera)
    env.reset(0)
    depth_m = float("nan")
    position = next((goal.object_pos_world for goal in env.progress()), None)
    if position is not None and provides(env, Drawable):
        depth_m = float((env.projection(camera) @ np.append(position, 1.0))[2])
    half = np.tan(np.deg2rad(spec.fovy_deg) / 2) * np.array([spec.width_px / spec.height_px, 1.0])
    across, down = ((float(np.rad2deg(2 * np.arctan(h))), float(2 * h * depth_m)) for h in half)
    return View(across, down)


def _each(change: Change) -> See:
    """Change every image of an observation."""
    return lambda o: replace(
        o, images={name: np.ascontiguousarray(change(i)) for name, i in o.images.items()}
    )


def _gamma(power: float) -> Change:
    table = np.rint(255 * (np.arange(256) / 255) ** power).astype(np.uint8)
    return lambda image: table[image]


def _crop_bars(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    bar = round(height * (1 - _LETTERBOX) / 2)
    return cv2.resize(image[bar : height - bar], (width, height), interpolation=cv2.INTER_AREA)


def _add_bars(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    bar = round(height * (1 - _LETTERBOX) / 2)
    padded = np.zeros_like(image)
    padded[bar : height - bar] = cv2.resize(
        image, (width, height - 2 * bar), interpolation=cv2.INTER_AREA
    )
    return padded
