"""A base class for environments over one MuJoCo model.

A subclass only has to say how an episode begins and what counts as progress.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from sim.arrays import Action, StateVector
from sim.env import Progress, StepResult, episode_rng
from sim.errors import UnknownNameError
from sim.families import EnvRequest
from sim.goals.goal import Goal
from sim.model_env import ModelEnv
from sim.observation import Observation
from sim.rendering import CameraRenderer
from sim.spec import ActionSpec, CameraSpec, EnvSpec

_UNITS = {
    mujoco.mjtJoint.mjJNT_HINGE: "rad",
    mujoco.mjtJoint.mjJNT_SLIDE: "m",
}


@dataclass(frozen=True)
class SimpleTask:
    """Describes the task of a `SimpleEnv`.

    Attributes:
        instruction: the task in words.
        action: one dimension per actuator of the model, in the model's order. Actions are written
            to `data.ctrl`.
        goals: all of them must hold for success.
        joints: joints of one degree of freedom, whose positions [rad or m] are the state that a
            policy observes.
        tool_site: the site that is the tool centre point.
        n_substeps: physics steps per control step.
        max_steps: control steps after which an episode ends.
        image_size_px: default (height, width) of all cameras.
    """

    instruction: str
    action: ActionSpec
    goals: Sequence[Goal]
    joints: Sequence[str]
    tool_site: str
    n_substeps: int
    max_steps: int
    image_size_px: tuple[int, int] = (128, 128)


class SimpleEnv(ModelEnv, ABC):
    """Simulates one MuJoCo model. It has snapshots and is drawable; a subclass may add an expert.

    A subclass has `begin` and `progress`:

        class Reach(SimpleEnv):
            def begin(self, rng):
                self.data.mocap_pos[0, :2] = rng.uniform(-0.1, 0.1, 2)

            def progress(self):
                return (Progress(met=...),)

    Everything that an episode depends on must be in MuJoCo's state: joints, actuators and mocap
    bodies. A snapshot is its `mjSTATE_INTEGRATION`.
    """

    def __init__(
        self,
        request: EnvRequest,
        model: mujoco.MjModel,
        task: SimpleTask,
    ) -> None:
        """Build the environment for a request.

        Raises:
            UnknownNameError: the request names a camera that the model does not have.
        """
        self.model = model
        self.data = mujoco.MjData(model)
        self._n_substeps = task.n_substeps
        self._tool = model.site(task.tool_site).id
        self._positions = [int(model.joint(name).qposadr[0]) for name in task.joints]
        camera_names = tuple(model.camera(index).name for index in range(model.ncam))
        sizes = request.image_sizes
        if sizes is None:
            sizes = dict.fromkeys(camera_names, task.image_size_px)
        cameras = []
        for name, size_px in sizes.items():
            if name not in camera_names:
                raise UnknownNameError(f"camera of {request.spec_name!r}", name, camera_names)
            cameras.append(CameraSpec(name, *size_px, float(model.camera(name).fovy[0])))
        self.spec = EnvSpec(
            name=request.spec_name,
            task=request.name,
            instruction=task.instruction,
            cameras=tuple(cameras),
            state_names=tuple(task.joints),
            state_units=tuple(_UNITS[model.joint(name).type[0]] for name in task.joints),
            action=task.action,
            control_dt_s=task.n_substeps * model.opt.timestep,
            physics_dt_s=model.opt.timestep,
            max_steps=task.max_steps,
            camera_names=camera_names,
            goals=tuple(task.goals),
        )
        self._renderer = CameraRenderer(
            model,
            cameras,
            supersampling=1,
            shadows=False,
        )

    @abstractmethod
    def begin(self, rng: np.random.Generator) -> None:
        """Put `data`, which has the model's defaults, into the initial state of an episode.

        Args:
            rng: the episode's own generator, and the only source of random numbers.
        """

    @abstractmethod
    def progress(self) -> tuple[Progress, ...]:
        """Return the progress of each goal, in the order of the spec.

        It is computed from `data`, whose positions are up to date.
        """

    def reset(self, episode_index: int) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self.begin(episode_rng(self.spec.task, episode_index))
        mujoco.mj_fwdPosition(self.model, self.data)

    def observe(self) -> Observation:
        return Observation(self._renderer.render(self.data), self.state(), self.spec.instruction)

    def step(self, action: Action) -> StepResult:
        clipped = self._advance(action)
        self._check_physics()
        # mj_step leaves positions one substep behind the state, but all results must depend on the
        # state alone.
        mujoco.mj_fwdPosition(self.model, self.data)
        progress = self.progress()
        return StepResult(progress, all(goal.met for goal in progress), clipped)

    def state(self) -> StateVector:
        return self.data.qpos[self._positions].astype(np.float32)

    def _advance(self, action: Action) -> bool:
        """Hold an action for one control step.

        Returns:
            Whether it was clipped to the actuators' range.
        """
        allowed = np.clip(action, self.spec.action.low, self.spec.action.high)
        self.data.ctrl[:] = allowed
        mujoco.mj_step(self.model, self.data, self._n_substeps)
        return bool((allowed != action).any())
