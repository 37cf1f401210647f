"""Poses of the tool, and their representation as six numbers."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, Float64

from sim.arrays import Vector3

Matrix3 = Float64[np.ndarray, "3 3"]


@dataclass(frozen=True)
class Pose:
    """The pose of a tool frame in a reference frame: `x_reference = rotation @ x_tool + pos_m`.

    Its six numbers are the position [m] and the rotation vector w [rad] with
    `rotation = exp([w]×)`. `as_vector` returns the w with |w| <= π; at a half turn w and -w are the
    same rotation.
    """

    pos_m: Vector3
    rotation: Matrix3

    @classmethod
    def from_vector(cls, vector: Float[np.ndarray, "6"]) -> "Pose":
        vector = vector.astype(np.float64)
        return cls(vector[:3], rotation_of(vector[3:]))

    def as_vector(self) -> Float64[np.ndarray, "6"]:
        return np.concatenate([self.pos_m, rotation_vector_of(self.rotation)])

    def plus(self, delta: Float[np.ndarray, "6"]) -> "Pose":
        """Return the pose moved by (dp, w).

        The position is `pos_m + dp`, along the reference's axes. The rotation is
        `rotation @ exp([w]×)`, about the tool's own axes.
        """
        delta = delta.astype(np.float64)
        return Pose(self.pos_m + delta[:3], self.rotation @ rotation_of(delta[3:]))

    def minus(self, other: "Pose") -> Float64[np.ndarray, "6"]:
        """Return the (dp, w) with `other.plus(dp, w) == self`."""
        return np.concatenate(
            [self.pos_m - other.pos_m, rotation_vector_of(other.rotation.T @ self.rotation)]
        )


def rotation_of(vector_rad: Vector3) -> Matrix3:
    """Return the rotation by |w| about w (exp), which is the identity for w = 0."""
    angle = float(np.linalg.norm(vector_rad))
    axis = vector_rad / angle if angle > 0 else vector_rad
    quat_wxyz = np.zeros(4)
    matrix = np.zeros(9)
    mujoco.mju_axisAngle2Quat(quat_wxyz, axis, angle)
    mujoco.mju_quat2Mat(matrix, quat_wxyz)
    return matrix.reshape(3, 3)


def rotation_vector_of(rotation: Matrix3) -> Vector3:
    """Return the w with |w| <= π for which `rotation_of(w)` is the rotation (log)."""
    quat_wxyz = np.zeros(4)
    vector_rad = np.zeros(3)
    mujoco.mju_mat2Quat(quat_wxyz, np.ascontiguousarray(rotation).reshape(9))
    mujoco.mju_quat2Vel(vector_rad, quat_wxyz, 1.0)
    return vector_rad
