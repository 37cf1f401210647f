"""Drives robosuite's Panda under operational-space control, without robosuite's repeated work.

robosuite 1.4 runs MuJoCo's whole forward dynamics three times a physics step: before the
controller, in the controller's update, and in `mj_step`. Positions and velocities do not change in
between. Everything that depends on them alone (`mj_step1`) is therefore computed once, and the
controller reads nothing else. The accelerations are solved for as often as in robosuite
(`n_forwards`), since each solution is the starting point of the next one. Torques and states are
equal to robosuite's to the last bit.
"""

from typing import NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float, Float64

from sim.arrays import Rotation

ControlState = Float64[np.ndarray, " n"]

# The first 6 numbers of an action move the arm: position and rotation. The rest is the gripper.
_N_ARM = 6


class HandPose(NamedTuple):
    """The measured hand of an arm."""

    pos: Float64[np.ndarray, "3"]
    quat_xyzw: Float64[np.ndarray, "4"]
    fingers: Float64[np.ndarray, " finger"]


class PandaArm:
    """Turns an action into actuator commands, one physics step at a time.

    Attributes:
        n_actions: how many numbers of an action are this arm's.
        grip_site: id of the site between the fingers, the tool centre point.
        qpos: addresses of the joints' positions.
    """

    def __init__(
        self,
        robot,
        model: mujoco.MjModel,
        data: mujoco.MjData,
    ) -> None:
        """Look up the robot's actuators, joints and grip site.

        Args:
            robot: robosuite's `SingleArm`. Each reset gives it a new controller, so the controller
                is looked up at every use.
        """
        self._robot = robot
        self._model = model
        self._data = data
        self.n_actions: int = robot.action_dim
        self.grip_site: int = robot.eef_site_id
        self._hand_body = model.body(robot.robot_model.eef_name).id
        # Empty for a tool without fingers.
        self._finger_qpos = np.array(robot._ref_gripper_joint_pos_indexes or [], dtype=int)
        self._dofs = np.array(robot._ref_joint_vel_indexes)
        self.qpos = np.array(robot._ref_joint_pos_indexes)
        self._arm_actuators = np.array(robot._ref_joint_actuator_indexes)
        self._torque_limits = robot.torque_limits
        # A wiping tool has no actuators, and an empty array would be one of floats.
        self._gripper_actuators = np.array(robot._ref_joint_gripper_actuator_indexes, dtype=int)
        low, high = model.actuator_ctrlrange[self._gripper_actuators].T
        self._gripper_middle = 0.5 * (high + low)
        self._gripper_half_range = 0.5 * (high - low)
        self._jacobian = np.zeros((2, 3, model.nv))
        self._mass = np.zeros((model.nv, model.nv))

    @property
    def updates(self) -> bool:
        """Return whether robosuite's controller updates itself before the next physics step.

        It then calls `mj_forward` once more.
        """
        return self._robot.controller.new_update

    def drive(
        self,
        action: Float[np.ndarray, " action_dim"],
        *,
        is_new: bool,
    ) -> None:
        """Set the actuators for one physics step, between `mj_step1` and `mj_step2`.

        Args:
            is_new: this is the first physics step of the control step, so the goal is set anew.
        """
        controller = self._robot.controller
        # In the first physics step after a reset, robosuite steers by the pose of the reset.
        if controller.new_update:
            self._update(controller)
        if is_new:
            controller.set_goal(action[:_N_ARM])
        self._data.ctrl[self._arm_actuators] = np.clip(
            controller.run_controller(), *self._torque_limits
        )
        opening = self._robot.gripper.format_action(action[_N_ARM:])
        self._data.ctrl[self._gripper_actuators] = (
            self._gripper_middle + self._gripper_half_range * opening
        )

    def measure_hand(self) -> HandPose:
        """Return the position [m, world], the quaternion xyzw, and the fingers [m]."""
        data = self._data
        return HandPose(
            data.site_xpos[self.grip_site].copy(),
            data.xquat[self._hand_body, [1, 2, 3, 0]],
            data.qpos[self._finger_qpos],
        )

    @property
    def control_state(self) -> ControlState:
        """Return the controller state that MuJoCo's state lacks and that affects the future.

        It holds the gripper command (2; none without a gripper), the goal position (3) and the goal
        rotation (9).
        """
        controller = self._robot.controller
        gripper = np.broadcast_to(self._robot.gripper.current_action, len(self._gripper_actuators))
        return np.concatenate(
            [gripper, controller.goal_pos, np.ravel(controller.goal_ori)], dtype=np.float64
        )

    @control_state.setter
    def control_state(self, value: ControlState) -> None:
        controller = self._robot.controller
        gripper, position, rotation = np.split(value, [-12, -9])
        self._robot.gripper.current_action = gripper.copy()
        controller.goal_pos = position.copy()
        controller.goal_ori = rotation.reshape(3, 3).copy()

    @property
    def tool_rotation(self) -> Rotation:
        """Return the rotation of the grip site [world] that the controller last read."""
        return np.array(self._robot.controller.ee_ori_mat, dtype=np.float32)

    @tool_rotation.setter
    def tool_rotation(self, value: Float[np.ndarray, "..."]) -> None:
        # The next physics step reads the rotation anew, so a rounded one changes nothing.
        self._robot.controller.ee_ori_mat = value.reshape(3, 3).astype(np.float64)

    def _update(self, controller) -> None:
        """Set everything that `Controller.update` would compute, and turn its own update off."""
        data = self._data
        position_jacobian, rotation_jacobian = self._jacobian
        mujoco.mj_jacSite(
            self._model,
            data,
            position_jacobian,
            rotation_jacobian,
            self.grip_site,
        )
        mujoco.mj_fullM(self._model, self._mass, data.qM)
        rotation = data.site_xmat[self.grip_site].reshape(3, 3)
        controller.ee_pos = data.site_xpos[self.grip_site].copy()
        controller.ee_ori_mat = rotation.copy()
        controller.ee_pos_vel = np.dot(position_jacobian, data.qvel)
        controller.ee_ori_vel = np.dot(rotation_jacobian, data.qvel)
        controller.joint_pos = data.qpos[self.qpos]
        controller.joint_vel = data.qvel[self._dofs]
        controller.J_pos = position_jacobian[:, self._dofs]
        controller.J_ori = rotation_jacobian[:, self._dofs]
        controller.J_full = np.vstack([controller.J_pos, controller.J_ori])
        controller.mass_matrix = self._mass[self._dofs][:, self._dofs]
        controller.new_update = False
