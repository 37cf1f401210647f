"""Converts between lerobot's units of the SO-101 and MuJoCo's radians.

Body joints (lerobot 0.6 `SOFollowerConfig.use_degrees`) are in degrees from the middle of the
calibrated range or, in an older convention, in -100..100 of the range. The gripper is in 0 (closed)
to 100 (open) of its range.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Float64

JOINTS: tuple[str, ...] = (
    "shoulder_pan",
    "shoulder_lift",
    "elbow_flex",
    "wrist_flex",
    "wrist_roll",
    "gripper",
)
BodyUnits = Literal["deg", "range_m100_100"]
# Angles of `JOINTS`, rad.
JointAngles = Float64[np.ndarray, "6"]
_Joints = Float[np.ndarray, "*batch 6"]


class JointUnits:
    """An affine map per joint: value = (q_rad - offset_rad) · scale."""

    def __init__(
        self,
        joint_range_rad: Float[np.ndarray, "6 2"],
        body_units: BodyUnits,
    ) -> None:
        """Args:
        joint_range_rad: lower and upper limit of each of `JOINTS`.
        body_units: units of the five body joints.
        """
        low, high = joint_range_rad.T
        if body_units == "deg":
            # By construction ("new calibration"), the MJCF's zero is the middle of the range. The
            # limits of wrist_roll are asymmetric by 2.8°, which the calibration of a real arm over
            # a full turn does not show.
            self._offset = np.zeros(6)
            self._scale = np.full(6, 180 / np.pi)
        else:
            self._offset = (low + high) / 2
            self._scale = 200 / (high - low)
        self._offset[5] = low[5]
        self._scale[5] = 100 / (high[5] - low[5])
        self.names = tuple(f"{joint}.pos" for joint in JOINTS)
        self.units = (body_units,) * 5 + ("range_0_100",)

    def from_rad(self, q_rad: _Joints) -> _Joints:
        return (q_rad - self._offset) * self._scale

    def to_rad(self, value: _Joints) -> _Joints:
        return value / self._scale + self._offset
