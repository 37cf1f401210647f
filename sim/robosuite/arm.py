"""robosuite's Panda under operational-space control, without what robosuite computes twice.

robosuite 1.4 runs MuJoCo's whole forward dynamics three times a physics step: before the
controller, in its update, and in `mj_step`. Positions and velocities do not change in between, so
what follows from them alone (`mj_step1`) is computed once, and it is all that the controller reads.
The accelerations are solved for as often as robosuite does (`n_forwards`), since each solution is
where the next one starts. Torques and states are the same to the last bit.
"""

import mujoco
import numpy as np
from jaxtyping import Float, Float64

_N_ARM = (
    6  # numbers of an action that go to the arm: position and rotation; the rest is the gripper
)


class PandaArm:
    """Turns an action into what the actuators get, one physics step at a time."""

    def __init__(self, robot, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Args:
        robot: robosuite's `SingleArm`. A reset gives it a new controller, so that is asked for each
        time.
        """
        self._robot, self._model, self._data = robot, model, data
        self._grip_site: int = robot.eef_site_id
        self._dofs = np.array(robot._ref_joint_vel_indexes)
        self.qpos = np.array(robot._ref_joint_pos_indexes)
        self._arm_actuators = np.array(robot._ref_joint_actuator_indexes)
        self._torque_limits = robot.torque_limits
        self._gripper_actuators = np.array(robot._ref_joint_gripper_actuator_indexes)
        low, high = model.actuator_ctrlrange[self._gripper_actuators].T
        self._gripper_middle, self._gripper_half_range = 0.5 * (high + low), 0.5 * (high - low)
        self._jacobian = np.zeros((2, 3, model.nv))
        self._mass = np.zeros((model.nv, model.nv))

    def use_deltas(self, relative: bool) -> None:
        """Choose how actions are read: as scaled differences from the present pose, or as poses in the world."""
        self._robot.controller.use_delta = relative

    def forget_gripper(self) -> None:
        """Back to where a newly made gripper begins; robosuite's reset keeps the last episode's."""
        self._robot.gripper.current_action = np.zeros(2)

    @property
    def n_forwards(self) -> int:
        """How often robosuite calls `mj_forward` before the next physics step: itself once, and its controller."""
        return 2 if self._robot.controller.new_update else 1

    def drive(self, action: Float[np.ndarray, "7"], *, is_new: bool) -> None:
        """Set the actuators for one physics step, between `mj_step1` and `mj_step2`.

        Args:
            is_new: first physics step of the control step: the goal is set anew.
        """
        controller = self._robot.controller
        if (
            controller.new_update
        ):  # not in the first physics step after a reset: robosuite steers by the reset's pose
            self._update(controller)
        if is_new:
            controller.set_goal(action[:_N_ARM])
        torques = controller.run_controller()
        self._data.ctrl[self._arm_actuators] = np.clip(torques, *self._torque_limits)
        opening = self._robot.gripper.format_action(action[_N_ARM:])
        self._data.ctrl[self._gripper_actuators] = (
            self._gripper_middle + self._gripper_half_range * opening
        )

    @property
    def memory(self) -> Float64[np.ndarray, "14"]:
        """Return what the future depends on beside MuJoCo's state: gripper command, goal position and rotation."""
        controller = self._robot.controller
        gripper = np.broadcast_to(self._robot.gripper.current_action, 2)
        return np.concatenate([gripper, controller.goal_pos, np.ravel(controller.goal_ori)]).astype(
            np.float64
        )

    @memory.setter
    def memory(self, value: Float64[np.ndarray, "14"]) -> None:
        controller = self._robot.controller
        self._robot.gripper.current_action = value[:2].copy()
        controller.goal_pos, controller.goal_ori = value[2:5].copy(), value[5:].reshape(3, 3).copy()

    def _update(self, controller) -> None:
        """Set what `Controller.update` reads; with `new_update` off it does not compute all of it again."""
        data, position, rotation = self._data, self._jacobian[0], self._jacobian[1]
        mujoco.mj_jacSite(self._model, data, position, rotation, self._grip_site)
        mujoco.mj_fullM(self._model, self._mass, data.qM)
        controller.ee_pos = data.site_xpos[self._grip_site].copy()
        controller.ee_ori_mat = data.site_xmat[self._grip_site].reshape(3, 3).copy()
        controller.ee_pos_vel = np.dot(position, data.qvel)
        controller.ee_ori_vel = np.dot(rotation, data.qvel)
        controller.joint_pos, controller.joint_vel = data.qpos[self.qpos], data.qvel[self._dofs]
        controller.J_pos, controller.J_ori = position[:, self._dofs], rotation[:, self._dofs]
        controller.J_full = np.vstack([controller.J_pos, controller.J_ori])
        controller.mass_matrix = self._mass[self._dofs][:, self._dofs]
        controller.new_update = False
