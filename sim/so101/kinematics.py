"""Inverse kinematics of the five-joint arm by damped least squares."""

import mujoco
import numpy as np
from jaxtyping import Float

from sim.so101.units import JOINTS

N_ARM_JOINTS = 5


class TopDownKinematics:
    """Joint angles that put the tool centre point somewhere, fingers down, jaws at a yaw.

    Six error rows e (position 3 [m], axis tilt 2, yaw 1 [rad]), weighted by W, against five joints:

        dq = Aᵀ (A Aᵀ + λ² I)⁻¹ W e,   A = W J,   J from `mj_jacSite`

    Five joints cannot meet six rows everywhere: above 7 cm wrist_flex saturates, so the orientation is
    soft (`orientation_weight`) and the position is met first. A joint at its limit is taken out of A.
    """

    def __init__(self, model: mujoco.MjModel, site: str = "tcp", damping: float = 1e-3) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = model.site(site).id
        joints = [model.joint(joint).id for joint in JOINTS[:N_ARM_JOINTS]]
        self._qpos = model.jnt_qposadr[joints]
        self._dof = model.jnt_dofadr[joints]
        self._low, self._high = model.jnt_range[joints].T
        self._damping = damping

    def solve(
        self,
        q_rad: Float[np.ndarray, "5"],
        pos_world: Float[np.ndarray, "3"],
        yaw_rad: float,
        orientation_weight: float,
        n_iterations: int = 12,
    ) -> Float[np.ndarray, "5"]:
        """Improve `q_rad` (the warm start) towards the target; stays inside the joint limits.

        Args:
            pos_world: of the tool centre point, m.
            yaw_rad: direction in which the jaws open, about the world's z.
            orientation_weight: of one radian, where one metre weighs 1.
        """
        q = np.array(q_rad, dtype=np.float64)
        for _ in range(n_iterations):
            error, jacobian = self._linearise(q, pos_world, yaw_rad, orientation_weight)
            push = jacobian.T @ error
            jacobian[:, ((q >= self._high) & (push > 0)) | ((q <= self._low) & (push < 0))] = 0.0
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + self._damping**2 * np.eye(6), error)
            q = np.clip(q + np.clip(step, -0.3, 0.3), self._low, self._high)
            if np.abs(step).max() < 1e-5:
                break
        return q

    def _linearise(self, q, pos_world, yaw_rad, orientation_weight):
        data = self._data
        data.qpos[self._qpos] = q
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        jac_pos, jac_rot = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        mujoco.mj_jacSite(self._model, data, jac_pos, jac_rot, self._site)
        rotation = data.site_xmat[self._site].reshape(3, 3)
        opening, fingers = rotation[:, 0], -rotation[:, 2]
        # Rotating `fingers` onto straight down and `opening` onto the yaw, as one world-frame rotation vector.
        down = np.array([0.0, 0.0, -1.0])
        tilt = np.cross(fingers, down)
        yaw_now = np.arctan2(opening[1], opening[0])
        yaw_error = (yaw_rad - yaw_now + np.pi) % (2 * np.pi) - np.pi
        rotation_error = np.array([tilt[0], tilt[1], yaw_error])
        error = np.concatenate([pos_world - data.site_xpos[self._site], orientation_weight * rotation_error])
        jacobian = np.vstack([jac_pos[:, self._dof], orientation_weight * jac_rot[:, self._dof]])
        return error, jacobian
