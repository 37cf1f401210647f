"""Forward kinematics of the five-joint arm, and inverse kinematics as far as five joints allow."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, Float64

from sim.arrays import Vector3
from sim.env import IK_TOLERANCE_M
from sim.so101.kinematics import DAMPING, N_ARM_JOINTS, ArmKinematics
from sim.so101.pick_place_spec import servo_range_rad
from sim.so101.pose import Pose, rotation_vector_of
from sim.so101.units import JOINTS

# A smaller step is not taken, so that an arm at its target stays there to the bit.
_ARRIVED_RAD = 1e-6
# Weight of a radian in the error, relative to 1 of a metre.
_ORIENTATION_WEIGHT = 0.01
# Factors by which the damping rises after a step that increased the error, and falls otherwise.
_DAMPING_UP = 4.0
_DAMPING_DOWN = 3.0
# Random postures. The reach is measured with them, and a search that got stuck restarts from them.
_N_POSTURES = 2000
_N_RESTARTS = 3
# Weight of a radian, relative to 1 of a metre, in the distance between a posture and a pose.
_POSTURE_ORIENTATION_WEIGHT = 0.1


@dataclass(frozen=True)
class PoseSolution:
    """Joint angles, and the remaining errors along the base's axes.

    Attributes:
        q_rad: inside the limits.
        pos_error_m: from the position reached to the target's.
        rot_error_rad: rotation vector from the orientation reached to the target's.
    """

    q_rad: Float64[np.ndarray, "5"]
    pos_error_m: Vector3
    rot_error_rad: Vector3

    @property
    def is_met(self) -> bool:
        """Return whether the position is met. Five joints cannot meet every orientation."""
        return float(np.linalg.norm(self.pos_error_m)) <= IK_TOLERANCE_M


class PoseKinematics(ArmKinematics):
    """Computes the pose of a site from joint angles, and joint angles from a pose.

    Poses are in the frame of the robot's base, the body that carries the shoulder. The rotation
    rows of the error are log(R_target Rᵀ). The joint limits are the tighter ones of the joints and
    their servos.

    The search is that of Levenberg and Marquardt: a step that increases the error is undone, and λ
    is raised.

    An orientation that five joints cannot meet pulls the position away from its target. With the
    weight of 0.01, an orientation 0.3 rad away from any pose of the arm costs 0.1 mm on
    average. With lerobot's weight of 0.1 (its 0.01 is for squares) it would cost 5 mm, a failure
    that neither the policy nor the arm causes.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        site: str,
    ) -> None:
        super().__init__(model, site)
        ctrl_low, ctrl_high = servo_range_rad(model)[:, :N_ARM_JOINTS]
        self._low = np.maximum(self._low, ctrl_low)
        self._high = np.minimum(self._high, ctrl_high)
        base = model.body_parentid[model.jnt_bodyid[model.joint(JOINTS[0]).id]]
        self._place(np.zeros(N_ARM_JOINTS))
        self._base_pos = self._data.xpos[base].copy()
        self._base_rotation = self._data.xmat[base].reshape(3, 3).copy()
        size = (_N_POSTURES, N_ARM_JOINTS)
        self._postures_rad = np.random.default_rng(0).uniform(self._low, self._high, size)
        poses = [self.forward(posture) for posture in self._postures_rad]
        self._posture_pos = np.stack([pose.pos_m for pose in poses])
        self._posture_rotation = np.stack([pose.rotation for pose in poses])

    def forward(self, q_rad: Float[np.ndarray, "5"]) -> Pose:
        """Return the pose of the site at these joint angles."""
        self._place(q_rad)
        to_base = self._base_rotation.T
        pos_from_base = self._data.site_xpos[self._site] - self._base_pos
        rotation = self._data.site_xmat[self._site].reshape(3, 3)
        return Pose(to_base @ pos_from_base, to_base @ rotation)

    def reach_box_m(self) -> Float64[np.ndarray, "2 3"]:
        """Return the lower and upper corner of a box around all reachable positions, in whole cm.

        It is measured from the postures. A margin of 3 cm covers what lies between them: at full
        stretch they fall 2.5 cm short.
        """
        low = self._posture_pos.min(axis=0) - 0.03
        high = self._posture_pos.max(axis=0) + 0.03
        return np.stack([np.floor(100 * low) / 100, np.ceil(100 * high) / 100])

    def solve(
        self,
        q_rad: Float[np.ndarray, "5"],
        target: Pose,
        n_iterations: int = 30,
    ) -> PoseSolution:
        """Search from `q_rad` (the warm start) for joint angles near the target.

        A search that gets stuck is repeated from the postures nearest to the target. Such a result
        is used only if it meets the position, so that the arm does not jump for a smaller error.
        """
        solution = self._solve_from(q_rad, target, n_iterations)
        if solution.is_met:
            return solution
        pos_distance = ((self._posture_pos - target.pos_m) ** 2).sum(axis=1)
        # |R - R'|² of rotation matrices is 2 angle² near 0.
        rot_distance = 0.5 * ((self._posture_rotation - target.rotation) ** 2).sum(axis=(1, 2))
        distance = pos_distance + _POSTURE_ORIENTATION_WEIGHT**2 * rot_distance
        others = (
            self._solve_from(posture_rad, target, n_iterations)
            for posture_rad in self._postures_rad[np.argsort(distance)[:_N_RESTARTS]]
        )
        return next((other for other in others if other.is_met), solution)

    def _solve_from(
        self,
        q_rad: np.ndarray,
        target: Pose,
        n_iterations: int,
    ) -> PoseSolution:
        q = np.clip(q_rad, self._low, self._high)
        damping = DAMPING
        error, jacobian = self._linearise(q, target, _ORIENTATION_WEIGHT)
        for _ in range(n_iterations):
            ahead = self._moved(q, self._step(q, error, jacobian, damping))
            if np.abs(ahead - q).max() < _ARRIVED_RAD:
                break
            error_ahead, jacobian_ahead = self._linearise(
                ahead,
                target,
                _ORIENTATION_WEIGHT,
            )
            if error_ahead @ error_ahead < error @ error:
                q = ahead
                error = error_ahead
                jacobian = jacobian_ahead
                damping = max(damping / _DAMPING_DOWN, DAMPING)
            else:
                damping *= _DAMPING_UP
        return PoseSolution(q, *_errors(self.forward(q), target))

    def _linearise(
        self,
        q,
        target,
        weight,
    ):
        """Return W e and W J at q, along the world's axes."""
        to_world = self._base_rotation
        pos_error, rot_error = _errors(self.forward(q), target)
        error = np.concatenate([to_world @ pos_error, weight * (to_world @ rot_error)])
        return error, self._weighted_jacobian(weight)


def _errors(reached: Pose, target: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Return position [m] and rotation vector [rad] from one pose to the other."""
    return target.pos_m - reached.pos_m, rotation_vector_of(target.rotation @ reached.rotation.T)
