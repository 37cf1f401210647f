"""The task in which the SO-101 picks a block up and places it in a bowl."""

from collections.abc import Mapping

import mujoco
import numpy as np
from jaxtyping import Float, Float32, Float64

from sim.arrays import Action, ImageSizes, SnapshotVector, StateVector, Vector3
from sim.env import Expert, LooseObject, Progress, StepResult, episode_rng
from sim.loose_objects import observe_loose_objects
from sim.model_env import ModelEnv
from sim.observation import Observation
from sim.rendering import CameraRenderer
from sim.so101.block_goal import BlockGoal
from sim.so101.pick_place_spec import make_spec, servo_range_rad
from sim.so101.scene import build_model
from sim.so101.scene_config import DEFAULT_SCENE, SceneConfig
from sim.so101.units import JOINTS, BodyUnits, JointAngles, JointUnits

# In two control steps a block falls freely by 2 cm, and sinks into its contacts by 0.01 mm at rest.
FALLEN_M = 0.001
SETTLE_S = 2.0
# The block must stay placed for this long. One that passes through the bowl does not count.
SUCCESS_HOLD_STEPS = 10
# A target within float32 rounding of a limit does not count as clipped.
_ROUNDING_RAD = 1e-5

# MuJoCo resets a diverging state silently to the initial pose, and counts one of these warnings.
_DIVERGED = [
    int(getattr(mujoco.mjtWarning, f"mjWARN_BAD{what}")) for what in ("QPOS", "QVEL", "QACC")
]

_FREE_QPOS = 7


