"""A robosuite environment behind the `Env` contract: bit for bit robosuite's own, without its needless work."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import mujoco
import numpy as np
from jaxtyping import Float, Float32, Float64

from sim.env import LooseObject, Progress, StepResult
from sim.goals.goal import Goal
from sim.loose_objects import FreeJoints, observe_loose_objects
from sim.model_geometry import compute_body_poses, extract_geometry
from sim.observation import Observation
from sim.robosuite.arm import PandaArm
from sim.robosuite.deferred_rendering import VISUAL_GROUP, DeferredRenderer
from sim.robosuite.sampling import Sample, SampleClock
from sim.scene_geometry import SceneGeometry
from sim.spec import EnvSpec

_INTEGRATION_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@runtime_checkable
class WatchedGoal(Protocol):
    """One goal of a task, watched.

    Attributes:
        declared: the goal as the environment's spec has it.
    """

    declared: Goal

    def begin(self, data: mujoco.MjData) -> None:
        """Note how the world is when objects have settled at the start of the episode."""

    def progress(
        self, data: mujoco.MjData, ee_pos: Float64[np.ndarray, "3"], met: bool
    ) -> Progress:
        """Return how far the goal is, from positions and contacts that are up to date."""

    @property
    def start(self) -> Float64[np.ndarray, " n"]:
        """Return what `begin` noted."""

    @start.setter
    def start(self, value: Float64[np.ndarray, " n"]) -> None: ...


class RobosuiteEnv(ABC):
    """Simulates a task of robosuite: a Panda under operational-space control.

    A subclass makes robosuite's environment and says what the task is: its spec and state, its
    goals and when they hold, and how an episode begins. All else of `sim.env.Env` is here.
    """

    spec: EnvSpec

    def __init__(
        self, robosuite_env, *, relative: bool, object_names: Mapping[int, str] | None = None
    ) -> None:
        """Args:
        robosuite_env: from `sim.robosuite.loading.load_robosuite`. relative: actions are
        differences from the present pose, scaled; else they are poses in the world. object_names:
        body id → name, where the task has names of its own; None: those of the model.
        """
        self._env = robosuite_env
        self._relative = relative
        self.model: mujoco.MjModel = self._env.sim.model._model
        self.data: mujoco.MjData = self._env.sim.data._data
        self._arm = PandaArm(self._env.robots[0], self.model, self.data)
        self._object_names = object_names
        self._goals: Sequence[WatchedGoal] = ()
        self._remember_model()
        self._n_substeps = int(self._env.control_timestep / self._env.model_timestep)
        self._clock = SampleClock(1.0 / self._env.control_freq, self._env.model_timestep)

    def _watch(
        self, goals: Sequence[WatchedGoal], spec: EnvSpec, model_cameras: Mapping[str, str]
    ) -> None:
        """Take the task's goals and spec, which are made from what this class has looked up.

        Args:
            model_cameras: name of a camera in the spec → name in the model, where it is another.
        """
        self._goals = goals
        self._goals_met: np.ndarray = np.zeros(len(goals), dtype=bool)
        self.spec = spec
        self._renderer = DeferredRenderer(self.model, spec.cameras, model_cameras)

    @abstractmethod
    def reset(self, episode_index: int) -> None:
        """Begin an episode: `_reset_robosuite`, then `_begin` from its state and `_begin_goals`."""

    @abstractmethod
    def state(self) -> Float32[np.ndarray, " state_dim"]:
        """Return proprioception, from the last `sample`."""

    @abstractmethod
    def _check_goals(self) -> np.ndarray:
        """Return which goals hold at this moment."""

    @abstractmethod
    def _after_physics(self) -> None:
        """Have the task change what it changes by itself when the world has moved, such as the glow of a burner."""

    def observe(self) -> Observation:
        return Observation(self._renderer.render(), self.state(), self.spec.instruction)

    def step(self, action: Float[np.ndarray, " action_dim"]) -> StepResult:
        # As robosuite is given it by every policy: its sums are in another precision for float64.
        action = np.asarray(action, dtype=np.float32)
        success = self._advance(action)
        if self._has_diverged():
            raise RuntimeError(f"the physics of {self.spec.name!r} diverged")
        low, high = self.spec.action.low, self.spec.action.high
        clipped = self._relative and bool((action < low).any() or (action > high).any())
        return StepResult(self.progress(), success, clipped)

    def simulate_ee_path(
        self, chunk: Float[np.ndarray, "horizon action_dim"]
    ) -> Float64[np.ndarray, "moment 3"]:
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
            goal.progress(self.data, ee_pos, bool(met))
            for goal, met in zip(self._goals, self._goals_met, strict=True)
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
        self.model.body_pos[:], self.model.body_quat[:] = (
            positions.reshape(-1, 3),
            quats.reshape(-1, 4),
        )
        self._arm.memory = memory
        self._clock.time_s, self._clock.sampled = float(clock[0]), bool(clock[1])
        self._goals_met = met.astype(bool)
        for goal in self._goals:
            goal.start, starts = starts[: len(goal.start)].copy(), starts[len(goal.start) :]
        self._show_again(Sample(*(part.copy() for part in sample)))
        mujoco.mj_setState(self.model, self.data, np.ascontiguousarray(state), _INTEGRATION_STATE)
        mujoco.mj_fwdPosition(self.model, self.data)
        self._after_physics()

    def geometry(self) -> SceneGeometry:
        # Walls would hide the scene from anywhere outside it.
        return extract_geometry(
            self.model, (VISUAL_GROUP,), lambda name: not name.startswith("wall_")
        )

    def body_poses(self) -> Float32[np.ndarray, "body 7"]:
        return compute_body_poses(self.data)

    def gl_renderer(self) -> str:
        return self._renderer.gl_renderer

    def loose_objects(self) -> tuple[LooseObject, ...]:
        return observe_loose_objects(self.model, self.data, self._object_names)

    def close(self) -> None:
        self._renderer.close()

    def flat_state(self) -> Float64[np.ndarray, " flat_state_dim"]:
        """Return time [s], qpos and qvel: a row of recorded states, as robosuite has them."""
        return np.concatenate([[self.data.time], self.data.qpos, self.data.qvel])

    def object_positions(self) -> Float64[np.ndarray, "object 3"]:
        """Return where the objects that can move freely are, m in the world."""
        return self._free_joints.positions(self.data)

    def model_xml(self) -> str:
        """The model as it stands, fixtures where this episode has them."""
        return self._env.sim.model.get_xml()

    def joint_positions(self) -> Float64[np.ndarray, "7"]:
        """Return the positions of the arm's joints, rad."""
        return self.data.qpos[self._arm.qpos].copy()

    def _reset_robosuite(self) -> None:
        """A soft reset that equals the first reset of a new environment.

        What a hard reset would load anew is put back: the model's poses and colours, and the
        gripper's command.
        """
        from robosuite.utils.errors import RandomizationError

        self._arm.forget_gripper()
        self.model.site_rgba[:], self.model.body_pos[:], self.model.body_quat[:] = (
            self._env.loaded_model
        )
        while True:
            try:
                self._env.reset()
                return
            except RandomizationError:  # objects did not fit
                continue

    def _begin(self, flat_state: Float64[np.ndarray, " flat_state_dim"]) -> None:
        """Put a state in, and look.

        Args:
            flat_state: as `flat_state` returns it.
        """
        self._env.sim.set_state_from_flattened(flat_state)
        mujoco.mj_forward(self.model, self.data)
        self._env._check_success()
        self._after_physics()
        self._clock.restart()
        self._take_sample(self.data.qpos.copy())

    def _begin_goals(self) -> None:
        for goal in self._goals:
            goal.begin(self.data)
        self._goals_met = self._check_goals()

    def _advance(self, action: Float32[np.ndarray, " action_dim"]) -> bool:
        """Take one control step; return whether every goal holds."""
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
        self._after_physics()
        # What is reported from here on is of the state as it is now, as after `restore`.
        mujoco.mj_fwdPosition(self.model, self.data)
        return bool(self._goals_met.all())

    def _solve_again(self) -> None:
        """Solve for the accelerations as often as robosuite does before it steps.

        In this MuJoCo each solution is where the next one starts (`qacc_warmstart`), so the last
        bits depend on how many there were. Positions and velocities stay, and what follows from
        them alone is not computed again.
        """
        for _ in range(self._arm.n_forwards):
            mujoco.mj_forwardSkip(self.model, self.data, mujoco.mjtStage.mjSTAGE_VEL, True)

    def _has_diverged(self) -> bool:
        return not np.isfinite(self.data.qpos).all()

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
        """Return what MuJoCo's state leaves out, in the order of the snapshot."""
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
