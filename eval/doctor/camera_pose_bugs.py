"""Known bugs of a camera that stands, looks or zooms in another way than in training."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from eval.doctor.bugs import Bug
from eval.doctor.check_context import CheckContext, image_change
from eval.doctor.finding import Level
from sim.capabilities import Drawable, provides


@dataclass(frozen=True)
class CameraPose:
    """Describes a camera's pose relative to that of the training, as far as one image can tell.

    Attributes:
        right: share of the width by which the content lies further left: the camera looks further
            right.
        down: share of the height, likewise.
        turn_deg: rotation about the optical axis, clockwise.
        zoom: factor by which things appear larger.
    """

    right: float = 0.0
    down: float = 0.0
    turn_deg: float = 0.0
    zoom: float = 1.0

    def undo(self, image: np.ndarray) -> np.ndarray:
        """Return the image as the training's camera would show it, with its edge repeated."""
        height, width = image.shape[:2]
        middle = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(middle, -self.turn_deg, 1 / self.zoom)
        matrix[:, 2] += np.array([self.right, self.down]) * (width, height)
        return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)

    def nearby(self, step: float) -> list["CameraPose"]:
        """Return the poses that differ in one number.

        At a step of 1 they differ by 4 % of the image, 4 degrees, or 10 % of the zoom.
        """
        poses = []
        for name, size in (("right", 0.04), ("down", 0.04), ("turn_deg", 4)):
            for change in (-size * step, size * step):
                poses.append(replace(self, **{name: getattr(self, name) + change}))
        poses.append(replace(self, zoom=self.zoom * 1.1**-step))
        poses.append(replace(self, zoom=self.zoom * 1.1**step))
        return poses


@dataclass(frozen=True)
class _Extent:
    """Holds how much a camera shows along one axis of its image.

    Attributes:
        half: tangent of half the angle of view.
        depth_m: distance of the object at the start; nan if there is no object.
    """

    half: float
    depth_m: float

    def describe(self, share: float) -> str:
        """Return a share of the image in words."""
        angle_deg = np.rad2deg(2 * np.arctan(self.half))
        words = f"{share:.0%} of its image ({share * angle_deg:.1f}°"
        if np.isnan(self.depth_m):
            return f"{words})"
        length_m = 2 * self.half * self.depth_m
        return f"{words}, or {1000 * share * length_m:.0f} mm at the object)"


# What a camera shows across and down its image.
type _View = tuple[_Extent, _Extent]

_START_POSES = (
    CameraPose(zoom=0.67),
    CameraPose(zoom=0.8),
    CameraPose(zoom=1.25),
    CameraPose(zoom=1.5),
    CameraPose(right=-0.08),
    CameraPose(right=0.08),
    CameraPose(down=-0.08),
    CameraPose(down=0.08),
    CameraPose(turn_deg=-8.0),
    CameraPose(turn_deg=8.0),
)


def camera_pose_bugs(context: CheckContext, camera: str) -> list[Bug]:
    """Return the bugs that a camera has another pose or angle of view than in training."""
    view = _measure_view(context, camera)
    return [_pose_bug(camera, pose, view) for pose in _START_POSES]


def _pose_bug(camera: str, pose: CameraPose, view: _View) -> Bug:
    return Bug(
        "camera pose",
        f"compared with the training, {camera} {_describe_pose(pose, view)}",
        "Evaluate with the camera of the training.",
        image_change(camera, pose.undo),
        level=Level.WARNING,
        nearby=lambda step: [_pose_bug(camera, other, view) for other in pose.nearby(step)],
    )


def _describe_pose(pose: CameraPose, view: _View) -> str:
    parts = []
    across, down = view
    if pose.right:
        side = "right" if pose.right > 0 else "left"
        parts.append(f"looks further {side} by about {across.describe(abs(pose.right))}")
    if pose.down:
        side = "down" if pose.down > 0 else "up"
        parts.append(f"looks further {side} by about {down.describe(abs(pose.down))}")
    if pose.turn_deg:
        way = "clockwise" if pose.turn_deg > 0 else "anticlockwise"
        parts.append(f"is turned {way} by about {abs(pose.turn_deg):.0f}°")
    if pose.zoom != 1:
        amount = "less" if pose.zoom > 1 else "more"
        parts.append(f"sees {amount} of the scene ({1 / pose.zoom:.0%} of its width)")
    return " and ".join(parts)


def _measure_view(context: CheckContext, camera: str) -> _View:
    env = context.setup.env
    spec = env.spec.camera(camera)
    env.reset(0)
    depth_m = float("nan")
    position = next((goal.object_pos_world for goal in env.progress()), None)
    if position is not None and provides(env, Drawable):
        depth_m = float((env.projection(camera) @ np.append(position, 1.0))[2])
    half_down = float(np.tan(np.deg2rad(spec.fovy_deg) / 2))
    half_across = half_down * (spec.width_px / spec.height_px)
    return _Extent(half_across, depth_m), _Extent(half_down, depth_m)
