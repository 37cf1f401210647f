"""A LIBERO task behind the `Env` contract: bit for bit LIBERO's own environment, without its needless work."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from sim.env import Expert
from sim.errors import WhiskerError
from sim.goals.goal import Goal
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
from sim.libero_bench.fixture_poses import place_fixtures
from sim.libero_bench.loading import make_problem
from sim.libero_bench.progress import make_goal
from sim.libero_bench.replay import DemonstratedStarts
from sim.libero_bench.scene_certificate import SceneCertificate, load_certificate
from sim.libero_bench.tasks import LiberoTask, find_task, load_init_states
from sim.robosuite.env import RobosuiteEnv
from sim.spec import ActionMode, CameraSpec, EnvSpec


class LiberoEnv(RobosuiteEnv):
    """`sim.env.Env` of one LIBERO task: a Panda under operational-space control at 20 Hz.

    State (8): position of the end effector [m, world], its rotation as axis-angle [rad], two finger
    positions [m]. Action (7), relative: each in [-1, 1], 1 being 0.05 m or 0.5 rad in the world's
    axes; gripper -1 open, +1 closed. Absolute: the position [m, world] and the axis-angle [rad]
    themselves.
    """

    def __init__(
        self,
        task: LiberoTask,
        image_sizes: Mapping[str, tuple[int, int]] | None = None,
        control: ActionMode = "delta",
        demos: Path | None = None,
    ) -> None:
        """Args:
        image_sizes: camera → (height_px, width_px) of exactly the cameras to observe; None:
        lerobot's two. demos: a file of demonstrations: episode k begins where its k-th began, and
        the expert does what it did.
        """
        self._task = task
        self._name = f"{task.env_name}@{demos}" if demos else task.env_name
        env = make_problem(task.bddl_path)
        self._names = {int(body): name for name, body in env.obj_body_id.items()}
        super().__init__(env, relative=control == "delta", object_names=self._names)
        self._demos = DemonstratedStarts(demos, task) if demos else None
        self._init_states = (
            load_init_states(task) if self._demos is None else self._demos.init_states
        )
        goals = [make_goal(env, self.model, goal) for goal in env.parsed_problem["goal_state"]]
        spec = self._make_spec(image_sizes, tuple(goal.declared for goal in goals))
        self._watch(goals, spec, LEROBOT_CAMERAS)
        self.begin_episode(0)

    def reset(self, episode_index: int) -> None:
        """Begin an episode, as every `Env` does.

        Raises:
            WhiskerError: there is no such episode, or an object is not where the scene's
                certificate has it.
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
            # A demonstration begins as it was recorded, in motion. Goals are measured from where
            # objects rest all the same; to come back by a second reset is exact, unlike a restored
            # snapshot right after a reset.
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
        # robosuite draws the poses of fixtures from numpy's global generator, which is nobody
        # else's business.
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
        """Return the objects that can move freely, by the names of the task's BDDL file."""
        return tuple(self._names[int(body)] for body in self._free_joints.bodies)

    def _check_goals(self) -> np.ndarray:
        return np.array(
            [
                bool(self._env._eval_predicate(goal))
                for goal in self._env.parsed_problem["goal_state"]
            ]
        )

    def _after_physics(self) -> None:
        self._env._post_process()

    def _make_spec(
        self, image_sizes: Mapping[str, tuple[int, int]] | None, goals: tuple[Goal, ...]
    ) -> EnvSpec:
        if image_sizes is None:
            image_sizes = dict.fromkeys(LEROBOT_CAMERAS, IMAGE_SIZE_PX)
        return EnvSpec(
            name=self._name,
            task=self._task.task_name,
            instruction=self._task.instruction,
            cameras=tuple(self._camera_spec(camera, *size) for camera, size in image_sizes.items()),
            state_names=STATE_NAMES,
            state_units=STATE_UNITS,
            action=make_action_spec("delta" if self._relative else "absolute"),
            control_dt_s=self._env.control_timestep,
            physics_dt_s=self._env.model_timestep,
            max_steps=self._task.max_steps,
            camera_names=CAMERA_NAMES,
            goals=goals,
            n_episodes=len(self._init_states),
        )

    def _camera_spec(self, name: str, height_px: int, width_px: int) -> CameraSpec:
        if name not in CAMERA_NAMES:
            raise WhiskerError(
                f"camera {name!r}",
                expected=f"one of {', '.join(CAMERA_NAMES)}",
                hint="The environment has no other cameras.",
            )
        fovy_deg = self.model.camera(LEROBOT_CAMERAS.get(name, name)).fovy[0]
        return CameraSpec(name, height_px, width_px, float(fovy_deg))


def make_libero(
    name: str,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
    scene_path: str | None = None,
    control: ActionMode | None = None,
) -> LiberoEnv:
    """By name, as in `sim.libero_bench.tasks.find_task`.

    Args:
        scene_path: what follows an @ in the name, which here is a file of demonstrations to begin
            from.

    Raises:
        WhiskerError: no such task or camera, resources missing, demonstrations of another task.
    """
    task = find_task(name.partition("@")[0])
    return LiberoEnv(
        task, image_sizes, control or "delta", Path(scene_path) if scene_path else None
    )
