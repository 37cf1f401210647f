"""Wraps a task of robosuite as `sim.env.Env`, bit for bit equal and without redundant work."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from sim.arrays import ImageSizes, SnapshotVector
from sim.env import Expert, LooseObject, episode_rng
from sim.errors import WhiskerError
from sim.goals.goal import Goal
from sim.robosuite.env import RobosuiteEnv
from sim.robosuite.loading import load_robosuite_with_hard_resets
from sim.robosuite.osc_pose import CONTROL_FREQ_HZ, CONTROLLER, make_action_spec, name_for_each_arm
from sim.robosuite.seeding import seeded_global_generator
from sim.robosuite_tasks.conventions import (
    IMAGE_SIZE_PX,
    MAX_STEPS,
    REACH_HIGH_M,
    REACH_LOW_M,
    STATE_NAMES,
    STATE_UNITS,
)
from sim.robosuite_tasks.demonstrations import DemonstratedStarts, Demonstration
from sim.robosuite_tasks.progress import make_goal
from sim.robosuite_tasks.tasks import LOW_DIM, RobosuiteTask
from sim.robosuite_tasks.wiping import WipeGoal, find_markers
from sim.spec import ActionMode, CameraSpec, EnvSpec

# robosuite puts the objects that a task does not use at (10, 10, 10).
_AWAY_M = 5.0


class RobosuiteTaskEnv(RobosuiteEnv):
    """Simulates one task of robosuite: Pandas under operational-space control at 20 Hz.

    State (9): position of the end effector [m, world], its rotation as a quaternion xyzw, two
    finger positions [m], which Wipe lacks. With `has_object_state` robomimic's key `object`
    follows. Actions are those of `LiberoEnv`; those of Wipe lack the gripper. A second arm's
    numbers follow those of the first.

    Every reset loads the model anew, since a soft reset of Lift, Stack or Wipe draws another
    initial state. Each episode therefore has its own MuJoCo model.
    """

    def __init__(
        self,
        task: RobosuiteTask,
        image_sizes: ImageSizes | None = None,
        control: ActionMode = "delta",
        *,
        has_object_state: bool = False,
        demos: Path | None = None,
    ) -> None:
        """Build the scene and begin episode 0.

        Args:
            image_sizes: camera → (height_px, width_px) of exactly the cameras to observe; None:
                those of robomimic's image policies.
            has_object_state: whether the state ends with robosuite's observation of the objects.
            demos: a file of demonstrations. Episode k then begins where the k-th demonstration
                began, and the expert repeats it.

        Raises:
            WhiskerError: the actions of two arms are absolute.
        """
        if control == "absolute" and task.n_arms > 1:
            raise WhiskerError(
                f"--control absolute in {task.task_name!r}",
                expected="--control delta",
                got="a task with two arms, whose absolute actions are not implemented",
            )
        self._task = task
        self._has_object_state = has_object_state
        self._name = f"{task.task_name}{LOW_DIM if has_object_state else ''}"
        if demos:
            self._name += f"@{demos}"
        self._demos = DemonstratedStarts(demos, task, control) if demos else None
        super().__init__(
            load_robosuite_with_hard_resets(lambda: _make(task)), relative=control == "delta"
        )
        goal = make_goal(self._env, self.model)
        self._set_task([goal], self._make_spec(image_sizes, goal.declared), {})
        self.reset(0)

    def reset(self, episode_index: int) -> None:
        """Begin an episode.

        Raises:
            WhiskerError: there is no such episode.
        """
        n_episodes = self.spec.n_episodes
        if episode_index < 0 or (n_episodes is not None and episode_index >= n_episodes):
            raise WhiskerError(
                f"episode {episode_index} of {self.spec.name!r}",
                expected="0 or a later one"
                if n_episodes is None
                else f"0 to {n_episodes - 1}: there are {n_episodes} demonstrations",
            )
        if self._demos is None:
            with seeded_global_generator(compute_seed(self._task.task_name, episode_index)):
                self._env.reset()
        else:
            self._reset_to(self._demos[episode_index])
        self._look_up_model()
        self._renderer.load(self.model)
        self._goals = [make_goal(self._env, self.model)]
        for robot in self._env.robots:
            robot.controller.use_delta = self._relative
        self._episode_index = episode_index
        self._begin_samples(1 if self._demos is None else 2)
        self._begin_goals()

    def _reset_to(self, demonstration: Demonstration) -> None:
        """Load the model and the first state of a demonstration, as robomimic's `reset_to` does."""
        env = self._env
        # This reset keeps the robot, and with it the command that the gripper had last.
        for robot in env.robots:
            n = len(robot._ref_joint_gripper_actuator_indexes)
            robot.gripper.current_action = np.zeros(n)
        env.reset_from_xml_string(env.edit_model_xml(demonstration.model_xml))
        env.sim.reset()
        env.sim.set_state_from_flattened(demonstration.init_state)
        env.sim.forward()

    def state(self) -> Float32[np.ndarray, " state_dim"]:
        sample = self.sample
        return np.concatenate(
            [
                sample.ee_pos,
                sample.ee_quat_xyzw,
                sample.gripper_qpos,
                sample.further_hands,
                sample.object_state,
            ],
            dtype=np.float32,
        )

    def snapshot(self) -> SnapshotVector:
        """Return the state, the episode index, and whether no step was made since the reset.

        The episode index stands for the model.
        """
        is_fresh = not self._first_arm.updates
        return np.append(super().snapshot(), [self._episode_index, is_fresh])

    def restore(self, snapshot: SnapshotVector) -> None:
        *state, episode_index, is_fresh = snapshot
        # In the first step after a reset, the controller uses matrices that it computed during the
        # reset. So this moment is reached by another reset alone.
        if is_fresh or episode_index != self._episode_index:
            self.reset(int(episode_index))
        if not is_fresh:
            super().restore(np.array(state))
            for robot in self._env.robots:
                robot.controller.new_update = True

    def loose_objects(self) -> tuple[LooseObject, ...]:
        """Return the free bodies of the scene, without the objects that robosuite puts away."""
        return tuple(
            loose
            for loose in super().loose_objects()
            if np.abs(loose.pos_world[:2]).max() < _AWAY_M
        )

    def make_expert(self, failure_mode: str | None = None) -> Expert:
        if self._demos is not None:
            return self._demos.make_expert(lambda: self._episode_index)
        from sim.robosuite_tasks.expert import make_expert

        return make_expert(self, failure_mode)

    @property
    def task_env(self) -> Any:
        """Return robosuite's own environment."""
        return self._env

    @property
    def marker_geoms(self) -> Int64[np.ndarray, " marker"]:
        """Return the ids of the geoms of the markers that Wipe wipes off."""
        return self._vanishing_geoms

    def _check_goals(self) -> np.ndarray:
        return np.array([self._env._check_success()], dtype=bool)

    def _after_physics(self) -> None:
        """Do nothing, because no task here has something that glows."""

    def _act_on_scene(self) -> None:
        for goal in self._goals:
            if isinstance(goal, WipeGoal):
                goal.wipe(self.data)

    def _find_vanishing_geoms(self) -> Int64[np.ndarray, " geom"]:
        return find_markers(self._env, self.model)

    def _measure_objects(self) -> Float64[np.ndarray, " n"]:
        if not self._has_object_state:
            return np.zeros(0)
        return self._env._get_observations(force_update=True)["object-state"]

    def _make_spec(
        self,
        image_sizes: ImageSizes | None,
        goal: Goal,
    ) -> EnvSpec:
        task = self._task
        n = 9 if task.has_gripper else 7
        proprioception = name_for_each_arm(STATE_NAMES[:n], task.n_arms)
        objects = self._name_object_state() if self._has_object_state else ()
        return EnvSpec(
            name=self._name,
            task=task.task_name,
            instruction=task.instruction,
            cameras=self._make_cameras(image_sizes),
            state_names=(*proprioception, *objects),
            # The numbers of an object are metres, quaternions and radians.
            state_units=(*STATE_UNITS[:n] * task.n_arms, *("",) * len(objects)),
            action=make_action_spec(
                "delta" if self._relative else "absolute",
                REACH_LOW_M,
                REACH_HIGH_M,
                has_gripper=task.has_gripper,
                n_arms=task.n_arms,
            ),
            control_dt_s=self._env.control_timestep,
            physics_dt_s=self._env.model_timestep,
            max_steps=MAX_STEPS,
            camera_names=task.camera_names,
            goals=(goal,),
            n_episodes=len(self._demos) if self._demos else None,
        )

    def _make_cameras(self, image_sizes: ImageSizes | None) -> tuple[CameraSpec, ...]:
        if image_sizes is None:
            image_sizes = dict.fromkeys(self._task.policy_cameras, IMAGE_SIZE_PX)
        known = self._task.camera_names
        for name in image_sizes:
            if name not in known:
                raise WhiskerError(
                    f"camera {name!r}",
                    expected=f"one of {', '.join(known)}",
                    hint="The environment has no other cameras.",
                )
        return tuple(
            CameraSpec(name, *size_px, float(self.model.camera(name).fovy[0]))
            for name, size_px in image_sizes.items()
        )

    def _name_object_state(self) -> tuple[str, ...]:
        """Return a name for each number of robosuite's observation of the objects."""
        names = []
        for name, observable in self._env._observables.items():
            if observable.modality == "object" and observable.is_active():
                size = np.size(observable.obs)
                names += [f"{name}_{index}" for index in range(size)] if size > 1 else [name]
        return tuple(names)


def compute_seed(task_name: str, episode_index: int) -> int:
    """Return the seed of numpy's global generator, from which robosuite draws an episode."""
    return int(episode_rng(task_name, episode_index).integers(2**32))


def _make(task: RobosuiteTask) -> Any:
    import robosuite

    return robosuite.make(
        task.name,
        robots=["Panda"] * task.n_arms,
        controller_configs=dict(CONTROLLER),
        control_freq=CONTROL_FREQ_HZ,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        # The rollout decides when an episode ends.
        ignore_done=True,
        hard_reset=True,
    )
