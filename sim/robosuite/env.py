"""Wraps a robosuite environment as `sim.env.Env`, bit for bit equal and without redundant work."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from jaxtyping import Float64, Int64

from sim.arrays import Action, ProjectionMatrix, SnapshotVector, StateVector
from sim.env import LooseObject, Progress, StepResult
from sim.loose_objects import FreeJoints, observe_loose_objects
from sim.model_env import ModelEnv
from sim.model_geometry import extract_geometry
from sim.observation import Observation
from sim.robosuite.arm import PandaArm
from sim.robosuite.deferred_rendering import VISUAL_GROUP, DeferredRenderer
from sim.robosuite.goal_tracking import GoalTracker
from sim.robosuite.sampling import Sample, SampleClock
from sim.scene_geometry import SceneGeometry
from sim.spec import EnvSpec

FlatState = Float64[np.ndarray, " flat_state_dim"]
_FILE_TYPE = re.compile(r' content_type="[^"]*"')


class RobosuiteEnv(ModelEnv, ABC):
    """Simulates a task of robosuite: one or two Pandas under operational-space control.

    The first arm is the one whose end effector `ee_pos_world` and whiskers follow.

    A subclass makes robosuite's environment and defines the task: its spec and state, its goals and
    when they hold, and how an episode begins. The rest of `sim.env.Env` is implemented here.
    """

    # Whether the images of the task's published policies are mirrored left to right.
    _images_are_mirrored = False
    _renderer: DeferredRenderer

    def __init__(
        self,
        robosuite_env,
        *,
        relative: bool,
        object_names: Mapping[int, str] | None = None,
    ) -> None:
        """Wrap a robosuite environment.

        Args:
            robosuite_env: from `sim.robosuite.loading.load_robosuite`.
            relative: actions are scaled differences from the present pose; otherwise they are poses
                in the world.
            object_names: body id → name, if the task has its own names; None: the model's names.
        """
        env = robosuite_env
        self._env = env
        self._relative = relative
        self._object_names = object_names
        self._n_substeps = int(env.control_timestep / env.model_timestep)
        self._clock = SampleClock(1.0 / env.control_freq, env.model_timestep)
        self._look_up_model()

    def _look_up_model(self) -> None:
        """Look up the parts of the model that robosuite has loaded, which a hard reset replaces."""
        env = self._env
        self.model: mujoco.MjModel = env.sim.model._model
        self.data: mujoco.MjData = env.sim.data._data
        self._arms = [PandaArm(robot, self.model, self.data) for robot in env.robots]
        self._first_arm = self._arms[0]
        self._action_ends = np.cumsum([arm.n_actions for arm in self._arms])[:-1]
        self._tool = self._first_arm.grip_site
        self._vanishing_geoms = self._find_vanishing_geoms()
        self._free_joints = FreeJoints(self.model)

    def _set_task(
        self,
        goals: Sequence[GoalTracker],
        spec: EnvSpec,
        model_cameras: Mapping[str, str],
    ) -> None:
        """Set the goals and the spec of the task, and make the renderer.

        A subclass calls it after `__init__`, since both are made from what `__init__` looks up.

        Args:
            model_cameras: camera name in the spec → camera name in the model, if they differ.
        """
        self._goals = goals
        self._goals_met: np.ndarray = np.zeros(len(goals), dtype=bool)
        self.spec = spec
        self._renderer = DeferredRenderer(
            self.model, spec.cameras, model_cameras, is_mirrored=self._images_are_mirrored
        )

    @abstractmethod
    def reset(self, episode_index: int) -> None:
        """Begin an episode: reset robosuite, then call `_begin_samples` and `_begin_goals`."""

    @abstractmethod
    def state(self) -> StateVector:
        """Return proprioception, from the last `sample`."""

    @abstractmethod
    def _check_goals(self) -> np.ndarray:
        """Return which goals hold at this moment."""

    @abstractmethod
    def _after_physics(self) -> None:
        """Update what the task itself changes after the physics, such as the glow of a burner."""

    def _act_on_scene(self) -> None:
        """Change what the task itself changes after a control step, before success is checked."""

    def _find_vanishing_geoms(self) -> Int64[np.ndarray, " geom"]:
        """Return the ids of the geoms that the task makes invisible."""
        return np.zeros(0, dtype=int)

    def observe(self) -> Observation:
        rotation = None if self._relative else self._first_arm.tool_rotation
        images = self._renderer.render()
        return Observation(images, self.state(), self.spec.instruction, rotation)

    def step(self, action: Action) -> StepResult:
        action = np.asarray(action, dtype=np.float32)
        success = self._advance(action)
        self._check_physics()
        spec = self.spec.action
        return StepResult(
            self.progress(),
            success,
            self._relative and bool(((action < spec.low) | (action > spec.high)).any()),
        )

    def progress(self) -> tuple[Progress, ...]:
        ee_pos = self.ee_pos_world()
        goals = zip(self._goals, self._goals_met.tolist(), strict=True)
        return tuple(goal.progress(self.data, ee_pos, met) for goal, met in goals)

    def projection(self, camera: str) -> ProjectionMatrix:
        return self._renderer.projection(self.spec.camera(camera))

    def snapshot(self) -> SnapshotVector:
        return np.concatenate(self._state_parts())

    def restore(self, snapshot: SnapshotVector) -> None:
        model = self.model
        ends = np.cumsum([len(part) for part in self._state_parts()])
        state, control, clock, *sample, positions, quats, met, starts, rotation = np.split(
            snapshot, ends[:-1]
        )
        model.body_pos[:] = positions.reshape(-1, 3)
        model.body_quat[:] = quats.reshape(-1, 4)
        for arm in self._arms:
            n = len(arm.control_state)
            arm.control_state = control[:n]
            control = control[n:]
        self._clock.time_s = float(clock[0])
        self._clock.sampled = bool(clock[1])
        self._goals_met = met.astype(bool)
        self.sample = Sample(*(part.copy() for part in sample))
        # Capture the images of the sample again, from a state that is then overwritten.
        self.data.qpos[:] = self.sample.qpos
        model.site_rgba[:, 3] = self.sample.site_alpha
        model.geom_rgba[self._vanishing_geoms, 3] = self.sample.geom_alpha
        mujoco.mj_kinematics(model, self.data)
        mujoco.mj_camlight(model, self.data)
        self._renderer.capture(self.data)
        super().restore(state)
        for goal in self._goals:
            n = len(goal.start)
            goal.start = starts[:n].copy()
            starts = starts[n:]
        self._after_physics()
        if not self._relative:
            # Older snapshots lack it. The rotation then is one physics step younger.
            present = self.data.site_xmat[self._tool]
            self._first_arm.tool_rotation = rotation if rotation.size else present

    def geometry(self) -> SceneGeometry:
        # Walls would hide the scene from a viewer outside it.
        return extract_geometry(
            self.model,
            (VISUAL_GROUP,),
            lambda geom: not geom.startswith("wall_"),
        )

    def loose_objects(self) -> tuple[LooseObject, ...]:
        return observe_loose_objects(self.model, self.data, self._object_names)

    def flat_state(self) -> FlatState:
        """Return time [s], qpos and qvel: a row of recorded states, in robosuite's layout."""
        data = self.data
        return np.concatenate([[data.time], data.qpos, data.qvel])

    def object_positions(self) -> Float64[np.ndarray, "object 3"]:
        """Return the positions of the objects that can move freely, m in the world."""
        return self._free_joints.positions(self.data)

    def model_xml(self) -> str:
        """Return the model as MJCF, with the fixtures at their poses in this episode.

        MuJoCo writes the type of a mesh's file only when a process first loads the mesh.
        It is left out here, since the file's ending says the same.
        """
        return _FILE_TYPE.sub("", self._env.sim.model.get_xml())

    def joint_positions(self) -> Float64[np.ndarray, "7"]:
        """Return the positions of the first arm's joints, rad."""
        return self.data.qpos[self._first_arm.qpos].copy()

    @property
    def grip_sites(self) -> tuple[int, ...]:
        """Return the id of the tool centre point of each arm."""
        return tuple(arm.grip_site for arm in self._arms)

    def _reset_robosuite(self) -> None:
        """Do a soft reset that equals the first reset of a new environment.

        It restores what a hard reset would load anew: the model's poses and colours, and the
        gripper's command.
        """
        from robosuite.utils.errors import RandomizationError

        # robosuite's reset does not reset this command.
        self._env.robots[0].gripper.current_action = np.zeros(2)
        site_rgba, body_pos, body_quat = self._env.loaded_model
        self.model.site_rgba[:] = site_rgba
        self.model.body_pos[:] = body_pos
        self.model.body_quat[:] = body_quat
        while True:
            try:
                self._env.reset()
                return
            except RandomizationError:
                # The objects did not fit where they were drawn; robosuite draws again.
                continue

    def _begin(self, flat_state: FlatState) -> None:
        """Set the simulator's state and take the first sample.

        Args:
            flat_state: as `flat_state` returns it.
        """
        self._env.sim.set_state_from_flattened(flat_state)
        mujoco.mj_forward(self.model, self.data)
        self._env._check_success()
        self._begin_samples(2)

    def _begin_samples(self, n_samples: int) -> None:
        """Take the first sample.

        Args:
            n_samples: as in `SampleClock.restart`.
        """
        self._after_physics()
        self._clock.restart(n_samples)
        self._take_sample(self.data.qpos.copy())

    def _measure_objects(self) -> Float64[np.ndarray, " n"]:
        """Return robosuite's observation of the objects, if the task's state contains it."""
        return np.zeros(0)

    def _begin_goals(self) -> None:
        for goal in self._goals:
            goal.begin(self.data)
        self._goals_met = self._check_goals()

    def _advance(self, action: Action) -> bool:
        """Simulate one control step; return whether every goal holds."""
        model = self.model
        data = self.data
        # Every policy gives robosuite float32. Its sums have another precision for float64.
        action = np.asarray(action, dtype=np.float32)
        actions = np.split(action, self._action_ends)
        for substep in range(self._n_substeps):
            mujoco.mj_step1(model, data)
            self._solve_accelerations()
            for arm, arm_action in zip(self._arms, actions, strict=True):
                if arm.updates:
                    self._solve_accelerations()
                arm.drive(arm_action, is_new=substep == 0)
            # Body poses stay as `mj_step1` computed them until the next physics step, while
            # `mj_step2` changes qpos.
            qpos_shown = data.qpos.copy()
            mujoco.mj_step2(model, data)
            if self._clock.tick():
                self._take_sample(qpos_shown)
        self._act_on_scene()
        self._goals_met = self._check_goals()
        self._after_physics()
        # Bring the positions up to date with the state, as `restore` does.
        mujoco.mj_fwdPosition(model, data)
        return bool(self._goals_met.all())

    def _solve_accelerations(self) -> None:
        """Solve for the accelerations where robosuite calls `mj_forward`.

        In this MuJoCo each solution is the starting point of the next one (`qacc_warmstart`), so
        the last bits depend on how often it is done, and on the commands at that moment. Positions
        and velocities do not change, and what depends on them alone is not computed again.
        """
        mujoco.mj_forwardSkip(self.model, self.data, mujoco.mjtStage.mjSTAGE_VEL, True)

    def _take_sample(self, qpos: Float64[np.ndarray, " nq"]) -> None:
        data = self.data
        hand, *further_hands = [arm.measure_hand() for arm in self._arms]
        self.sample = Sample(
            ee_pos=hand.pos,
            ee_quat_xyzw=hand.quat_xyzw,
            gripper_qpos=hand.fingers,
            qpos=qpos,
            site_alpha=self.model.site_rgba[:, 3].astype(np.float64),
            geom_alpha=self.model.geom_rgba[self._vanishing_geoms, 3].astype(np.float64),
            object_state=self._measure_objects(),
            further_hands=np.concatenate([np.zeros(0), *map(np.concatenate, further_hands)]),
        )
        self._renderer.capture(data)

    def _state_parts(self) -> list[Float64[np.ndarray, " n"]]:
        """Return the complete state, in the order of the snapshot.

        `mjSTATE_INTEGRATION`, and what it lacks: controller and gripper; the sample clock; the last
        sample; the fixtures' poses; the goals; the tool's rotation, if it is observed.
        """
        rotation = np.zeros(0) if self._relative else self._first_arm.tool_rotation.ravel()
        return [
            super().snapshot(),
            np.concatenate([arm.control_state for arm in self._arms]),
            np.array([self._clock.time_s, self._clock.sampled]),
            *vars(self.sample).values(),
            self.model.body_pos.ravel(),
            self.model.body_quat.ravel(),
            self._goals_met.astype(np.float64),
            np.concatenate([goal.start for goal in self._goals]),
            rotation.astype(np.float64),
        ]
