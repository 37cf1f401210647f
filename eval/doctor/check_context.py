"""Provides what the checks share: policy, environment, first observations and predictions."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter, process_time

import numpy as np
from jaxtyping import Float, Float32

from eval.config import SubjectConfig
from eval.evaluation import Setup
from eval.subject import make_adapters
from policies.adapters import Adapters
from policies.baselines import ScriptedPolicy
from policies.normalisation import Normalisation
from policies.policy import EpisodeMemory, PolicySpec, make_memory
from policies.training_record import TrainingRecord
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.spec import ActionSpec, EnvSpec

# One plan for each moment of an episode.
type Plans = Float[np.ndarray, "moment horizon action_dim"]
type ImageChange = Callable[[np.ndarray], np.ndarray]
type ObservationChange = Callable[[Observation], Observation]

# The expert's episode is sampled this often, whichever comes first. It takes about 130 control
# steps on the SO-101, and 30 in SimplerEnv, whose robot is controlled at 5 Hz.
_REFERENCE_EVERY_STEPS = 16
_REFERENCE_EVERY_S = 0.8
_EPISODE = 0
# A check whose predictions would take longer than this is skipped.
PATIENCE_S = 60.0
_NO_STATISTICS = Normalisation({}, None, None, {})


@dataclass(frozen=True)
class Reference:
    """Holds what a good policy would see and do: an episode of the environment's scripted expert.

    Attributes:
        memories: what a policy would remember at the sampled moments.
        steps: the control step of each moment.
        actions: the expert's actions, one a control step, then its last one repeated.
        n_steps: control steps that the expert took.
        success: whether the expert did the task.
        missed_stage: the first stage of its goals that it never met; "" if it met all.
    """

    memories: tuple[EpisodeMemory, ...]
    steps: tuple[int, ...]
    actions: Float[np.ndarray, "T action_dim"]
    n_steps: int
    success: bool
    missed_stage: str = ""

    def future(self, horizon: int) -> Plans:
        """Return the expert's next actions at each moment."""
        return np.stack([self.actions[step : step + horizon] for step in self.steps])

    @property
    def scale(self) -> Float[np.ndarray, " action_dim"]:
        """Return the standard deviation of each action over the episode, bounded away from zero."""
        std = self.actions[: self.n_steps].std(axis=0)
        return np.maximum(std, 1e-3 * max(std.max(), 1e-9))


