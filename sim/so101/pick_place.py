"""The SO-101 picks a block up and places it in a bowl."""

from collections.abc import Mapping
from math import hypot
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float, Float32, Float64

from sim.env import Expert, LooseObject, Progress, StepResult, episode_rng
from sim.errors import WhiskerError
from sim.goals.pick_and_place import pick_and_place_progress
from sim.loose_objects import observe_loose_objects
from sim.model_geometry import compute_body_poses, extract_geometry
from sim.observation import Observation
from sim.rendering import DEPTH_SUFFIX, CameraRenderer, compute_projection
from sim.scene_geometry import SceneGeometry
from sim.so101.goals import LIFTED_M, declare_goal
from sim.so101.scene import GRIPPER_BODY, MOVING_JAW_BODY, build_model, load_user_model
from sim.so101.scene_config import BRICK_SCENE, DEFAULT_SCENE, VIEWER_CAMERA, SceneConfig
from sim.so101.units import JOINTS, BodyUnits, JointUnits
from sim.spec import ActionSpec, CameraSpec, EnvSpec

REACHED_M = 0.03
AT_REST_M_S = 0.05
# Free fall of two control steps is 2 cm, what contacts give way under a block at rest a hundredth
# of a millimetre.
FALLEN_M = 0.001
SETTLE_S = 2.0
# Placed for this long is success: a block that passes through the bowl does not count.
SUCCESS_HOLD_STEPS = 10

# MuJoCo's answer to a diverging state is a silent reset to the initial pose.
_DIVERGED = tuple(
    int(getattr(mujoco.mjtWarning, f"mjWARN_BAD{what}")) for what in ("QPOS", "QVEL", "QACC")
)

# Codes of what can touch: a contact's code is the sum of its two, and no two pairs share one that
# matters.
_BLOCK = 1
_GRIPPER = 2
_JAW = 4

# What MuJoCo draws by default.
_GROUPS_FOR_EYES = (0, 1, 2)

_INTEGRATION_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_FREE_QPOS = 7
_FREE_DOFS = 6


