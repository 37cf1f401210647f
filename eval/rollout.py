"""The rollout: one episode, which asks for its plans.

It is left to a driver to have them made (`eval.drivers`).
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64

from policies.action_chunk import ActionChunk, ChunkQueue
from policies.policy import EpisodeMemory, PolicySpec
from sim.capabilities import Snapshots, provides
from sim.env import Env, StepResult, episode_rng
from sim.observation import Observation


@dataclass(frozen=True)
class RolloutSettings:
    """Says how an episode is rolled out.

    Attributes:
        n_action_steps: actions of a plan that are executed before the next prediction.
        max_steps: control steps after which the episode is over.
        n_samples: plans at each decision, the executed one included. The others change nothing.
        seed: another one draws other noise. Its first plan is made from the noise of the
            alternative of that number.
    """

    n_action_steps: int
    max_steps: int
    n_samples: int = 1
    seed: int = 0


@dataclass(frozen=True)
class RolloutState:
    """Where a rollout begins to run, in an environment that is in the state of that step.

    Attributes:
        step: control steps executed before.
        prediction_index: predictions made before.
        memory: without the present observation, which is made anew: what is seen may have been
            changed.
    """

    step: int
    prediction_index: int
    memory: EpisodeMemory


@dataclass(frozen=True)
class Request:
    """The rollout needs a plan; it is answered by `send` with an `ActionChunk` of one row.

    Attributes:
        step: control steps executed so far.
        prediction_index: predictions made before this one.
        memory: the episode's own, its present observation last; `Policy.predict` changes what it
            carries.
        rngs: one a plan, that of the executed plan first.
        snapshot: the environment's full state; None where it has no snapshots.
    """

    step: int
    prediction_index: int
    memory: EpisodeMemory
    rngs: tuple[np.random.Generator, ...]
    snapshot: Float64[np.ndarray, " snapshot_dim"] | None


@dataclass(frozen=True)
class Decision:
    """The policy looked at the world and planned.

    Attributes:
        step: control steps executed so far.
        prediction_index: predictions made before this one.
        memory: a copy of what the policy was asked with, its present observation last.
        snapshot: the environment's full state in which it looked; None where it has no snapshots.
        plan: `(horizon, action_dim)`, of which the first `n_action_steps` will be executed.
        alternatives: with the plan as the first; None unless asked for.
        intermediate plans: what the plan was made from, oldest first; None unless the policy records them.
        features: hook point → what the network knew; None unless the policy collects them.
        signals: name → the number that came with the plan.
    """

    step: int
    prediction_index: int
    memory: EpisodeMemory
    snapshot: Float64[np.ndarray, " snapshot_dim"] | None
    plan: Float32[np.ndarray, "horizon action_dim"]
    alternatives: Float32[np.ndarray, "sample horizon action_dim"] | None = None
    intermediate_plans: Float32[np.ndarray, "draft horizon action_dim"] | None = None
    features: Mapping[str, Float32[np.ndarray, " _dim"]] | None = None
    signals: Mapping[str, float] = field(default_factory=dict)

    @property
    def observation(self) -> Observation:
        return self.memory.present

    def start(self) -> RolloutState:
        """Return a start to decide again from: after `env.restore(decision.snapshot)`, a rollout runs on from it."""
        memory = self.memory.copy()
        memory.observations.pop()
        return RolloutState(self.step, self.prediction_index, memory)


@dataclass(frozen=True)
class ControlStep:
    """One action was executed; `step` counts it."""

    step: int
    action: Float32[np.ndarray, " action_dim"]
    result: StepResult


type Rollout = Generator[Request | Decision | ControlStep, ActionChunk | None]


def rollout(
    env: Env, policy: PolicySpec, start: RolloutState, episode_index: int, settings: RolloutSettings
) -> Rollout:
    """Decide and step until success or the last step; from the start of a decision, exactly as it went on there.

    Yields a request and, once it is answered, the decision; then every control step. Nothing
    happens between two yields, so that a viewer can pause anywhere.

    The environment and the policy must be as they were but for what is in the snapshot and the
    memory: a scripted expert, which follows the environment by itself, cannot be continued.

    Args:
        env: in the state of `start`.
        start: is left as it is.

    Raises:
        PolicyOutputError: a plan that is not finite.
    """
    memory, prediction_index = start.memory.copy(), start.prediction_index
    queue = ChunkQueue(settings.n_action_steps)
    for step in range(start.step, settings.max_steps):
        # A policy that looks back must see the steps just before it decides; the others need not be
        # rendered.
        if len(queue) < policy.n_obs_steps:
            memory.observations.append(env.observe())
        if not queue:
            asked, snapshot = memory.copy(), env.snapshot() if provides(env, Snapshots) else None
            rngs = tuple(
                _make_rng(env, episode_index, prediction_index, k, settings.seed)
                for k in range(settings.n_samples)
            )
            chunk = yield Request(step, prediction_index, memory, rngs, snapshot)
            assert chunk is not None, "a request is answered by `send`"
            decision = _decide(chunk, policy, step, prediction_index, asked, snapshot)
            queue.fill(decision.plan)
            yield decision
            prediction_index += 1
        action = queue.pop()
        result = env.step(action)
        yield ControlStep(step + 1, action, result)
        if result.success:
            return


def _decide(
    chunk: ActionChunk,
    policy: PolicySpec,
    step: int,
    prediction_index: int,
    asked: EpisodeMemory,
    snapshot: Float64[np.ndarray, " snapshot_dim"] | None,
) -> Decision:
    """Return the decision that a chunk is."""
    plan, intermediate_plans = (
        chunk[0],
        None if chunk.intermediate_plans is None else chunk.intermediate_plans[0],
    )
    if not np.isfinite(plan).all():
        raise PolicyOutputError(
            f"policy {policy.type!r} planned a NaN or infinite action at step {step}"
        )
    alternatives = (
        None if chunk.alternatives is None else np.concatenate([plan[None], chunk.alternatives[0]])
    )
    features = (
        None if chunk.features is None else {name: rows[0] for name, rows in chunk.features.items()}
    )
    signals = {name: float(rows[0]) for name, rows in chunk.signals.items()}
    return Decision(
        step,
        prediction_index,
        asked,
        snapshot,
        plan,
        alternatives,
        intermediate_plans,
        features,
        signals,
    )


def _make_rng(
    env: Env, episode_index: int, prediction_index: int, sample_index: int, seed: int
) -> np.random.Generator:
    """A new one each time.

    What is 0 is left out, so that neither samples nor branches change a recorded plan.
    """
    more = [index for index in (sample_index, seed) if index]
    return episode_rng(env.spec.task, episode_index, prediction_index, *more)


class PolicyOutputError(RuntimeError):
    """The policy returned something that cannot be executed."""
