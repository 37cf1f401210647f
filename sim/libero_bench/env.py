"""A LIBERO task behind the `Env` contract: bit for bit LIBERO's own environment, without its needless work."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float, Float32, Float64

from sim.env import Expert, LooseObject, Progress, StepResult
from sim.errors import WhiskerError
from sim.libero_bench.arm import PandaArm
from sim.libero_bench.conventions import (
    CAMERA_NAMES,
    FIRST_SEED,
    IMAGE_SIZE_PX,
    LEROBOT_CAMERAS,
    N_SETTLE_STEPS,
    SETTLE_ACTION,
    STATE_NAMES,
    STATE_UNITS,
    axis_angle_of,
    make_action_spec,
)
from sim.libero_bench.deferred_rendering import VISUAL_GROUP, DeferredRenderer
from sim.libero_bench.fixture_poses import place_fixtures
from sim.libero_bench.loading import make_robosuite_env
from sim.libero_bench.progress import make_goal
from sim.libero_bench.replay import DemonstratedStarts
from sim.libero_bench.sampling import Sample, SampleClock
from sim.libero_bench.scene_certificate import SceneCertificate, load_certificate
from sim.libero_bench.tasks import LiberoTask, find_task, load_init_states
from sim.loose_objects import FreeJoints, observe_loose_objects
from sim.model_geometry import compute_body_poses, extract_geometry
from sim.observation import Observation
from sim.scene_geometry import SceneGeometry
from sim.spec import CameraSpec, Control, EnvSpec

_INTEGRATION_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


class LiberoEnv:
    """`sim.env.Env` of one LIBERO task: a Panda under operational-space control at 20 Hz.

    State (8): position of the end effector [m, world], its rotation as axis-angle [rad], two finger positions [m].
    Action (7), relative: each in [-1, 1], 1 being 0.05 m or 0.5 rad in the world's axes; gripper -1 open, +1 closed.
    Absolute: the position [m, world] and the axis-angle [rad] themselves.
    """

    def __init__(
        self,
        task: LiberoTask,
        image_sizes: Mapping[str, tuple[int, int]] | None = None,
        control: Control = "relative",
        demos: Path | None = None,
    ) -> None:
        """Args:
        image_sizes: camera → (height_px, width_px) of exactly the cameras to observe; None: lerobot's two.
        demos: a file of demonstrations: episode k begins where its k-th began, and the expert does what it did.
        """
        self._task = task
        self._name = f"{task.env_name}@{demos}" if demos else task.env_name
        self._relative = control == "relative"
        self._env = make_robosuite_env(task.bddl_path)
        self.model: mujoco.MjModel = self._env.sim.model._model
        self.data: mujoco.MjData = self._env.sim.data._data
        self._demos = DemonstratedStarts(demos, task) if demos else None
        self._init_states = load_init_states(task) if self._demos is None else self._demos.init_states
        self._arm = PandaArm(self._env.robots[0], self.model, self.data)
        self._goals = [make_goal(self._env, self.model, goal) for goal in self._env.parsed_problem["goal_state"]]
        self._goals_met: np.ndarray = np.zeros(len(self._goals), dtype=bool)
        self._remember_model()
        self._n_substeps = int(self._env.control_timestep / self._env.model_timestep)
        self._clock = SampleClock(1.0 / self._env.control_freq, self._env.model_timestep)
        self.spec = self._make_spec(image_sizes)
        self._renderer = DeferredRenderer(self.model, self.spec.cameras, LEROBOT_CAMERAS)
        self.begin_episode(0)

    def reset(self, episode_index: int) -> None:
        """Begin an episode, as every `Env` does.

        Raises:
            WhiskerError: there is no such episode, or an object is not where the scene's certificate has it.
        """
        self.begin_episode(episode_index)
        self.check_scene(episode_index)

    def check_scene(self, episode_index: int) -> None:
        """Compare the scene as it begins with its certificate; what demonstrations begin with has none.

        Raises:
            WhiskerError: an object lies elsewhere.
        """
        if self._certificate is not None and self._demos is None:
            self._certificate.check(self._name, episode_index, self.object_positions())

    @cached_property
    def _certificate(self) -> SceneCertificate | None:
        return load_certificate(self._task.task_name)

    def begin_episode(self, episode_index: int) -> None:
        """Reset without a look at the certificate: this is what certificates are made from."""
        self.reset_unsettled(episode_index)
        for _ in range(N_SETTLE_STEPS):
            self._advance(SETTLE_ACTION)
        self._begin_goals()
        if self._demos is not None:
            # A demonstration begins as it was recorded, in motion. Goals are measured from where objects rest all the
            # same; to come back by a second reset is exact, unlike a restored snapshot right after a reset.
            starts = [goal.start for goal in self._goals]
            self.reset_unsettled(episode_index)
            for goal, start in zip(self._goals, starts, strict=True):
                goal.start = start
        self._arm.use_deltas(self._relative)

    def reset_unsettled(self, episode_index: int) -> None:
        """As `reset`, at the init state itself, before objects have settled: where a recording begins."""
        if not 0 <= episode_index < len(self._init_states):
            raise WhiskerError(
                f"episode {episode_index} of {self.spec.name!r}",
                expected=f"0 to {len(self._init_states) - 1}: there are {len(self._init_states)} init states",
            )
        # robosuite draws the poses of fixtures from numpy's global generator, which is nobody else's business.
        others = np.random.get_state()  # noqa: NPY002
        np.random.seed(FIRST_SEED + episode_index)  # noqa: NPY002
        try:
            self._reset_robosuite()
        finally:
            np.random.set_state(others)  # noqa: NPY002
        if self._demos is not None:
            place_fixtures(self.model, self._demos.fixture_poses(episode_index))
        self._begin(self._init_states[episode_index])
        self._begin_goals()
        self._episode_index = episode_index

    def observe(self) -> Observation:
        return Observation(self._renderer.render(), self.state(), self.spec.instruction)

    def state(self) -> Float32[np.ndarray, "8"]:
        sample = self.sample
        return np.concatenate(
            [sample.ee_pos, axis_angle_of(sample.ee_quat_xyzw), sample.gripper_qpos], dtype=np.float32
        )

    def step(self, action: Float[np.ndarray, "7"]) -> StepResult:
        # As robosuite is given it by every policy: its sums are in another precision for float64.
        action = np.asarray(action, dtype=np.float32)
        success = self._advance(action)
        if self._has_diverged():
            raise RuntimeError(f"the physics of {self.spec.name!r} diverged")
        low, high = self.spec.action.low, self.spec.action.high
        clipped = self._relative and bool((action < low).any() or (action > high).any())
        return StepResult(self.progress(), success, clipped)

    def trace(self, chunk: Float[np.ndarray, "horizon 7"]) -> Float64[np.ndarray, "moment 3"]:
        path = np.full((len(chunk) + 1, 3), np.nan)
        path[0] = self.ee_pos_world()
        for step, action in enumerate(np.asarray(chunk, dtype=np.float32), start=1):
            self._advance(action)
            if self._has_diverged():
                break
            path[step] = self.ee_pos_world()
        return path

    def progress(self) -> tuple[Progress, ...]:
        ee_pos = self.ee_pos_world()
        return tuple(
            goal.progress(self.data, ee_pos, bool(met)) for goal, met in zip(self._goals, self._goals_met, strict=True)
        )

    def ee_pos_world(self) -> Float64[np.ndarray, "3"]:
        return self.data.site_xpos[self._ee_site].copy()

    def projection(self, camera: str) -> Float64[np.ndarray, "3 4"]:
        return self._renderer.projection(self.spec.camera(camera))

    def snapshot(self) -> Float64[np.ndarray, " snapshot_dim"]:
        """`mjSTATE_INTEGRATION`; controller and gripper; the last sample and its clock; fixtures; goals."""
        state = np.empty(mujoco.mj_stateSize(self.model, _INTEGRATION_STATE))
        mujoco.mj_getState(self.model, self.data, state, _INTEGRATION_STATE)
        return np.concatenate([state, *self._python_state()])

    def restore(self, snapshot: Float64[np.ndarray, " snapshot_dim"]) -> None:
        size = mujoco.mj_stateSize(self.model, _INTEGRATION_STATE)
        parts = self._python_state()
        ends = np.cumsum([size, *(len(part) for part in parts)])
        state, memory, clock, *sample, positions, quats, met, starts = np.split(snapshot, ends[:-1])
        self.model.body_pos[:], self.model.body_quat[:] = positions.reshape(-1, 3), quats.reshape(-1, 4)
        self._arm.memory = memory
        self._clock.time_s, self._clock.sampled = float(clock[0]), bool(clock[1])
        self._goals_met = met.astype(bool)
        for goal in self._goals:
            goal.start, starts = starts[: len(goal.start)].copy(), starts[len(goal.start) :]
        self._show_again(Sample(*(part.copy() for part in sample)))
        mujoco.mj_setState(self.model, self.data, np.ascontiguousarray(state), _INTEGRATION_STATE)
        mujoco.mj_fwdPosition(self.model, self.data)
        self._env._post_process()

    def geometry(self) -> SceneGeometry:
        # Walls would hide the scene from anywhere outside it.
        return extract_geometry(self.model, (VISUAL_GROUP,), lambda name: not name.startswith("wall_"))

    def body_poses(self) -> Float32[np.ndarray, "body 7"]:
        return compute_body_poses(self.data)

    def gl_renderer(self) -> str:
        return self._renderer.gl_renderer

    def loose_objects(self) -> tuple[LooseObject, ...]:
        return observe_loose_objects(self.model, self.data, self._object_names)

    def make_expert(self, fault: str | None = None) -> Expert:
        if self._demos is not None:
            return self._demos.make_expert(lambda: self._episode_index)
        from sim.libero_bench.expert import LiberoExpert

        return LiberoExpert(self, fault)

    def close(self) -> None:
        self._renderer.close()

    def flat_state(self) -> Float64[np.ndarray, " flat_state_dim"]:
        """Time [s], qpos and qvel: a row of LIBERO's init states and demonstrations."""
        return np.concatenate([[self.data.time], self.data.qpos, self.data.qvel])

    @property
    def object_names(self) -> tuple[str, ...]:
        """Return the objects that can move freely, by the names of the task's BDDL file."""
        return tuple(self._object_names[int(body)] for body in self._free_joints.bodies)

    def object_positions(self) -> Float64[np.ndarray, "object 3"]:
        """Return where the objects of `object_names` are, m in the world."""
        return self._free_joints.positions(self.data)

    def model_xml(self) -> str:
        """The model as it stands, fixtures where this episode has them."""
        return self._env.sim.model.get_xml()

    def joint_positions(self) -> Float64[np.ndarray, "7"]:
        """Of the arm, rad."""
        return self.data.qpos[self._arm.qpos].copy()

    def _reset_robosuite(self) -> None:
        """A soft reset that equals the first reset of a new environment.

        What a hard reset would load anew is put back: the model's poses and colours, and the gripper's command.
        """
        from robosuite.utils.errors import RandomizationError

        self._arm.forget_gripper()
        self.model.site_rgba[:], self.model.body_pos[:], self.model.body_quat[:] = self._env.loaded_model
        while True:
            try:
                self._env.reset()
                return
            except RandomizationError:  # objects did not fit; LIBERO draws again too
                continue

    def _begin(self, flat_state: Float64[np.ndarray, " flat_state_dim"]) -> None:
        """Put an init state in, as `ControlEnv.set_init_state` does, and look."""
        self._env.sim.set_state_from_flattened(flat_state)
        mujoco.mj_forward(self.model, self.data)
        self._env._check_success()
        self._env._post_process()
        self._clock.restart()
        self._take_sample(self.data.qpos.copy())

    def _begin_goals(self) -> None:
        for goal in self._goals:
            goal.begin(self.data)
        self._goals_met = self._check_goals()

    def _advance(self, action: Float32[np.ndarray, "7"]) -> bool:
        """One control step; whether LIBERO calls it a success."""
        for substep in range(self._n_substeps):
            mujoco.mj_step1(self.model, self.data)
            self._solve_again()
            self._arm.drive(action, is_new=substep == 0)
            # Bodies stay where this puts them until the next physics step; the state goes on.
            qpos_shown = self.data.qpos.copy()
            mujoco.mj_step2(self.model, self.data)
            if self._clock.tick():
                self._take_sample(qpos_shown)
        self._goals_met = self._check_goals()
        self._env._post_process()
        # What is reported from here on is of the state as it is now, as after `restore`.
        mujoco.mj_fwdPosition(self.model, self.data)
        return bool(self._goals_met.all())

    def _solve_again(self) -> None:
        """Solve for the accelerations as often as robosuite does before it steps.

        In this MuJoCo each solution is where the next one starts (`qacc_warmstart`), so the last bits depend on how
        many there were. Positions and velocities stay, and what follows from them alone is not computed again.
        """
        for _ in range(self._arm.n_forwards):
            mujoco.mj_forwardSkip(self.model, self.data, mujoco.mjtStage.mjSTAGE_VEL, True)

    def _has_diverged(self) -> bool:
        return not np.isfinite(self.data.qpos).all()

    def _check_goals(self) -> np.ndarray:
        return np.array([bool(self._env._eval_predicate(goal)) for goal in self._env.parsed_problem["goal_state"]])

    def _take_sample(self, qpos: Float64[np.ndarray, " nq"]) -> None:
        data = self.data
        quat_wxyz = data.xquat[self._hand_body]
        self.sample = Sample(
            ee_pos=data.site_xpos[self._ee_site].copy(),
            ee_quat_xyzw=quat_wxyz[[1, 2, 3, 0]],
            gripper_qpos=data.qpos[self._finger_qpos],
            qpos=qpos,
            site_alpha=self.model.site_rgba[:, 3].astype(np.float64),
        )
        self._renderer.capture(data)

    def _show_again(self, sample: Sample) -> None:
        """Capture what the cameras showed at a sample. The simulator's state is lost."""
        self.sample = sample
        self.data.qpos[:] = sample.qpos
        self.model.site_rgba[:, 3] = sample.site_alpha
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        self._renderer.capture(self.data)

    def _python_state(self) -> list[Float64[np.ndarray, " n"]]:
        """What MuJoCo's state leaves out, in the order of the snapshot."""
        sample = self.sample
        return [
            self._arm.memory,
            np.array([self._clock.time_s, self._clock.sampled]),
            sample.ee_pos,
            sample.ee_quat_xyzw,
            sample.gripper_qpos,
            sample.qpos,
            sample.site_alpha,
            self.model.body_pos.ravel(),
            self.model.body_quat.ravel(),
            self._goals_met.astype(np.float64),
            np.concatenate([goal.start for goal in self._goals]),
        ]

    def _remember_model(self) -> None:
        """Look up by name, once, what is then used by number."""
        robot, model = self._env.robots[0], self.model
        self._ee_site: int = robot.eef_site_id
        self._hand_body = model.body(robot.robot_model.eef_name).id
        self._finger_qpos = np.array(robot._ref_gripper_joint_pos_indexes)
        self._free_joints = FreeJoints(model)
        self._object_names = {int(body): name for name, body in self._env.obj_body_id.items()}

    def _make_spec(self, image_sizes: Mapping[str, tuple[int, int]] | None) -> EnvSpec:
        if image_sizes is None:
            image_sizes = dict.fromkeys(LEROBOT_CAMERAS, IMAGE_SIZE_PX)
        return EnvSpec(
            name=self._name,
            task=self._task.task_name,
            instruction=self._task.instruction,
            cameras=tuple(self._camera_spec(camera, *size) for camera, size in image_sizes.items()),
            state_names=STATE_NAMES,
            state_units=STATE_UNITS,
            action=make_action_spec("relative" if self._relative else "absolute"),
            control_dt_s=self._env.control_timestep,
            physics_dt_s=self._env.model_timestep,
            max_steps=self._task.max_steps,
            camera_names=CAMERA_NAMES,
            goals=tuple(goal.name for goal in self._goals),
            n_episodes=len(self._init_states),
        )

    def _camera_spec(self, name: str, height_px: int, width_px: int) -> CameraSpec:
        if name not in CAMERA_NAMES:
            raise WhiskerError(
                f"camera {name!r}",
                expected=f"one of {', '.join(CAMERA_NAMES)}",
                do="The environment has no other cameras.",
            )
        fovy_deg = self.model.camera(LEROBOT_CAMERAS.get(name, name)).fovy[0]
        return CameraSpec(name, height_px, width_px, float(fovy_deg))


def make_libero(
    name: str,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
    scene_path: str | None = None,
    control: Control | None = None,
) -> LiberoEnv:
    """By name, as in `sim.libero_bench.tasks.find_task`.

    Args:
        scene_path: what follows an @ in the name, which here is a file of demonstrations to begin from.

    Raises:
        WhiskerError: no such task or camera, resources missing, demonstrations of another task.
    """
    task = find_task(name.partition("@")[0])
    return LiberoEnv(task, image_sizes, control or "relative", Path(scene_path) if scene_path else None)
