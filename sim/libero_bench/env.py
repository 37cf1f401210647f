"""Wraps a LIBERO task as `sim.env.Env`, bit for bit equal and without redundant work."""

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sim.arrays import ImageSizes
from sim.env import Expert
from sim.errors import WhiskerError
from sim.goals.goal import Goal
from sim.libero_bench.conventions import (
    CAMERA_NAMES,
    FIRST_SEED,
    IMAGE_SIZE_PX,
    LEROBOT_CAMERAS,
    N_SETTLE_STEPS,
    REACH_HIGH_M,
    REACH_LOW_M,
    SETTLE_ACTION,
    STATE_NAMES,
    STATE_UNITS,
    axis_angle_of,
)
from sim.libero_bench.fixture_poses import place_fixtures
from sim.libero_bench.loading import make_problem
from sim.libero_bench.progress import make_goal
from sim.libero_bench.replay import DemonstratedStarts
from sim.libero_bench.scene_certificate import SceneCertificate, load_certificate
from sim.libero_bench.tasks import LiberoTask, find_task, load_init_states
from sim.robosuite.env import RobosuiteEnv
from sim.robosuite.osc_pose import make_action_spec
from sim.robosuite.seeding import seeded_global_generator
from sim.spec import ActionMode, CameraSpec, EnvSpec