@dataclass
class CheckContext:
    """Holds a policy in an environment, and caches the predictions that several checks need.

    Attributes:
        normalisation: that of the checkpoint; None if it is not a lerobot checkpoint.
        training_env: specification of the environment that the policy was trained in; None if the
            checkpoint has none.
    """

    config: SubjectConfig
    setup: Setup
    normalisation: Normalisation | None = None
    training_env: Mapping | None = None

    @property
    def env(self) -> EnvSpec:
        return self.setup.env.spec

    @property
    def action(self) -> ActionSpec:
        return self.env.action

    @cached_property
    def adapters(self) -> Adapters:
        """Return what the flags convert between the policy and the environment."""
        return make_adapters(self.config.adapters)

    @property
    def policy(self) -> PolicySpec:
        """Return the spec of the policy, as it speaks to the environment."""
        return self.setup.policy.spec

    @property
    def statistics(self) -> Normalisation:
        """Return the statistics of the training; empty ones if they are not known."""
        return self.normalisation or _NO_STATISTICS

    @property
    def training(self) -> TrainingRecord:
        """Return the record of the training; an empty one if there is none."""
        return self.setup.training or TrainingRecord()

    @property
    def n_compared(self) -> int:
        """Return how many steps of a plan are compared: those that would be executed."""
        return self.setup.n_action_steps

    def first_episodes(self, n: int) -> range:
        """Return the indices of the first n episodes, or fewer if the environment has fewer."""
        return range(n)[: self.env.n_episodes]

    def observe_reset(self, episode_index: int) -> EpisodeMemory:
        """Reset the environment, and return a memory that holds the first observation."""
        self.setup.env.reset(episode_index)
        memory = self.setup.policy.reset()
        memory.observations.append(self.setup.env.observe())
        return memory

    def predict(self, *memories: EpisodeMemory) -> Float32[np.ndarray, "row horizon action_dim"]:
        """Return one plan per memory, row i with the random numbers of prediction i.

        The memories are not changed.
        """
        rngs = [episode_rng(self.env.task, _EPISODE, i) for i in range(len(memories))]
        copies = [replace(memory) for memory in memories]
        return self.setup.policy.predict(copies, rngs).actions

    @cached_property
    def first_memory(self) -> EpisodeMemory:
        return self.observe_reset(_EPISODE)

    @cached_property
    def first_plan(self) -> Float32[np.ndarray, "horizon action_dim"]:
        return self.predict(self.first_memory)[0]

    def rehearse(self) -> None:
        """Observe once and predict once.

        If this fails, every episode of the evaluation would end as an error row.

        Raises:
            WhiskerError: the environment returns no observation, or the policy cannot plan here.
        """
        with _named(f"first observation of {self.env.name!r}", expected="an observation"):
            assert self.first_memory.observations
        subject = f"first plan of policy {self.policy.type!r} in {self.env.name!r}"
        with _named(subject, expected=f"an action chunk of (horizon, {self.action.dim})"):
            length, width = self.first_plan.shape
            if width != self.action.dim or length < self.n_compared:
                needed = f"{self.n_compared} of its steps are to be executed"
                raise ValueError(f"a plan of shape {length, width}; {needed}")

    @cached_property
    def prediction_s(self) -> float:
        """Return the time of one prediction, measured after a first one that warms up.

        On the CPU this is the process's own time, so that other load on the machine does not decide
        which checks are skipped.
        """
        assert len(self.first_plan)
        spec = self.setup.policy.spec
        clock = process_time if spec.device == "cpu" and not spec.server else perf_counter
        start_s = clock()
        self.predict(self.first_memory)
        return clock() - start_s

    @cached_property
    def reference(self) -> Reference | None:
        """Return an episode of the scripted expert; None if the environment has no expert."""
        return self._roll_out_expert(_EPISODE)

    @cached_property
    def another_reference(self) -> Reference | None:
        """Return another episode of the expert; None if the environment has one episode."""
        return self._roll_out_expert(_EPISODE + 1) if len(self.first_episodes(2)) > 1 else None

    def _roll_out_expert(self, episode_index: int) -> Reference | None:
        try:
            expert = ScriptedPolicy(self.setup.env)
        except WhiskerError:
            return None
        env = self.setup.env
        n_obs_steps = self.policy.n_obs_steps
        env.reset(episode_index)
        expert_memory = expert.reset()
        window: deque[Observation] = deque(maxlen=n_obs_steps)
        memories = []
        steps = []
        actions = []
        success = False
        met: set[str] = set()
        every = min(_REFERENCE_EVERY_STEPS, round(_REFERENCE_EVERY_S / self.env.control_dt_s) or 1)
        for step in range(self.env.max_steps):
            since_sample = step % every
            until_next = every - since_sample
            is_sampled = since_sample == 0
            if is_sampled or until_next < n_obs_steps:
                window.append(env.observe())
            if is_sampled:
                memories.append(make_memory(*window, n_obs_steps=n_obs_steps))
                steps.append(step)
            rng = episode_rng(self.env.task, episode_index, 0)
            action = expert.predict([expert_memory], [rng])[0][0]
            actions.append(action)
            result = env.step(action)
            for goal in result.progress:
                met.update(stage for stage, is_met in goal.stages.items() if is_met)
            success = result.success
            if success:
                break
        stages = itertools.chain.from_iterable(goal.stages for goal in self.env.goals)
        last = np.repeat(actions[-1][None], self.policy.chunk_size, axis=0)
        return Reference(
            memories=tuple(memories),
            steps=tuple(steps),
            actions=np.concatenate([actions, last]),
            n_steps=len(actions),
            success=success,
            missed_stage=next((stage for stage in stages if stage not in met), ""),
        )

    @cached_property
    def reference_chunks(self) -> Float32[np.ndarray, "moment chunk action_dim"]:
        """Return the whole chunks that the policy plans at the moments of the reference."""
        assert self.reference is not None
        return self.predict(*self.reference.memories)

    @property
    def reference_plans(self) -> Plans:
        """Return the parts of these chunks that would be executed."""
        return self.reference_chunks[:, : self.n_compared]

    @property
    def action_scale(self) -> Float[np.ndarray, " action_dim"]:
        """Return a noticeable difference in each action: a tenth of the actuators' range."""
        return np.subtract(self.action.high, self.action.low) / 10


def change_observations(memory: EpisodeMemory, change: ObservationChange) -> EpisodeMemory:
    """Return the memory with a change applied to each of its observations."""
    observations = deque(map(change, memory.observations), memory.observations.maxlen)
    return replace(memory, observations=observations)


def image_change(camera: str, change: ImageChange) -> ObservationChange:
    """Return a function that changes the image of one camera in an observation."""
    return lambda observation: replace(
        observation,
        images={**observation.images, camera: change(observation.images[camera])},
    )


def state_change(change: Callable[[np.ndarray], np.ndarray]) -> ObservationChange:
    """Return a function that changes the state of an observation."""
    return lambda observation: replace(
        observation,
        state=change(observation.state).astype(np.float32),
    )


@contextmanager
def _named(subject: str, expected: str) -> Iterator[None]:
    """Turn an exception into a `WhiskerError` with that subject, unless it is one already."""
    try:
        yield
    except WhiskerError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise WhiskerError(subject, expected=expected, got=got) from error
