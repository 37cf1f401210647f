"""Poses of the tool, and the six numbers that they are written as."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, Float64


@dataclass(frozen=True)
class Pose:
    """Where a tool frame is in a reference frame: `x_reference = rotation @ x_tool + pos_m`.

    As six numbers: position [m], then the rotation vector w [rad], `rotation = exp([w]×)`. Of the w
    that write the same rotation, `as_vector` gives the one with |w| <= π; at a half turn w and -w
    are the same rotation.
    """

    pos_m: Float64[np.ndarray, "3"]
    rotation: Float64[np.ndarray, "3 3"]

    @classmethod
    def from_vector(cls, vector: Float[np.ndarray, "6"]) -> "Pose":
        vector = vector.astype(np.float64)
        return cls(vector[:3], rotation_of(vector[3:]))

    def as_vector(self) -> Float64[np.ndarray, "6"]:
        return np.concatenate([self.pos_m, rotation_vector_of(self.rotation)])

    def plus(self, delta: Float[np.ndarray, "6"]) -> "Pose":
        """Moved by (dp, w): `pos_m + dp` along the reference's axes, `rotation @ exp([w]×)` about the tool's own."""
        delta = delta.astype(np.float64)
        return Pose(self.pos_m + delta[:3], self.rotation @ rotation_of(delta[3:]))

    def minus(self, other: "Pose") -> Float64[np.ndarray, "6"]:
        """The (dp, w) with `other.plus(dp, w) == self`."""
        return np.concatenate(
            [self.pos_m - other.pos_m, rotation_vector_of(other.rotation.T @ self.rotation)]
        )


def rotation_of(vector_rad: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3 3"]:
    """exp: the rotation by |w| about w; the identity for w = 0."""
    angle = float(np.linalg.norm(vector_rad))
    quat_wxyz = np.zeros(4)
    matrix = np.zeros(9)
    mujoco.mju_axisAngle2Quat(
        quat_wxyz,
        vector_rad / angle if angle > 0 else vector_rad,
        angle,
    )
    mujoco.mju_quat2Mat(matrix, quat_wxyz)
    return matrix.reshape(3, 3)


def rotation_vector_of(rotation: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3"]:
    """log: the w with |w| <= π whose exp it is."""
    quat_wxyz = np.zeros(4)
    vector_rad = np.zeros(3)
    mujoco.mju_mat2Quat(quat_wxyz, np.ascontiguousarray(rotation).reshape(9))
    mujoco.mju_quat2Vel(vector_rad, quat_wxyz, 1.0)
    return vector_rad
