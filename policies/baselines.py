"""Baselines: two lower bounds (zero, random) and two upper bounds (scripted, replay).

None of them reads an image, so nothing is rendered for them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from policies.action_chunk import ActionChunk
from policies.policy import EpisodeMemory, Generators, Memories, Policy
from policies.simple_policy import SimplePolicy
from sim.capabilities import HasExpert, require
from sim.env import Env
from sim.errors import WhiskerError


class _Baseline(SimplePolicy):
    """A policy that plans one action at a time and reads no camera."""

    def __init__(self, name: str, env: Env, **declared: Any) -> None:
        super().__init__(name, env.spec, state_dim=None, is_baseline=True, **declared)


class ZeroPolicy(_Baseline):
    """Does nothing: holds the position of the first observation, or sends zero differences."""

    def __init__(self, env: Env) -> None:
        """Find the measured position of every target in the state.

        Raises:
            WhiskerError: the state does not have the measured value of a target.
        """
        super().__init__("zero", env)
        action = env.spec.action
        state_names = env.spec.state_names
        # In environments of differences, only the gripper's action is a target.
        grippers = action.gripper_indices
        is_target = [action.mode == "absolute" or i in grippers for i in range(action.dim)]
        self._state_index: dict[int, int] = {}
        unknown = []
        for i in np.flatnonzero(is_target).tolist():
            name = action.names[i]
            if name in state_names:
                self._state_index[i] = state_names.index(name)
            elif i not in grippers:
                unknown.append(name)
        if unknown:
            raise WhiskerError(
                f"policy 'zero' in {env.spec.name!r}",
                expected=f"a state that has {', '.join(unknown)}",
                got=", ".join(state_names),
            )

    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        del rngs
        actions = np.stack([self._hold(memory) for memory in memories])
        return ActionChunk(actions[:, None])

    def _hold(self, memory: EpisodeMemory) -> np.ndarray:
        if not isinstance(memory.recurrent_state, np.ndarray):
            memory.recurrent_state = self._stay(memory.present.state)
        return memory.recurrent_state

    def _stay(self, state: np.ndarray) -> np.ndarray:
        """Return the action that holds a state; 0 for a gripper that the state does not have."""
        action = np.zeros(self.spec.action_dim or 0, np.float32)
        for action_index, state_index in self._state_index.items():
            action[action_index] = state[state_index]
        return action


class RandomPolicy(_Baseline):
    """Draws a new action at each step, uniformly over the whole range of the actuators."""

    def __init__(self, env: Env) -> None:
        super().__init__("random", env, stochastic=True)
        self._low = np.array(env.spec.action.low)
        self._high = np.array(env.spec.action.high)

    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        del memories
        actions = np.stack([rng.uniform(self._low, self._high) for rng in rngs])
        return ActionChunk(actions[:, None].astype(np.float32))


class ScriptedPolicy(_Baseline):
    """Runs the environment's scripted expert, which reads the true state: an upper bound."""

    type = "scripted"

    def __init__(self, env: Env) -> None:
        """Make the expert.

        Raises:
            WhiskerError: the environment has no expert.
        """
        super().__init__(self.type, env, follows_env=True)
        self._expert = require(env, HasExpert, f"policy {self.type!r}").make_expert()

    def reset(self) -> EpisodeMemory:
        self._expert.reset()
        return super().reset()

    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        """Return the expert's next action.

        Args:
            memories: of exactly one episode, since the expert follows a single environment.
        """
        del rngs
        (_,) = memories
        action = self._expert.action().astype(np.float32)
        return ActionChunk(action[None, None])


class ReplayPolicy(ScriptedPolicy):
    """Replays a recorded demonstration, in an environment with its initial state."""

    type = "replay"


BASELINES: dict[str, Callable[[Env], Policy]] = {
    "zero": ZeroPolicy,
    "random": RandomPolicy,
    "scripted": ScriptedPolicy,
    "replay": ReplayPolicy,
}
