"""Any pose of the five-joint arm: forward kinematics, and inverse as far as five joints go."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, Float64

from sim.env import IK_TOLERANCE_M
from sim.so101.kinematics import N_ARM_JOINTS, ArmKinematics
from sim.so101.pose import Pose, rotation_vector_of
from sim.so101.units import JOINTS

# A step below this is not worth taking: what is at its target stays, to the bit.
_ARRIVED_RAD = 1e-6
# By how much the damping rises after a step that made things worse, and falls after one that did
# not.
_DAMPING_UP = 4.0
_DAMPING_DOWN = 3.0
# Postures that the reach is measured with, and that a search which got stuck starts again from.
_N_POSTURES = 2000
_N_RESTARTS = 3
# What a radian weighs, where a metre weighs 1, when the posture nearest to a pose is looked for.
_POSTURE_ORIENTATION_WEIGHT = 0.1


@dataclass(frozen=True)
class PoseSolution:
    """Joints, and what they leave of the way to the target. Both errors are along the base's axes.

    Attributes:
        q_rad: inside the limits.
        pos_error_m: from the position reached to the target's.
        rot_error_rad: rotation vector from the orientation reached to the target's.
    """

    q_rad: Float64[np.ndarray, "5"]
    pos_error_m: Float64[np.ndarray, "3"]
    rot_error_rad: Float64[np.ndarray, "3"]

    @property
    def is_met(self) -> bool:
        """Whether the position is: five joints owe nobody an orientation."""
        return float(np.linalg.norm(self.pos_error_m)) <= IK_TOLERANCE_M


class PoseKinematics(ArmKinematics):
    """The pose at which joint angles put a site, and joint angles that put it at a pose.

    Poses are in the frame of the robot's base: the body that carries the shoulder. The rotation
    rows of the error are log(R_target Rᵀ). Joint limits are those of the joints and of their
    servos, whichever is tighter.

    The search is Levenberg and Marquardt's: a step that made things worse is taken back, and λ
    raised.

    An orientation that five joints cannot meet pulls the position away from its target. One 0.3 rad
    off a pose of the arm's costs 0.1 mm on average at the default weight of 0.01, and 5 mm at 0.1,
    which is lerobot's (its 0.01 weighs squares): a failure that neither the policy nor the arm
    would have caused.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        site: str,
        orientation_weight: float = 0.01,
        damping: float = 1e-3,
    ) -> None:
        """Args:
        orientation_weight: of one radian, where one metre weighs 1.
        """
        super().__init__(model, site, damping)
        actuators = [model.actuator(joint).id for joint in JOINTS[:N_ARM_JOINTS]]
        ctrl_low, ctrl_high = model.actuator_ctrlrange[actuators].T
        self._low, self._high = np.maximum(self._low, ctrl_low), np.minimum(self._high, ctrl_high)
        self._orientation_weight = orientation_weight
        base = model.body_parentid[model.jnt_bodyid[model.joint(JOINTS[0]).id]]
        self._place(np.zeros(N_ARM_JOINTS))
        self._base_pos = self._data.xpos[base].copy()
        self._base_rotation = self._data.xmat[base].reshape(3, 3).copy()
        rng = np.random.default_rng(0)
        self._postures_rad = rng.uniform(
            self._low,
            self._high,
            (_N_POSTURES, N_ARM_JOINTS),
        )
        poses = [self.forward(posture) for posture in self._postures_rad]
        self._posture_pos = np.stack([pose.pos_m for pose in poses])
        self._posture_rotation = np.stack([pose.rotation for pose in poses])

    def forward(self, q_rad: Float[np.ndarray, "5"]) -> Pose:
        """Where the site is at these joint angles."""
        self._place(q_rad)
        rotation = self._data.site_xmat[self._site].reshape(3, 3)
        to_base = self._base_rotation.T
        return Pose(
            to_base @ (self._data.site_xpos[self._site] - self._base_pos), to_base @ rotation
        )

    def reach_box_m(self) -> Float64[np.ndarray, "2 3"]:
        """Lower and upper corner of a box around every position in reach, in whole centimetres.

        From the postures, and 3 cm for what lies between them: at full stretch they fall 2.5 cm
        short.
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
        """Go from `q_rad` (the warm start) to the target, or as near to it as the arm comes.

        A search that gets stuck is made again from the postures nearest to the target, and its
        result kept only if it meets the position: the arm does not jump to miss by less.
        """
        solution = self._solve_from(q_rad, target, n_iterations)
        if solution.is_met:
            return solution
        for posture_rad in self._nearest_postures_rad(target):
            other = self._solve_from(posture_rad, target, n_iterations)
            if other.is_met:
                return other
        return solution

    def _solve_from(
        self,
        q_rad: np.ndarray,
        target: Pose,
        n_iterations: int,
    ) -> PoseSolution:
        q = np.clip(q_rad, self._low, self._high)
        damping = self._damping
        error, jacobian = self._linearise(q, target, self._orientation_weight)
        for _ in range(n_iterations):
            ahead = self._moved(q, self._step(q, error, jacobian, damping))
            if np.abs(ahead - q).max() < _ARRIVED_RAD:
                break
            error_ahead, jacobian_ahead = self._linearise(ahead, target, self._orientation_weight)
            if error_ahead @ error_ahead < error @ error:
                q = ahead
                error = error_ahead
                jacobian = jacobian_ahead
                damping = max(damping / _DAMPING_DOWN, self._damping)
            else:
                damping *= _DAMPING_UP
        return PoseSolution(q, *_errors(self.forward(q), target))

    def _linearise(self, q, target, orientation_weight):
        pos_error, rot_error = _errors(self.forward(q), target)
        # Along the world's axes, as the Jacobian is.
        to_world = self._base_rotation
        error = np.concatenate([to_world @ pos_error, orientation_weight * (to_world @ rot_error)])
        return error, self._weighted_jacobian(orientation_weight)

    def _nearest_postures_rad(self, target: Pose) -> np.ndarray:
        pos_distance = ((self._posture_pos - target.pos_m) ** 2).sum(axis=1)
        # |R - R'|² of matrices is 2 angle² near 0.
        rot_distance = 0.5 * ((self._posture_rotation - target.rotation) ** 2).sum(axis=(1, 2))
        distance = pos_distance + _POSTURE_ORIENTATION_WEIGHT**2 * rot_distance
        return self._postures_rad[np.argsort(distance)[:_N_RESTARTS]]


def _errors(reached: Pose, target: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Position [m] and rotation vector [rad] from one to the other."""
    return target.pos_m - reached.pos_m, rotation_vector_of(target.rotation @ reached.rotation.T)