class PickPlace(ModelEnv):
    """`sim.env.Env` of the SO-101: joint-position control at 30 Hz, block and bowl on a table.

    Action and state are the six joints in lerobot's SO-101 units (`sim.so101.units`). An action is
    the target of the position servos and is clipped to their range.
    """

    def __init__(
        self,
        name: str,
        config: SceneConfig = DEFAULT_SCENE,
        body_units: BodyUnits = "deg",
        image_sizes: ImageSizes | None = None,
        model: mujoco.MjModel | None = None,
    ) -> None:
        """Args:
        name: for the spec.
        body_units: units of the body joints.
        image_sizes: camera → (height_px, width_px) of exactly the cameras to observe.
        model: used instead of the one built from `config`.
        """
        self.config = config
        self.model = self._build_model() if model is None else model
        self.data = mujoco.MjData(self.model)
        self._falling = mujoco.MjData(self.model)
        joint_ids = [self.model.joint(joint).id for joint in JOINTS]
        self._joint_qpos = self.model.jnt_qposadr[joint_ids]
        self._actuator_ids = np.array([self.model.actuator(joint).id for joint in JOINTS])
        self._ctrl_low, self._ctrl_high = servo_range_rad(self.model)
        self._tool = self.model.site("tcp").id
        self._bind_initial_goal()
        self.units = JointUnits(self.model.jnt_range[joint_ids], body_units)
        self.spec = make_spec(
            name,
            config,
            self.model,
            self.units,
            image_sizes,
        )
        self._renderer = CameraRenderer(
            self.model, self.spec.cameras, config.supersampling, config.shadows
        )
        self._n_substeps = round(config.control_dt_s / config.physics_dt_s)
        self._given_start: Mapping[str, float] = {}
        self.reset(0)

    def start_ranges(self) -> Mapping[str, tuple[float, float]]:
        config = self.config
        return {
            "object x": config.block_x_m,
            "object y": config.block_y_m,
            "object yaw": config.block_yaw_rad,
        }

    def reset_at(self, episode_index: int, start: Mapping[str, float]) -> None:
        self._given_start = start
        try:
            self.reset(episode_index)
        finally:
            self._given_start = {}

    def reset(self, episode_index: int) -> None:
        rng = episode_rng(self.spec.task, episode_index)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._joint_qpos] = self.config.home_rad
        self.data.ctrl[self._actuator_ids] = self.config.home_rad
        self._place_objects(rng, episode_index)
        self._n_placed_steps = 0
        self._rest_height_m = self._find_rest_height()
        mujoco.mj_fwdPosition(self.model, self.data)

    def _build_model(self) -> mujoco.MjModel:
        return build_model(self.config)

    def _place_objects(
        self,
        rng: np.random.Generator,
        episode_index: int,
    ) -> None:
        """Draw the initial places of the objects in an episode."""
        config = self.config
        yaw_rad = rng.uniform(*config.block_yaw_rad)
        x_m = rng.uniform(*config.block_x_m)
        y_m = rng.uniform(*config.block_y_m)
        drawn = {"object x": x_m, "object y": y_m, "object yaw": yaw_rad}
        start = drawn | dict(self._given_start)
        self._place_block("block", start["object x"], start["object y"], start["object yaw"])

    def _place_block(
        self,
        name: str,
        x_m: float,
        y_m: float,
        yaw_rad: float,
    ) -> None:
        """Put a block on the table. Its height is that of the model."""
        begin = self.model.jnt_qposadr[self.model.body(name).jntadr[0]]
        block = self.data.qpos[begin : begin + _FREE_QPOS]
        block[:2] = x_m, y_m
        block[3:] = np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)

    def _find_rest_height(self) -> float:
        """Return the height at which the block comes to rest, m.

        In a user's scene the block may start in the air. The fall is simulated in a second
        `MjData`, so that the episode stays unchanged. A block that has fallen by less than
        `FALLEN_M` after two control steps is already at rest.
        """
        height = self._goal.height_qpos
        falling = self._falling
        initial_m = float(self.data.qpos[height])
        mujoco.mj_resetData(self.model, falling)
        falling.qpos[:] = self.data.qpos
        falling.ctrl[:] = self.data.ctrl
        falling.mocap_pos[:] = self.data.mocap_pos
        mujoco.mj_step(self.model, falling, 2 * self._n_substeps)
        if abs(falling.qpos[height] - initial_m) < FALLEN_M:
            return initial_m
        mujoco.mj_step(self.model, falling, round(SETTLE_S / self.config.physics_dt_s))
        return float(falling.qpos[height])

    def place_arm(self, q_rad: Float[np.ndarray, "6"]) -> None:
        """Put the arm at rest at other joint angles than home, right after a reset.

        Demonstrations start this way.
        """
        self.data.qpos[self._joint_qpos] = q_rad
        self.data.ctrl[self._actuator_ids] = q_rad
        mujoco.mj_fwdPosition(self.model, self.data)

    def observe(self) -> Observation:
        return Observation(self._renderer.render(self.data), self.state(), self.instruction)

    @property
    def instruction(self) -> str:
        """Return the instruction of this episode."""
        return self.spec.instruction

    @property
    def blocks(self) -> tuple[str, ...]:
        """Return the bodies of the blocks. The expert takes the first one."""
        return ("block",)

    @property
    def receptacles(self) -> tuple[str, ...]:
        """Return the bodies that a block can be placed in. The expert uses the first one."""
        return ("bowl",)

    def state(self) -> StateVector:
        return self.joint_state()

    def joint_state(self) -> Float32[np.ndarray, "6"]:
        """Return the measured joints in `units`, even if the environment's state is another one."""
        return self.units.from_rad(self.data.qpos[self._joint_qpos]).astype(np.float32)

    def joint_target_rad(self, action: Action) -> JointAngles:
        """Return the joint angles that an action sends to the servos, before clipping."""
        return self.units.to_rad(np.asarray(action, dtype=np.float64))

    def action_for(self, target_rad: JointAngles) -> Float64[np.ndarray, " action_dim"]:
        """Return the action that sends these joint angles to the servos.

        It is the inverse of `joint_target_rad`.
        """
        return self.units.from_rad(target_rad)

    def step(self, action: Action) -> StepResult:
        return self._drive(self.joint_target_rad(action))

    def _drive(self, target_rad: JointAngles) -> StepResult:
        """Hold joint targets for one control step."""
        allowed_rad = self._move(target_rad)
        self._check_physics()
        # mj_step leaves positions and contacts one substep behind the state. Results must depend on
        # the state alone, because a restored snapshot has nothing else.
        mujoco.mj_fwdPosition(self.model, self.data)
        progress = self._progress_of_block()
        self._n_placed_steps = self._n_placed_steps + 1 if progress.met else 0
        success = self._n_placed_steps >= SUCCESS_HOLD_STEPS
        return StepResult(
            (progress,), success, bool(np.abs(target_rad - allowed_rad).max() > _ROUNDING_RAD)
        )

    def _move(self, target_rad: JointAngles) -> JointAngles:
        """Run the physics of one control step, and return the clipped targets."""
        allowed_rad = np.clip(target_rad, self._ctrl_low, self._ctrl_high)
        self.data.ctrl[self._actuator_ids] = allowed_rad
        mujoco.mj_step(self.model, self.data, self._n_substeps)
        return allowed_rad

    def _advance(self, action: Action) -> JointAngles:
        return self._move(self.joint_target_rad(action))

    def _has_diverged(self) -> bool:
        return bool(self.data.warning.number[_DIVERGED].any())

    def progress(self) -> tuple[Progress, ...]:
        return (self._progress_of_block(),)

    def _progress_of_block(self) -> Progress:
        return self._goal.progress(self.data, self._rest_height_m)

    def snapshot(self) -> SnapshotVector:
        """Return `mjSTATE_INTEGRATION`, followed by the environment's own memory (`_memory`)."""
        return np.append(super().snapshot(), self._memory())

    def restore(self, snapshot: SnapshotVector) -> None:
        state, memory = np.split(snapshot, [-len(self._memory())])
        self._set_memory(memory.tolist())
        self.data.warning.number[:] = 0  # an earlier divergence is not part of this state
        super().restore(state)

    def _memory(self) -> list[float]:
        """Return what the future depends on besides MuJoCo's state.

        These are the rest height [m] and the number of steps for which the block has been placed.
        """
        return [self._rest_height_m, float(self._n_placed_steps)]

    def _set_memory(self, memory: list[float]) -> None:
        """Restore what `_memory` returned."""
        self._rest_height_m = memory[0]
        self._n_placed_steps = int(memory[1])

    def goal_pos_world(self) -> Vector3:
        """Return the middle of the goal, m."""
        return self._goal.pos_world(self.data)

    def loose_objects(self) -> tuple[LooseObject, ...]:
        return observe_loose_objects(self.model, self.data)

    def make_expert(self, failure_mode: str | None = None) -> Expert:
        from sim.so101.expert import PickPlaceExpert, check_failure_mode  # it imports this module

        check_failure_mode(failure_mode, self)
        return PickPlaceExpert(self, failure_mode)

    def _bind_initial_goal(self) -> None:
        self._bind_goal("block", "goal")

    def _bind_goal(
        self,
        block: str,
        goal_site: str,
    ) -> None:
        """Measure the progress of this block toward this goal."""
        self._goal = BlockGoal(self.model, block, goal_site)
