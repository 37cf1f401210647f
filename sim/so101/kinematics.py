"""Inverse kinematics of the five-joint arm by damped least squares."""

import mujoco
import numpy as np
from jaxtyping import Float

from sim.so101.units import JOINTS

N_ARM_JOINTS = 5

# The largest movement of a joint in one iteration, and the size below which steps have converged.
_LARGEST_STEP_RAD = 0.3
_CONVERGED_RAD = 1e-5
DAMPING = 1e-3


class ArmKinematics:
    """The pose of a site as a function of the five arm joints q [rad], and one step of its inverse.

    Six error rows e (position 3 [m], rotation 3 [rad]), weighted by W, stand against five joints:

        dq = Aᵀ (A Aᵀ + λ² I)⁻¹ W e,   A = W J,   J from `mj_jacSite`

    Five joints cannot meet six rows everywhere. The orientation has a weight well below the
    position's 1, so that the position is met first. A joint at its limit is removed from A.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        site: str = "tcp",
    ) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = model.site(site).id
        joints = [model.joint(joint).id for joint in JOINTS[:N_ARM_JOINTS]]
        self._qpos = model.jnt_qposadr[joints]
        self._dof = model.jnt_dofadr[joints]
        self._low, self._high = model.jnt_range[joints].T

    def _step(
        self,
        q: np.ndarray,
        error: np.ndarray,
        jacobian: np.ndarray,
        damping: float = DAMPING,
    ) -> np.ndarray:
        """Return dq, from W e and W J at q.

        Of all limits, only those that q has already reached are respected.
        """
        push = jacobian.T @ error
        free = np.where(
            ((q >= self._high) & (push > 0)) | ((q <= self._low) & (push < 0)), 0.0, jacobian
        )
        return free.T @ np.linalg.solve(free @ free.T + damping**2 * np.eye(6), error)

    def _moved(
        self,
        q: np.ndarray,
        step: np.ndarray,
    ) -> np.ndarray:
        """Return q after a step, limited in size and to the joints' limits."""
        step = np.clip(step, -_LARGEST_STEP_RAD, _LARGEST_STEP_RAD)
        return np.clip(q + step, self._low, self._high)

    def _place(self, q_rad: np.ndarray) -> None:
        """Move this object's own copy of the model to these joint angles."""
        self._data.qpos[self._qpos] = q_rad
        mujoco.mj_kinematics(self._model, self._data)

    def _weighted_jacobian(self, orientation_weight: float) -> np.ndarray:
        """Return W J at the current state of the copy.

        Position rows come first, then rotation rows, along the world's axes.
        """
        mujoco.mj_comPos(self._model, self._data)
        jac_pos, jac_rot = np.zeros((2, 3, self._model.nv))
        mujoco.mj_jacSite(
            self._model,
            self._data,
            jac_pos,
            jac_rot,
            self._site,
        )
        return np.vstack([jac_pos[:, self._dof], orientation_weight * jac_rot[:, self._dof]])


class TopDownKinematics(ArmKinematics):
    """Finds joint angles for a position of the tool centre point and a yaw of downward fingers.

    The rotation rows are the tilt of the fingers and the yaw of the jaws. Above 7 cm, wrist_flex
    saturates.
    """

    def solve(
        self,
        q_rad: Float[np.ndarray, "5"],
        pos_world: Float[np.ndarray, "3"],
        yaw_rad: float,
        orientation_weight: float,
        n_iterations: int = 12,
    ) -> Float[np.ndarray, "5"]:
        """Improve `q_rad` (the warm start) towards the target, inside the joint limits.

        Args:
            pos_world: target of the tool centre point, m.
            yaw_rad: direction in which the jaws open, about the world's z.
            orientation_weight: of one radian, relative to 1 of one metre.
        """
        q = np.array(q_rad, dtype=np.float64)
        for _ in range(n_iterations):
            error, jacobian = self._linearise(q, pos_world, yaw_rad, orientation_weight)
            step = self._step(q, error, jacobian)
            q = self._moved(q, step)
            if np.abs(step).max() < _CONVERGED_RAD:
                break
        return q

    def _linearise(
        self,
        q,
        pos_world,
        yaw_rad,
        orientation_weight,
    ):
        self._place(q)
        rotation = self._data.site_xmat[self._site].reshape(3, 3)
        opening = rotation[:, 0]
        # The world-frame rotation vector that turns the fingers straight down and `opening` to the
        # yaw.
        tilt = np.cross(-rotation[:, 2], [0.0, 0.0, -1.0])
        yaw_now = np.arctan2(opening[1], opening[0])
        yaw_error = (yaw_rad - yaw_now + np.pi) % (2 * np.pi) - np.pi
        rotation_error = np.append(tilt[:2], yaw_error)
        pos_error = pos_world - self._data.site_xpos[self._site]
        error = np.concatenate([pos_error, orientation_weight * rotation_error])
        return error, self._weighted_jacobian(orientation_weight)
