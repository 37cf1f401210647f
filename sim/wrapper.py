"""Base class for wrappers that change a part of an environment."""

from sim.arrays import Action, StateVector, Vector3
from sim.capabilities import capability_methods_of
from sim.env import Env, Progress, StepResult
from sim.observation import Observation
from sim.spec import EnvSpec


class EnvWrapper:
    """Forwards everything to the environment inside it; a subclass overrides what it changes.

    It has exactly the capabilities of that environment (`sim.capabilities.provides`).
    """

    def __init__(self, env: Env) -> None:
        self._env = env
        for name, method in capability_methods_of(env).items():
            if not hasattr(type(self), name):
                setattr(self, name, method)

    @property
    def spec(self) -> EnvSpec:
        return self._env.spec

    def reset(self, episode_index: int) -> None:
        self._env.reset(episode_index)

    def observe(self) -> Observation:
        return self._env.observe()

    def step(self, action: Action) -> StepResult:
        return self._env.step(action)

    def state(self) -> StateVector:
        return self._env.state()

    def progress(self) -> tuple[Progress, ...]:
        return self._env.progress()

    def ee_pos_world(self) -> Vector3:
        return self._env.ee_pos_world()

    def close(self) -> None:
        self._env.close()
