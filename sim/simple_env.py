"""The base of an environment over one MuJoCo model: what is left to write is how an episode begins and what counts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Float, Float32, Float64

from sim.env import Progress, StepResult, episode_rng
from sim.errors import UnknownNameError
from sim.families import EnvRequest
from sim.goals.goal import Goal
from sim.model_geometry import compute_body_poses, extract_geometry
from sim.observation import Observation
from sim.rendering import CameraRenderer, compute_projection
from sim.scene_geometry import SceneGeometry
from sim.spec import ActionSpec, CameraSpec, EnvSpec

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_UNITS = {
    mujoco.mjtJoint.mjJNT_HINGE: "rad",
    mujoco.mjtJoint.mjJNT_SLIDE: "m",
}
# Geoms of these groups are drawn, as MuJoCo's own viewer does by default.
_SHOWN_GROUPS = (0, 1, 2)


class SimpleEnv(ABC):
    """Simulates one MuJoCo model. It has snapshots and can be drawn; an expert is the subclass's own.

    A class of one's own derives from it and has `begin` and `progress`:

        class Reach(SimpleEnv):
            def begin(self, rng):
                self.data.mocap_pos[0, :2] = rng.uniform(-0.1, 0.1, 2)

            def progress(self):
                return (Progress(met=...),)

    All that an episode depends on must be in MuJoCo's state, whose snapshot is
    `mjSTATE_INTEGRATION`: joints, actuators and mocap bodies.
    """

    def __init__(
        self,
        request: EnvRequest,
        model: mujoco.MjModel,
        *,
        instruction: str,
        action: ActionSpec,
        goals: Sequence[Goal],
        joints: Sequence[str],
        tool_site: str,
        n_substeps: int,
        max_steps: int,
        image_size_px: tuple[int, int] = (128, 128),
    ) -> None:
        """Look up what the spec says.

        Args:
            action: one number an actuator of the model, in its order: what `data.ctrl` is set to.
            joints: those of one degree of freedom whose positions are the state that a policy sees
                [rad or m].
            tool_site: the site that is the tool centre point.
            n_substeps: physics steps a control step.
            image_size_px: (height, width) of all cameras, where nobody asks for another.

        Raises:
            UnknownNameError: a camera is asked for that the model has not.
        """
        self.model = model
        self.data = mujoco.MjData(model)
        self._n_substeps = n_substeps
        self._tool = model.site(tool_site).id
        self._positions = [int(model.joint(name).qposadr[0]) for name in joints]
        names = tuple(model.camera(index).name for index in range(model.ncam))
        sizes = (
            dict.fromkeys(names, image_size_px)
            if request.image_sizes is None
            else request.image_sizes
        )
        if unknown := [name for name in sizes if name not in names]:
            raise UnknownNameError(
                f"camera of {request.spec_name!r}",
                unknown[0],
                names,
            )
        cameras = tuple(
            CameraSpec(
                name,
                *size,
                float(model.camera(name).fovy[0]),
            )
            for name, size in sizes.items()
        )
        self.spec = EnvSpec(
            name=request.spec_name,
            task=request.name,
            instruction=instruction,
            cameras=cameras,
            state_names=tuple(joints),
            state_units=tuple(_UNITS[model.joint(name).type[0]] for name in joints),
            action=action,
            control_dt_s=n_substeps * model.opt.timestep,
            physics_dt_s=model.opt.timestep,
            max_steps=max_steps,
            camera_names=names,
            goals=tuple(goals),
        )
        self._renderer = CameraRenderer(
            model,
            cameras,
            supersampling=1,
            shadows=False,
        )

    @abstractmethod
    def begin(self, rng: np.random.Generator) -> None:
        """Put `data`, which is as the model has it, into the initial state of an episode.

        Args:
            rng: the episode's own: the only source of random numbers.
        """

    @abstractmethod
    def progress(self) -> tuple[Progress, ...]:
        """Return how far each goal is, in the order of the spec, from `data`, whose positions are up to date."""

    def reset(self, episode_index: int) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self.begin(episode_rng(self.spec.task, episode_index))
        mujoco.mj_fwdPosition(self.model, self.data)

    def observe(self) -> Observation:
        return Observation(
            self._renderer.render(self.data),
            self.state(),
            self.spec.instruction,
        )

    def step(self, action: Float[np.ndarray, " action_dim"]) -> StepResult:
        clipped = self._move(action)
        if not np.isfinite(self.data.qpos).all():
            raise RuntimeError(f"the physics of {self.spec.name!r} diverged")
        # mj_step leaves positions one substep behind the state; what is reported is a function of
        # the state alone.
        mujoco.mj_fwdPosition(self.model, self.data)
        progress = self.progress()
        return StepResult(progress, all(goal.met for goal in progress), clipped)

    def state(self) -> Float32[np.ndarray, " state_dim"]:
        return self.data.qpos[self._positions].astype(np.float32)

    def ee_pos_world(self) -> Float64[np.ndarray, "3"]:
        return self.data.site_xpos[self._tool].copy()

    def snapshot(self) -> Float64[np.ndarray, " snapshot_dim"]:
        state = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state

    def restore(self, snapshot: Float64[np.ndarray, " snapshot_dim"]) -> None:
        mujoco.mj_setState(
            self.model,
            self.data,
            np.ascontiguousarray(snapshot),
            _STATE,
        )
        mujoco.mj_fwdPosition(self.model, self.data)

    def simulate_ee_path(
        self, chunk: Float[np.ndarray, "horizon action_dim"]
    ) -> Float64[np.ndarray, "moment 3"]:
        path = np.full((len(chunk) + 1, 3), np.nan)
        path[0] = self.ee_pos_world()
        for step, action in enumerate(chunk, start=1):
            self._move(action)
            if not np.isfinite(self.data.qpos).all():
                break
            mujoco.mj_fwdPosition(self.model, self.data)
            path[step] = self.ee_pos_world()
        return path

    def geometry(self) -> SceneGeometry:
        return extract_geometry(self.model, _SHOWN_GROUPS)

    def body_poses(self) -> Float32[np.ndarray, "body 7"]:
        return compute_body_poses(self.data)

    def projection(self, camera: str) -> Float64[np.ndarray, "3 4"]:
        return compute_projection(
            self.model,
            self.data,
            self.spec.camera(camera),
        )

    def gl_renderer(self) -> str:
        return self._renderer.gl_renderer

    def close(self) -> None:
        self._renderer.close()

    def _move(self, action: Float[np.ndarray, " action_dim"]) -> bool:
        """Hold an action for one control step.

        Returns whether it was cut to the actuators' range.
        """
        allowed = np.clip(
            action,
            self.spec.action.low,
            self.spec.action.high,
        )
        self.data.ctrl[:] = allowed
        mujoco.mj_step(self.model, self.data, self._n_substeps)
        return bool((allowed != action).any())
