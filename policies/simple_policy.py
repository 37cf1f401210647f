"""A base class for policies that plan one chunk from one observation; subclasses write `plan`."""

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from policies.action_chunk import ActionChunk
from policies.policy import EpisodeMemory, Generators, Memories, PolicySpec, make_memory
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.spec import EnvSpec


class SimplePolicy:
    """Plans from the present observation alone, one episode at a time.

    A subclass implements `plan`:

        class Wave(SimplePolicy):
            def plan(self, observation, rng):
                return observation.state + rng.normal(size=(10, 6))

        def make(env, checkpoint, device):
            return Wave("wave", env, chunk_size=10, stochastic=True)
    """

    def __init__(
        self,
        type: str,
        env: EnvSpec,
        *,
        chunk_size: int = 1,
        n_action_steps: int | None = None,
        stochastic: bool = False,
        **declared: Any,
    ) -> None:
        """Declare the policy's spec.

        Args:
            type: the policy's name, in run folders and reports.
            env: the environment that the policy acts in.
            chunk_size: number of control steps that a plan covers.
            n_action_steps: number of them that are executed by default. None: all.
            stochastic: two plans for one observation can differ. Such a policy also has
                alternatives (`--samples`).
            declared: other fields of `policies.policy.PolicySpec`, such as `image_sizes`.
        """
        facts: dict[str, Any] = {
            "image_sizes": {},
            "state_dim": len(env.state_names),
            "action_dim": env.action.dim,
            "n_action_steps": n_action_steps or chunk_size,
            "max_action_steps": chunk_size,
            "can_sample": stochastic,
            # `plan` draws from the generator that it is given.
            "seedable": True,
        }
        self.spec = PolicySpec(
            type=type,
            chunk_size=chunk_size,
            stochastic=stochastic,
            **(facts | declared),
        )

    def plan(
        self,
        observation: Observation,
        rng: np.random.Generator,
    ) -> Float[np.ndarray, "horizon action_dim"] | Float[np.ndarray, " action_dim"]:
        """Return the plan for one observation, in the environment's units.

        A single action is a plan of one step.

        Args:
            rng: the only source of random numbers, so that an episode can be repeated.
        """
        raise NotImplementedError

    def reset(self) -> EpisodeMemory:
        return make_memory()

    def predict(
        self,
        memories: Memories,
        rngs: Generators,
    ) -> ActionChunk:
        plans = []
        for memory, rng in zip(memories, rngs, strict=True):
            plan = self.plan(memory.present, rng)
            plans.append(np.atleast_2d(np.asarray(plan, dtype=np.float32)))
        return ActionChunk(np.stack(plans))

    def sample(self, memory: EpisodeMemory, rngs: Generators) -> ActionChunk:
        if not self.spec.can_sample:
            raise WhiskerError(
                f"alternative plans of policy {self.spec.type!r}",
                expected="a policy that draws",
            )
        return self.predict([replace(memory) for _ in rngs], rngs)
