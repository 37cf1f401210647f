"""What the doctor examines: a policy in an environment, and the few looks and predictions that its checks share."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter

import numpy as np
from jaxtyping import Float, Float32

from eval.config import SubjectConfig
from eval.evaluation import Setup
from eval.subject import make_adapters
from policies.adapters import Adapters
from policies.baselines import ScriptedPolicy
from policies.normalisation import Normalisation
from policies.policy import EpisodeMemory, make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.spec import ActionSpec, EnvSpec

# The scripted expert is looked at this often; its episodes take some 130 steps.
_REFERENCE_EVERY_STEPS = 16
_EPISODE = 0
# Longer than this no check waits for its predictions.
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Reference:
    """Holds what a good policy would see and do: an episode of the environment's scripted expert.

    Attributes:
        memories: of the moments looked at.
        steps: the control step of each.
        actions: the expert's, one a control step, then its last one held.
        n_steps: that it took.
        success: whether it did the task.
        missed_stage: the first stage of its goals that it never met; "" if it met all.
    """

    memories: tuple[EpisodeMemory, ...]
    steps: tuple[int, ...]
    actions: Float[np.ndarray, "T action_dim"]
    n_steps: int
    success: bool
    missed_stage: str = ""

    def future(self, horizon: int) -> Float[np.ndarray, "moment horizon action_dim"]:
        """What the expert did from each moment on."""
        return np.stack([self.actions[step : step + horizon] for step in self.steps])

    @property
    def scale(self) -> Float[np.ndarray, " action_dim"]:
        """How much each action varies over the episode."""
        std = self.actions[: self.n_steps].std(axis=0)
        return np.maximum(std, 1e-3 * max(std.max(), 1e-9))


@dataclass
class CheckContext:
    """A policy in an environment.

    Attributes:
        normalisation: of its checkpoint; None: there is no checkpoint of lerobot's.
        training_env: the specification of the environment that it was trained in, where the
            checkpoint tells.
    """

    config: SubjectConfig
    setup: Setup
    normalisation: Normalisation | None = None
    training_env: Mapping | None = None

    @property
    def env(self) -> EnvSpec:
        return self.setup.env.spec

    @cached_property
    def adapters(self) -> Adapters:
        """Return what stands between the policy and the environment, as far as the user said."""
        return make_adapters(self.config.adapters)

    @property
    def action(self) -> ActionSpec:
        return self.env.action

    @property
    def n_compared(self) -> int:
        """Steps of a plan that are looked at: those that would be executed."""
        return self.setup.n_action_steps

    def first_episodes(self, n: int) -> range:
        """Indices of the first few; a file of demonstrations may have fewer."""
        return range(n if self.env.n_episodes is None else min(n, self.env.n_episodes))

    def look(self, episode_index: int) -> EpisodeMemory:
        """Begin an episode: its first observation."""
        self.setup.env.reset(episode_index)
        memory = self.setup.policy.reset()
        memory.observations.append(self.setup.env.observe())
        return memory

    def predict(self, *memories: EpisodeMemory) -> Float32[np.ndarray, "row horizon action_dim"]:
        """One plan a memory, row i with the random numbers of prediction i.

        Memories stay as they are.
        """
        rngs = [episode_rng(self.env.task, _EPISODE, i) for i in range(len(memories))]
        return self.setup.policy.predict([replace(memory) for memory in memories], rngs).actions

    @cached_property
    def first_memory(self) -> EpisodeMemory:
        return self.look(_EPISODE)

    @cached_property
    def first_plan(self) -> Float32[np.ndarray, "horizon action_dim"]:
        return self.predict(self.first_memory)[0]

    def rehearse(self) -> None:
        """Look once, then plan once: what fails here would fail in every episode, as an error row each.

        Raises:
            WhiskerError: the environment shows nothing, or the policy cannot plan here.
        """
        with _named(f"first observation of {self.env.name!r}", expected="an observation"):
            assert self.first_memory.observations
        with _named(
            f"first plan of policy {self.setup.policy.spec.type!r} in {self.env.name!r}",
            expected=f"an action chunk of (horizon, {self.action.dim})",
        ):
            length, width = self.first_plan.shape
            if width != self.action.dim or length < self.n_compared:
                raise ValueError(
                    f"a plan of shape {length, width}; {self.n_compared} of its steps are to be executed"
                )

    @cached_property
    def prediction_s(self) -> float:
        """Wall time of one prediction. Not the first, which warms up."""
        assert len(self.first_plan)
        start_s = perf_counter()
        self.predict(self.first_memory)
        return perf_counter() - start_s

    @cached_property
    def reference(self) -> Reference | None:
        """None where the environment has no scripted expert."""
        try:
            expert = ScriptedPolicy(self.setup.env)
        except WhiskerError:
            return None
        env, n_obs_steps = self.setup.env, self.setup.policy.spec.n_obs_steps
        env.reset(_EPISODE)
        own = expert.reset()
        seen: deque[Observation] = deque(maxlen=n_obs_steps)
        memories, steps, actions, success = [], [], [], False
        met: set[str] = set()
        for step in range(self.env.max_steps):
            since_look = step % _REFERENCE_EVERY_STEPS
            if since_look == 0 or _REFERENCE_EVERY_STEPS - since_look < n_obs_steps:
                seen.append(env.observe())
            if since_look == 0:
                memories.append(make_memory(*seen, n_obs_steps=n_obs_steps))
                steps.append(step)
            action = expert.predict([own], [episode_rng(self.env.task, _EPISODE, 0)])[0][0]
            actions.append(action)
            result = env.step(action)
            for goal in result.progress:
                met |= {stage for stage, holds in goal.stages.items() if holds}
            success = result.success
            if success:
                break
        held = np.repeat(actions[-1][None], self.setup.policy.spec.chunk_size, axis=0)
        stages = [stage for goal in self.env.goals for stage in goal.stages]
        missed = next((stage for stage in stages if stage not in met), "")
        followed = np.concatenate([actions, held])
        return Reference(tuple(memories), tuple(steps), followed, len(actions), success, missed)

    @cached_property
    def reference_chunks(self) -> Float32[np.ndarray, "moment chunk action_dim"]:
        """Return the whole chunks that the policy plans at the moments of the reference."""
        assert self.reference is not None
        return self.predict(*self.reference.memories)

    @property
    def action_scale(self) -> Float[np.ndarray, " action_dim"]:
        """A noticeable difference in each action: a tenth of the actuators' range."""
        return (np.array(self.action.high) - np.array(self.action.low)) / 10


def changed(memory: EpisodeMemory, change: Callable[[Observation], Observation]) -> EpisodeMemory:
    """The same episode, had its observations been others."""
    return replace(
        memory, observations=deque(map(change, memory.observations), memory.observations.maxlen)
    )


def changed_camera(
    camera: str, change: Callable[[np.ndarray], np.ndarray]
) -> Callable[[Observation], Observation]:
    """To change one image of an observation."""
    return lambda o: replace(o, images=dict(o.images) | {camera: change(o.images[camera])})


@contextmanager
def _named(subject: str, expected: str) -> Iterator[None]:
    """Turn any exception into a `WhiskerError` with that subject; one that is already a `WhiskerError` passes."""
    try:
        yield
    except WhiskerError:
        raise
    except Exception as error:
        raise WhiskerError(
            subject, expected=expected, got=f"{type(error).__name__}: {error}"
        ) from error
