"""Policies without a checkpoint: two floors and a ceiling. None of them looks, so nothing is rendered."""

from collections.abc import Callable, Sequence

import numpy as np

from policies.action_chunk import ActionChunk
from policies.adapters import find_gripper_in_state
from policies.policy import EpisodeMemory, Policy, PolicySpec, remember
from sim.env import Env
from sim.errors import WhiskerError


class _Baseline:
    """What the three have in common: one observation is all that they remember."""

    def __init__(self, name: str, env: Env, *, stochastic: bool = False) -> None:
        self.spec = PolicySpec(
            type=name,
            image_sizes={},
            state_dim=None,
            action_dim=env.spec.action.dim,
            chunk_size=1,
            n_action_steps=1,
            max_action_steps=1,
            stochastic=stochastic,
            can_sample=stochastic,
        )

    def reset(self) -> EpisodeMemory:
        return remember()

    def predict(self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]) -> ActionChunk:
        raise NotImplementedError

    def sample(self, memory: EpisodeMemory, rngs: Sequence[np.random.Generator]) -> ActionChunk:
        if not self.spec.can_sample:
            raise WhiskerError(f"alternative plans of policy {self.spec.type!r}", expected="a policy that draws")
        return self.predict([memory] * len(rngs), rngs)


class ZeroPolicy(_Baseline):
    """Does nothing: stays at the first observation's targets, or sends zero differences."""

    def __init__(self, env: Env) -> None:
        super().__init__("zero", env)
        self._action = env.spec.action
        self._gripper = find_gripper_in_state(env.spec.state_names, env.spec.action)

    def predict(self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]) -> ActionChunk:
        del rngs
        return ActionChunk(np.stack([self._hold(memory) for memory in memories])[:, None])

    def _hold(self, memory: EpisodeMemory) -> np.ndarray:
        if not isinstance(memory.carried, np.ndarray):
            memory.carried = self._stay(memory.present.state)
        return memory.carried

    def _stay(self, state: np.ndarray) -> np.ndarray:
        if self._action.mode == "absolute":
            return state
        action = np.zeros(self._action.dim, np.float32)
        if self._gripper is not None:
            # A target in every environment, unlike the rest.
            action[self._action.gripper_index] = state[self._gripper]
        return action


class RandomPolicy(_Baseline):
    """Uniform actions over the actuators' whole range, a new one each step."""

    def __init__(self, env: Env) -> None:
        super().__init__("random", env, stochastic=True)
        self._low, self._high = np.array(env.spec.action.low), np.array(env.spec.action.high)

    def predict(self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]) -> ActionChunk:
        del memories
        return ActionChunk(np.stack([rng.uniform(self._low, self._high) for rng in rngs])[:, None].astype(np.float32))


class ScriptedPolicy(_Baseline):
    """The environment's scripted expert, which reads the true state: what the environment allows at best."""

    def __init__(self, env: Env) -> None:
        from sim.so101.expert import PickPlaceExpert
        from sim.so101.pick_place import PickPlace

        if not isinstance(env, PickPlace):
            raise WhiskerError(
                f"policy 'scripted' in {env.spec.name!r}", expected="an environment with a scripted expert"
            )
        super().__init__("scripted", env)
        self._expert = PickPlaceExpert(env)

    def reset(self) -> EpisodeMemory:
        self._expert.reset()
        return super().reset()

    def predict(self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]) -> ActionChunk:
        """Exactly one episode: the expert follows the one environment that it was made with."""
        del rngs
        (_,) = memories
        return ActionChunk(self._expert.action().astype(np.float32)[None, None])


BASELINES: dict[str, Callable[[Env], Policy]] = {
    "zero": ZeroPolicy,
    "random": RandomPolicy,
    "scripted": ScriptedPolicy,
}