class LiberoEnv(RobosuiteEnv):
    """Simulates one LIBERO task: a Panda under operational-space control at 20 Hz.

    State (8): position of the end effector [m, world], its rotation as axis-angle [rad], two finger
    positions [m]. Action (7), relative: each in [-1, 1], where 1 is 0.05 m or 0.5 rad along the
    world's axes; gripper -1 open, +1 closed. Action (7), absolute: the position [m, world], the
    axis-angle [rad] and the gripper as before.
    """

    # lerobot turns LIBERO's images by 180 degrees, and every published LIBERO policy was trained
    # with such images (lerobot/processor/env_processor.py, LiberoProcessorStep).
    _images_are_mirrored = True

    def __init__(
        self,
        task: LiberoTask,
        image_sizes: ImageSizes | None = None,
        control: ActionMode = "delta",
        demos: Path | None = None,
    ) -> None:
        """Build the scene and begin episode 0.

        Args:
            image_sizes: camera → (height_px, width_px) of exactly the cameras to observe; None:
                lerobot's two cameras.
            demos: a file of demonstrations. Episode k then begins where the k-th demonstration
                began, and the expert repeats it.
        """
        self._task = task
        self._name = f"{task.env_name}@{demos}" if demos else task.env_name
        env = make_problem(task.bddl_path)
        self._names = {int(body): name for name, body in env.obj_body_id.items()}
        super().__init__(
            env,
            relative=control == "delta",
            object_names=self._names,
        )
        self._demos = DemonstratedStarts(demos, task) if demos else None
        self._init_states = self._demos.init_states if self._demos else load_init_states(task)
        self._predicates = env.parsed_problem["goal_state"]
        goals = [make_goal(env, self.model, predicate) for predicate in self._predicates]
        self._set_task(
            goals,
            self._make_spec(image_sizes, tuple(goal.declared for goal in goals)),
            LEROBOT_CAMERAS,
        )
        self.begin_episode(0)

    def reset(self, episode_index: int) -> None:
        """Begin an episode, and check the scene.

        Raises:
            WhiskerError: there is no such episode, or an object is not where the scene's
                certificate has it.
        """
        self.begin_episode(episode_index)
        self.check_scene(episode_index)

    def check_scene(self, episode_index: int) -> None:
        """Compare the scene at the start of an episode with its certificate.

        Episodes that begin from a demonstration have no certificate.

        Raises:
            WhiskerError: an object is elsewhere.
        """
        if self._certificate is not None and self._demos is None:
            self._certificate.check(self._name, episode_index, self.object_positions())

    @cached_property
    def _certificate(self) -> SceneCertificate | None:
        return load_certificate(self._task.task_name)

    def begin_episode(self, episode_index: int) -> None:
        """Begin an episode without the check; certificates are made with this."""
        self.reset_unsettled(episode_index)
        for _ in range(N_SETTLE_STEPS):
            self._advance(SETTLE_ACTION)
        self._begin_goals()
        if self._demos is not None:
            # Go back to the first state of the demonstration, which is in motion. Goals are still
            # measured from where the objects come to rest. A second reset is exact, unlike a
            # snapshot restored right after a reset.
            starts = [goal.start for goal in self._goals]
            self.reset_unsettled(episode_index)
            for goal, start in zip(self._goals, starts, strict=True):
                goal.start = start
        self._env.robots[0].controller.use_delta = self._relative

    def reset_unsettled(self, episode_index: int) -> None:
        """Begin at the init state itself, before objects have settled: recordings begin there."""
        n_states = len(self._init_states)
        if not 0 <= episode_index < n_states:
            raise WhiskerError(
                f"episode {episode_index} of {self.spec.name!r}",
                expected=f"0 to {n_states - 1}: there are {n_states} init states",
            )
        # robosuite draws the fixtures' poses.
        with seeded_global_generator(FIRST_SEED + episode_index):
            self._reset_robosuite()
        if self._demos is not None:
            place_fixtures(self.model, self._demos.fixture_poses(episode_index))
        self._begin(self._init_states[episode_index])
        self._begin_goals()
        self._episode_index = episode_index

    def state(self) -> Float32[np.ndarray, "8"]:
        sample = self.sample
        return np.concatenate(
            [sample.ee_pos, axis_angle_of(sample.ee_quat_xyzw), sample.gripper_qpos],
            dtype=np.float32,
        )

    def make_expert(self, failure_mode: str | None = None) -> Expert:
        if self._demos is not None:
            return self._demos.make_expert(lambda: self._episode_index)
        from sim.libero_bench.expert import LiberoExpert

        return LiberoExpert(self, failure_mode)

    @property
    def object_names(self) -> tuple[str, ...]:
        """Return the objects that can move freely, by their names in the task's BDDL file."""
        return tuple(self._names[int(body)] for body in self._free_joints.bodies)

    def _check_goals(self) -> np.ndarray:
        return np.array([*map(self._env._eval_predicate, self._predicates)], dtype=bool)

    def _after_physics(self) -> None:
        self._env._post_process()

    def _make_spec(
        self,
        image_sizes: ImageSizes | None,
        goals: tuple[Goal, ...],
    ) -> EnvSpec:
        if image_sizes is None:
            image_sizes = dict.fromkeys(LEROBOT_CAMERAS, IMAGE_SIZE_PX)
        cameras = []
        for name, size_px in image_sizes.items():
            if name not in CAMERA_NAMES:
                raise WhiskerError(
                    f"camera {name!r}",
                    expected=f"one of {', '.join(CAMERA_NAMES)}",
                    hint="The environment has no other cameras.",
                )
            cameras.append(
                CameraSpec(
                    name,
                    *size_px,
                    float(self.model.camera(LEROBOT_CAMERAS.get(name, name)).fovy[0]),
                )
            )
        return EnvSpec(
            name=self._name,
            task=self._task.task_name,
            instruction=self._task.instruction,
            cameras=tuple(cameras),
            state_names=STATE_NAMES,
            state_units=STATE_UNITS,
            action=make_action_spec(
                "delta" if self._relative else "absolute",
                REACH_LOW_M,
                REACH_HIGH_M,
            ),
            control_dt_s=self._env.control_timestep,
            physics_dt_s=self._env.model_timestep,
            max_steps=self._task.max_steps,
            camera_names=CAMERA_NAMES,
            goals=goals,
            n_episodes=len(self._init_states),
        )


def make_libero(
    name: str,
    image_sizes: ImageSizes | None = None,
    scene_path: str | None = None,
    control: ActionMode | None = None,
) -> LiberoEnv:
    """Make an environment by its name, which `sim.libero_bench.tasks.find_task` reads.

    Args:
        scene_path: the part of the name after an @: a file of demonstrations to begin from.

    Raises:
        WhiskerError: there is no such task or camera, resources are missing, or the demonstrations
            are of another task.
    """
    task = find_task(name.partition("@")[0])
    return LiberoEnv(
        task, image_sizes, control or "delta", Path(scene_path) if scene_path else None
    )
