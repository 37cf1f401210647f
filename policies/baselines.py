"""Yardsticks: two floors and two ceilings. None of them looks, so nothing is rendered."""

from collections.abc import Callable, Sequence

import numpy as np

from policies.action_chunk import ActionChunk
from policies.policy import EpisodeMemory, Policy
from policies.simple_policy import SimplePolicy
from sim.capabilities import HasExpert, require
from sim.env import Env
from sim.errors import WhiskerError


class _Baseline(SimplePolicy):
    """A yardstick: it plans one action, and reads nothing that a camera shows."""

    def __init__(
        self, name: str, env: Env, *, stochastic: bool = False, follows_env: bool = False
    ) -> None:
        super().__init__(
            name,
            env.spec,
            stochastic=stochastic,
            state_dim=None,
            is_baseline=True,
            follows_env=follows_env,
        )


class ZeroPolicy(_Baseline):
    """Does nothing: stays at the first observation's targets, or sends zero differences."""

    def __init__(self, env: Env) -> None:
        """Raises WhiskerError: a target has no measured value in the state to stay at."""
        super().__init__("zero", env)
        action, state_names = env.spec.action, env.spec.state_names
        # The gripper's is a target in every environment, unlike the rest.
        targets = range(action.dim) if action.mode == "absolute" else [action.gripper_index]
        self._in_state = {
            i: state_names.index(action.names[i]) for i in targets if action.names[i] in state_names
        }
        unknown = [
            action.names[i]
            for i in targets
            if i not in self._in_state and i != action.gripper_index
        ]
        if unknown:
            expected, got = f"a state that has {', '.join(unknown)}", ", ".join(state_names)
            raise WhiskerError(f"policy 'zero' in {env.spec.name!r}", expected=expected, got=got)

    def predict(
        self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        del rngs
        return ActionChunk(np.stack([self._hold(memory) for memory in memories])[:, None])

    def _hold(self, memory: EpisodeMemory) -> np.ndarray:
        if not isinstance(memory.carried, np.ndarray):
            memory.carried = self._stay(memory.present.state)
        return memory.carried

    def _stay(self, state: np.ndarray) -> np.ndarray:
        """0 for a gripper that the state does not have."""
        action = np.zeros(self.spec.action_dim or 0, np.float32)
        for i, in_state in self._in_state.items():
            action[i] = state[in_state]
        return action


class RandomPolicy(_Baseline):
    """Uniform actions over the actuators' whole range, a new one each step."""

    def __init__(self, env: Env) -> None:
        super().__init__("random", env, stochastic=True)
        self._low, self._high = np.array(env.spec.action.low), np.array(env.spec.action.high)

    def predict(
        self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        del memories
        return ActionChunk(
            np.stack([rng.uniform(self._low, self._high) for rng in rngs])[:, None].astype(
                np.float32
            )
        )


class ScriptedPolicy(_Baseline):
    """The environment's scripted expert, which reads the true state: what the environment allows at best."""

    type = "scripted"

    def __init__(self, env: Env) -> None:
        """Raises WhiskerError: the environment has no expert."""
        super().__init__(self.type, env, follows_env=True)
        self._expert = require(env, HasExpert, f"policy {self.type!r}").make_expert()

    def reset(self) -> EpisodeMemory:
        self._expert.reset()
        return super().reset()

    def predict(
        self, memories: Sequence[EpisodeMemory], rngs: Sequence[np.random.Generator]
    ) -> ActionChunk:
        """Exactly one episode: the expert follows the one environment that it was made with."""
        del rngs
        (_,) = memories
        return ActionChunk(self._expert.action().astype(np.float32)[None, None])


class ReplayPolicy(ScriptedPolicy):
    """What a recorded demonstration did, in an environment that begins as the demonstration began."""

    type = "replay"


BASELINES: dict[str, Callable[[Env], Policy]] = {
    "zero": ZeroPolicy,
    "random": RandomPolicy,
    "scripted": ScriptedPolicy,
    "replay": ReplayPolicy,
}
