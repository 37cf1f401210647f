"""An environment that shows something else than there is: for the futures that a person asks for."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32, Float64

from sim.env import Env, Expert, LooseObject, Progress, StepResult
from sim.observation import Observation
from sim.scene_geometry import SceneGeometry
from sim.spec import EnvSpec


class AlteredEnv:
    """`sim.env.Env` that is another one in all but what `observe` returns."""

    def __init__(self, env: Env, instruction: str | None = None, blinded: Collection[str] = ()) -> None:
        """Args:
        instruction: what the policy is told; None: the environment's own.
        blinded: cameras that are black.
        """
        self._env, self._instruction, self._blinded = env, instruction, frozenset(blinded)

    def observe(self) -> Observation:
        seen = self._env.observe()
        images = {
            camera: np.zeros_like(image) if camera in self._blinded else image for camera, image in seen.images.items()
        }
        return replace(seen, images=images, instruction=self._instruction or seen.instruction)

    @property
    def spec(self) -> EnvSpec:
        return self._env.spec

    def reset(self, episode_index: int) -> None:
        self._env.reset(episode_index)

    def step(self, action: Float[np.ndarray, " action_dim"]) -> StepResult:
        return self._env.step(action)

    def trace(self, chunk: Float[np.ndarray, "horizon action_dim"]) -> Float64[np.ndarray, "moment 3"]:
        return self._env.trace(chunk)

    def state(self) -> Float32[np.ndarray, " state_dim"]:
        return self._env.state()

    def progress(self) -> tuple[Progress, ...]:
        return self._env.progress()

    def snapshot(self) -> Float64[np.ndarray, " snapshot_dim"]:
        return self._env.snapshot()

    def restore(self, snapshot: Float64[np.ndarray, " snapshot_dim"]) -> None:
        self._env.restore(snapshot)

    def ee_pos_world(self) -> Float64[np.ndarray, "3"]:
        return self._env.ee_pos_world()

    def projection(self, camera: str) -> Float64[np.ndarray, "3 4"]:
        return self._env.projection(camera)

    def geometry(self) -> SceneGeometry:
        return self._env.geometry()

    def body_poses(self) -> Float32[np.ndarray, "body 7"]:
        return self._env.body_poses()

    def gl_renderer(self) -> str:
        return self._env.gl_renderer()

    def loose_objects(self) -> tuple[LooseObject, ...]:
        return self._env.loose_objects()

    def make_expert(self, fault: str | None = None) -> Expert:
        return self._env.make_expert(fault)

    def close(self) -> None:
        self._env.close()
