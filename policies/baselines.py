"""Policies without a checkpoint: two floors and a ceiling. None of them looks, so nothing is rendered."""

from collections.abc import Callable, Sequence

import numpy as np

from policies.action_chunk import ActionChunk
from policies.policy import Policy, PolicySpec
from sim.env import Env
from sim.errors import WhiskerError
from sim.observation import Observation


class ZeroPolicy:
    """Does nothing: stays at the joint targets of the first observation, or sends zero deltas."""

    def __init__(self, env: Env) -> None:
        self.spec = _spec("zero", env)
        self._absolute = env.spec.action.mode == "absolute"
        self._hold: np.ndarray | None = None

    def reset(self) -> None:
        self._hold = None

    def predict(self, observations: Sequence[Observation], rngs: Sequence[np.random.Generator]) -> ActionChunk:
        del rngs
        if self._hold is None:
            states = np.stack([o.state for o in observations])
            self._hold = states if self._absolute else np.zeros((len(states), self.spec.action_dim or 0), np.float32)
        return ActionChunk(self._hold[:, None])


class RandomPolicy:
    """Uniform actions over the actuators' whole range, a new one each step."""

    def __init__(self, env: Env) -> None:
        self.spec = _spec("random", env, stochastic=True)
        self._low, self._high = np.array(env.spec.action.low), np.array(env.spec.action.high)

    def reset(self) -> None:
        pass

    def predict(self, observations: Sequence[Observation], rngs: Sequence[np.random.Generator]) -> ActionChunk:
        del observations
        return ActionChunk(np.stack([rng.uniform(self._low, self._high) for rng in rngs])[:, None].astype(np.float32))


class ScriptedPolicy:
    """The environment's scripted expert, which reads the true state: what the environment allows at best."""

    def __init__(self, env: Env) -> None:
        from sim.so101.expert import PickPlaceExpert
        from sim.so101.pick_place import PickPlace

        if not isinstance(env, PickPlace):
            raise WhiskerError(
                f"policy 'scripted' in {env.spec.name!r}", expected="an environment with a scripted expert"
            )
        self.spec = _spec("scripted", env)
        self._expert = PickPlaceExpert(env)

    def reset(self) -> None:
        self._expert.reset()

    def predict(self, observations: Sequence[Observation], rngs: Sequence[np.random.Generator]) -> ActionChunk:
        """Exactly one observation: the expert follows the one environment that it was made with."""
        del rngs
        (_,) = observations
        return ActionChunk(self._expert.action().astype(np.float32)[None, None])


BASELINES: dict[str, Callable[[Env], Policy]] = {
    "zero": ZeroPolicy,
    "random": RandomPolicy,
    "scripted": ScriptedPolicy,
}


def _spec(name: str, env: Env, *, stochastic: bool = False) -> PolicySpec:
    return PolicySpec(
        type=name,
        image_sizes={},
        state_dim=None,
        action_dim=env.spec.action.dim,
        chunk_size=1,
        n_action_steps=1,
        max_action_steps=1,
        stochastic=stochastic,
    )