class PickPlace:
    """`sim.env.Env` of the SO-101: joint-position control at 30 Hz, block and bowl on a table.

    Action and state are the six joints in lerobot's SO-101 units (`sim.so101.units`); an action is
    the target of the position servos and is cut to their range.
    """

    def __init__(
        self,
        name: str,
        config: SceneConfig = DEFAULT_SCENE,
        body_units: BodyUnits = "deg",
        image_sizes: Mapping[str, tuple[int, int]] | None = None,
        model: mujoco.MjModel | None = None,
    ) -> None:
        """Args:
        name: for the spec.
        body_units: how the body joints are written.
        image_sizes: camera → (height_px, width_px) of exactly the cameras to observe.
        model: in place of the one built from `config`.
        """
        self.config = config
        self.model = self._build_model() if model is None else model
        self.data = mujoco.MjData(self.model)
        self._falling = mujoco.MjData(self.model)
        self._bind_names()
        self.units = JointUnits(self.model.jnt_range[self._joint_ids], body_units)
        self.spec = self._make_spec(name, image_sizes)
        self._renderer = CameraRenderer(
            self.model,
            self.spec.cameras,
            config.supersampling,
            config.shadows,
        )
        self._n_substeps = round(config.control_dt_s / config.physics_dt_s)
        self._n_placed_steps = 0
        self.reset(0)

    def reset(self, episode_index: int) -> None:
        rng = episode_rng(self.spec.task, episode_index)
        config = self.config
        data = self.data
        mujoco.mj_resetData(self.model, data)
        data.qpos[self._joint_qpos] = config.home_rad
        data.ctrl[self._actuator_ids] = config.home_rad
        self._place_objects(rng, episode_index)
        self._n_placed_steps = 0
        self._rest_height_m = self._find_rest_height()
        mujoco.mj_fwdPosition(self.model, data)

    def _build_model(self) -> mujoco.MjModel:
        return build_model(self.config)

    def _place_objects(
        self,
        rng: np.random.Generator,
        episode_index: int,
    ) -> None:
        """Draw where the objects are at the start of an episode."""
        del episode_index
        config = self.config
        yaw = rng.uniform(*config.block_yaw_rad)
        self._place_block(
            "block",
            rng.uniform(*config.block_x_m),
            rng.uniform(*config.block_y_m),
            yaw,
        )

    def _place_block(
        self,
        name: str,
        x_m: float,
        y_m: float,
        yaw_rad: float,
    ) -> None:
        """Put a block on the table; its height is the model's."""
        begin = self.model.jnt_qposadr[self.model.body(name).jntadr[0]]
        block = self.data.qpos[begin : begin + _FREE_QPOS]
        block[:2] = x_m, y_m
        block[3:] = np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2)

    def _find_rest_height(self) -> float:
        """Return the height at which the block comes to rest, m: a user's scene may begin with it in the air.

        Simulated in a second `MjData`, so that the episode itself is left alone. A block that has
        not fallen by `FALLEN_M` after two control steps rests where it is.
        """
        at = self._block_qpos + 2
        begin = float(self.data.qpos[at])
        falling = self._falling
        mujoco.mj_resetData(self.model, falling)
        falling.qpos[:] = self.data.qpos
        falling.ctrl[:] = self.data.ctrl
        falling.mocap_pos[:] = self.data.mocap_pos
        mujoco.mj_step(self.model, falling, 2 * self._n_substeps)
        if abs(falling.qpos[at] - begin) < FALLEN_M:
            return begin
        mujoco.mj_step(
            self.model,
            falling,
            round(SETTLE_S / self.config.physics_dt_s),
        )
        return float(falling.qpos[at])

    def place_arm(self, q_rad: Float[np.ndarray, "6"]) -> None:
        """Put the arm at rest at joint angles other than home's, right after a reset.

        Demonstrations start so.
        """
        self.data.qpos[self._joint_qpos] = self.data.ctrl[self._actuator_ids] = q_rad
        mujoco.mj_fwdPosition(self.model, self.data)

    def observe(self) -> Observation:
        return Observation(
            self._renderer.render(self.data),
            self.state(),
            self.instruction,
        )

    @property
    def instruction(self) -> str:
        """The instruction of this episode."""
        return self.spec.instruction

    @property
    def blocks(self) -> tuple[str, ...]:
        """Bodies of the blocks, the one that the expert takes first."""
        return ("block",)

    @property
    def receptacles(self) -> tuple[str, ...]:
        """Bodies that a block can be placed in, the one that the expert uses first."""
        return ("bowl",)

    def state(self) -> Float32[np.ndarray, " state_dim"]:
        return self.joint_state()

    def joint_state(self) -> Float32[np.ndarray, "6"]:
        """The measured joints in `units`, whatever the environment's state is."""
        return self.units.from_rad(self.data.qpos[self._joint_qpos]).astype(np.float32)

    def joint_target_rad(
        self, action: Float[np.ndarray, " action_dim"]
    ) -> Float64[np.ndarray, "6"]:
        """The joint angles that an action sends to the servos, not yet cut to their range."""
        return self.units.to_rad(np.asarray(action, dtype=np.float64))

    def action_for(
        self, target_rad: Float64[np.ndarray, "6"]
    ) -> Float64[np.ndarray, " action_dim"]:
        """The action that sends these joint angles to the servos: the inverse of `joint_target_rad`."""
        return self.units.from_rad(target_rad)

    def step(self, action: Float[np.ndarray, " action_dim"]) -> StepResult:
        return self._drive(self.joint_target_rad(action))

    def simulate_ee_path(
        self, chunk: Float[np.ndarray, "horizon action_dim"]
    ) -> Float64[np.ndarray, "moment 3"]:
        path = np.full((len(chunk) + 1, 3), np.nan)
        path[0] = self.ee_pos_world()
        for step, action in enumerate(chunk, start=1):
            self._move(self.joint_target_rad(action))
            if self._has_diverged():
                break
            mujoco.mj_kinematics(self.model, self.data)
            path[step] = self.data.site_xpos[self._tcp_site]
        return path

    def _drive(self, target: Float64[np.ndarray, "6"]) -> StepResult:
        """Hold joint targets [rad] for one control step."""
        allowed = self._move(target)
        if self._has_diverged():
            raise RuntimeError(f"the physics of {self.spec.name!r} diverged")
        # mj_step leaves positions and contacts one substep behind the state; what is reported must
        # be a function of the state alone, or a restored snapshot would report something else.
        mujoco.mj_fwdPosition(self.model, self.data)
        progress = self._progress_of_block()
        self._n_placed_steps = self._n_placed_steps + 1 if progress.met else 0
        # A target within float32 rounding of a limit is not a clipped one.
        clipped = bool(np.abs(target - allowed).max() > 1e-5)
        return StepResult((progress,), self._n_placed_steps >= SUCCESS_HOLD_STEPS, clipped)

    def _move(self, target: Float64[np.ndarray, "6"]) -> Float64[np.ndarray, "6"]:
        """Run the physics of one control step; returns the targets as they were cut to the actuators' range."""
        allowed = np.clip(target, self._ctrl_low, self._ctrl_high)
        self.data.ctrl[self._actuator_ids] = allowed
        mujoco.mj_step(self.model, self.data, self._n_substeps)
        return allowed

    def _has_diverged(self) -> bool:
        warnings = self.data.warning.number
        return any(warnings[kind] for kind in _DIVERGED)

    def progress(self) -> tuple[Progress, ...]:
        return (self._progress_of_block(),)

    def _progress_of_block(self) -> Progress:
        data = self.data
        pos = data.xpos[self._block_body].copy()
        height_m = float(pos[2]) - self._rest_height_m
        offset = pos - data.site_xpos[self._goal_site]
        inside_rim = self._is_inside_rim(offset)
        static_jaw, moving_jaw = self._jaws_touching()
        grasped = static_jaw and moving_jaw
        released = not (static_jaw or moving_jaw)
        velocity = data.qvel[self._block_dof : self._block_dof + 3]
        at_rest = float(velocity @ velocity) < AT_REST_M_S**2
        below_rim = float(offset[2]) < self._goal_half_height_m
        reach = data.site_xpos[self._tcp_site] - pos
        return pick_and_place_progress(
            reached=float(reach @ reach) < REACHED_M**2,
            grasped=grasped,
            lifted=grasped and height_m > LIFTED_M,
            over_goal=inside_rim,
            released=released,
            placed=inside_rim and below_rim and released and at_rest,
            object_height_m=height_m,
            goal_distance_m=hypot(offset[0], offset[1]),
            object_pos_world=pos,
        )

    def snapshot(self) -> Float64[np.ndarray, " snapshot_dim"]:
        """`mjSTATE_INTEGRATION`, then what the environment remembers (`_memory`)."""
        size = mujoco.mj_stateSize(self.model, _INTEGRATION_STATE)
        memory = self._memory()
        vector = np.empty(size + len(memory))
        mujoco.mj_getState(
            self.model,
            self.data,
            vector[:size],
            _INTEGRATION_STATE,
        )
        vector[size:] = memory
        return vector

    def restore(self, snapshot: Float64[np.ndarray, " snapshot_dim"]) -> None:
        size = mujoco.mj_stateSize(self.model, _INTEGRATION_STATE)
        mujoco.mj_setState(
            self.model,
            self.data,
            np.ascontiguousarray(snapshot[:size]),
            _INTEGRATION_STATE,
        )
        self._remember(snapshot[size:].tolist())
        self.data.warning.number[:] = 0  # a divergence before is another past's
        mujoco.mj_fwdPosition(self.model, self.data)

    def _memory(self) -> list[float]:
        """Return what the future depends on beside MuJoCo's state: the rest height (m), the steps of being placed."""
        return [self._rest_height_m, float(self._n_placed_steps)]

    def _remember(self, memory: list[float]) -> None:
        """Take over what `_memory` returned."""
        self._rest_height_m = memory[0]
        self._n_placed_steps = int(memory[1])

    def goal_pos_world(self) -> Float64[np.ndarray, "3"]:
        """Middle of the goal, m."""
        return self.data.site_xpos[self._goal_site].copy()

    def ee_pos_world(self) -> Float64[np.ndarray, "3"]:
        return self.data.site_xpos[self._tcp_site].copy()

    def projection(self, camera: str) -> Float64[np.ndarray, "3 4"]:
        return compute_projection(
            self.model,
            self.data,
            self.spec.camera(camera),
        )

    def geometry(self) -> SceneGeometry:
        return extract_geometry(self.model, _GROUPS_FOR_EYES)

    def body_poses(self) -> Float32[np.ndarray, "body 7"]:
        return compute_body_poses(self.data)

    def gl_renderer(self) -> str:
        return self._renderer.gl_renderer

    def loose_objects(self) -> tuple[LooseObject, ...]:
        return observe_loose_objects(self.model, self.data)

    def make_expert(self, failure_mode: str | None = None) -> Expert:
        from sim.so101.expert import PickPlaceExpert, check_failure_mode  # it imports this module

        return PickPlaceExpert(self, check_failure_mode(failure_mode, self))

    def close(self) -> None:
        self._renderer.close()

    def _bind_names(self) -> None:
        model = self.model
        self._joint_ids = np.array([model.joint(joint).id for joint in JOINTS])
        self._joint_qpos = model.jnt_qposadr[self._joint_ids]
        self._actuator_ids = np.array([model.actuator(joint).id for joint in JOINTS])
        self._ctrl_low, self._ctrl_high = model.actuator_ctrlrange[self._actuator_ids].T
        self._tcp_site = model.site("tcp").id
        self._contact_code = np.zeros(model.ngeom, dtype=np.int64)
        self._bind_start()

    def _bind_start(self) -> None:
        self._bind_goal("block", "goal")

    def _bind_goal(self, block: str, goal_site: str) -> None:
        """Let progress be about this block and this goal."""
        model = self.model
        self._block_body = model.body(block).id
        block_joint = model.body(block).jntadr[0]
        self._block_qpos = model.jnt_qposadr[block_joint]
        self._block_dof = model.jnt_dofadr[block_joint]
        self._contact_code[:] = 0
        for body, code in ((block, _BLOCK), (GRIPPER_BODY, _GRIPPER), (MOVING_JAW_BODY, _JAW)):
            self._contact_code[model.geom_bodyid == model.body(body).id] = code
        self._goal_site = model.site(goal_site).id
        goal_size = model.site_size[self._goal_site]
        is_box = int(model.site_type[self._goal_site]) == int(mujoco.mjtGeom.mjGEOM_BOX)
        self._goal_is_box = is_box
        self._goal_half_m = goal_size[:2].tolist()
        self._goal_half_height_m = float(goal_size[2] if is_box else goal_size[1])

    def _is_inside_rim(self, offset_m: Float64[np.ndarray, "3"]) -> bool:
        x = float(offset_m[0])
        y = float(offset_m[1])
        if self._goal_is_box:
            return abs(x) < self._goal_half_m[0] and abs(y) < self._goal_half_m[1]
        return hypot(x, y) < self._goal_half_m[0]

    def _jaws_touching(self) -> tuple[bool, bool]:
        """Whether the gripper's own finger and the moving jaw touch the block."""
        codes = self._contact_code[self.data.contact.geom].sum(axis=1).tolist()
        return _BLOCK + _GRIPPER in codes, _BLOCK + _JAW in codes

    def _make_spec(
        self,
        name: str,
        image_sizes: Mapping[str, tuple[int, int]] | None,
    ) -> EnvSpec:
        config = self.config
        units = self.units
        own_size = (config.image_height_px, config.image_width_px)
        if image_sizes is None:
            image_sizes = {"overhead_cam": own_size, "wrist_cam": own_size}
        return EnvSpec(
            name=name,
            task=config.name,
            instruction=config.instruction,
            cameras=tuple(self._camera_spec(camera, *size) for camera, size in image_sizes.items()),
            state_names=units.names,
            state_units=units.units,
            action=ActionSpec(
                names=units.names,
                units=units.units,
                low=tuple(units.from_rad(self._ctrl_low).tolist()),
                high=tuple(units.from_rad(self._ctrl_high).tolist()),
                mode="absolute",
                rotation="none",
                gripper_index=JOINTS.index("gripper"),
                gripper_closed=0.0,
                gripper_open=100.0,
            ),
            control_dt_s=config.control_dt_s,
            physics_dt_s=config.physics_dt_s,
            max_steps=config.max_steps,
            camera_names=self._camera_names(),
            goals=(declare_goal("in block bowl"),),
        )

    def _camera_names(self) -> tuple[str, ...]:
        """Each as colour and as depth; the one that is made for people is no robot's."""
        own = [self.model.camera(i).name for i in range(self.model.ncam)]
        return tuple(
            name + suffix for suffix in ("", DEPTH_SUFFIX) for name in own if name != VIEWER_CAMERA
        )

    def _camera_spec(
        self,
        name: str,
        height_px: int,
        width_px: int,
    ) -> CameraSpec:
        camera = mujoco.mj_name2id(
            self.model,
            mujoco.mjtObj.mjOBJ_CAMERA,
            name.removesuffix(DEPTH_SUFFIX),
        )
        if camera < 0:
            raise WhiskerError(
                f"camera {name!r}",
                expected=f"one of {', '.join(self._camera_names())}",
                hint="The environment has no other cameras.",
            )
        depth_range_m = self.config.depth_range_m if name.endswith(DEPTH_SUFFIX) else None
        return CameraSpec(
            name,
            height_px,
            width_px,
            float(self.model.cam_fovy[camera]),
            depth_range_m,
        )


def make_pick_place(
    name: str,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
    scene_path: str | None = None,
    config: SceneConfig = DEFAULT_SCENE,
    body_units: BodyUnits = "deg",
) -> PickPlace:
    """The default scene, body joints in degrees."""
    model = load_user_model(Path(scene_path), config) if scene_path else None
    return PickPlace(name, config, body_units, image_sizes, model)


def make_pick_place_range(**arguments) -> PickPlace:
    """The same scene and initial states, body joints in lerobot's older -100..100."""
    return make_pick_place(body_units="range_m100_100", **arguments)


def make_pick_place_brick(**arguments) -> PickPlace:
    """The preset close to the published scene: brick, square bowl, wider cameras."""
    return make_pick_place(config=BRICK_SCENE, **arguments)
