"""Rolls out one episode as a generator that asks for its plans.

A driver (`eval.drivers`) answers with the plans.
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
from sim.spec import SuccessRule


@dataclass(frozen=True)
class RolloutSettings:
    """Settings of how an episode is rolled out.

    Attributes:
        n_action_steps: actions of a plan that are executed before the next prediction.
        max_steps: control steps after which the episode is over.
        n_samples: plans at each decision, the executed one included. The others change nothing.
        seed: seed of the policy's noise; 0 is that of a recorded run. With seed s the first plan
            is made from the noise of alternative s.
        success: whether an episode ends with its first success, or its last step decides.
    """

    n_action_steps: int
    max_steps: int
    n_samples: int = 1
    seed: int = 0
    success: SuccessRule = "once"


@dataclass(frozen=True)
class RolloutState:
    """The state from which a rollout runs on, in an environment that is at that step.

    Attributes:
        step: control steps executed before.
        prediction_index: predictions made before.
        memory: the policy's memory without the present observation. The rollout observes again,
            because the observations may have been changed.
    """

    step: int
    prediction_index: int
    memory: EpisodeMemory


@dataclass(frozen=True)
class Request:
    """A request for a plan, answered by `send` with an `ActionChunk` of one row.

    Attributes:
        step: control steps executed so far.
        prediction_index: predictions made before this one.
        memory: the episode's own memory, its present observation last; `Policy.predict` changes
            what it carries.
        rngs: a generator for each plan, that of the executed plan first.
        snapshot: the environment's full state; None if it has no snapshots.
    """

    step: int
    prediction_index: int
    memory: EpisodeMemory
    rngs: tuple[np.random.Generator, ...]
    snapshot: Float64[np.ndarray, " snapshot_dim"] | None


@dataclass(frozen=True)
class Decision:
    """An observation from which the policy made a plan.

    Attributes:
        step: control steps executed so far.
        prediction_index: predictions made before this one.
        memory: a copy of the memory that the policy planned from, its present observation last.
        snapshot: the environment's full state at the observation; None if it has no snapshots.
        plan: `(horizon, action_dim)`, of which the first `n_action_steps` will be executed.
        alternatives: alternative plans, the executed one first; None unless asked for.
        intermediate_plans: plans of the denoising steps, oldest first; None unless the policy
            records them.
        features: hook point → features of the network; None unless the policy records them.
        signals: name → number that came with the plan.
    """

    step: int
    prediction_index: int
    memory: EpisodeMemory
    snapshot: Float64[np.ndarray, " snapshot_dim"] | None
    plan: Float32[np.ndarray, "horizon action_dim"]
    alternatives: Float32[np.ndarray, "sample horizon action_dim"] | None = None
    intermediate_plans: Float32[np.ndarray, "intermediate horizon action_dim"] | None = None
    features: Mapping[str, Float32[np.ndarray, " _dim"]] | None = None
    signals: Mapping[str, float] = field(default_factory=dict)

    @property
    def observation(self) -> Observation:
        return self.memory.present

    def start(self) -> RolloutState:
        """Return the state from which a rollout decides again after `env.restore(snapshot)`."""
        memory = self.memory.copy()
        memory.observations.pop()
        return RolloutState(self.step, self.prediction_index, memory)


@dataclass(frozen=True)
class ControlStep:
    """An executed action; `step` counts it."""

    step: int
    action: Float32[np.ndarray, " action_dim"]
    result: StepResult


type Rollout = Generator[Request | Decision | ControlStep, ActionChunk | None]


def rollout(
    env: Env,
    policy: PolicySpec,
    start: RolloutState,
    episode_index: int,
    settings: RolloutSettings,
) -> Rollout:
    """Decide and step until the last step, or until success if the settings say so.

    Yields a request and, once it is answered, the decision; then every control step. Nothing
    happens between two yields, so that a viewer can pause anywhere.

    From the start of a decision the rollout goes on exactly as it did there. Apart from the
    snapshot and the memory, the environment and the policy must be unchanged. A scripted expert
    cannot be continued, because it follows the environment by itself.

    Args:
        env: the environment, in the state of `start`.
        start: the state to begin from, which is not changed.

    Raises:
        PolicyOutputError: a plan is not finite.
    """
    memory = start.memory.copy()
    prediction_index = start.prediction_index
    queue = ChunkQueue(settings.n_action_steps)
    for step in range(start.step, settings.max_steps):
        # The policy needs the observations just before a decision. The others are not rendered.
        if len(queue) < policy.n_obs_steps:
            memory.observations.append(env.observe())
        if not queue:
            snapshot = env.snapshot() if provides(env, Snapshots) else None
            asked = memory.copy()
            rngs = _make_rngs(env, episode_index, prediction_index, settings)
            request = Request(step, prediction_index, memory, rngs, snapshot)
            chunk = yield request
            assert chunk is not None, "a request is answered by `send`"
            decision = _decide(chunk, policy, request, asked)
            queue.fill(decision.plan)
            yield decision
            prediction_index += 1
        action = queue.pop()
        result = env.step(action)
        yield ControlStep(step + 1, action, result)
        if result.success and settings.success == "once":
            return


def _decide(
    chunk: ActionChunk,
    policy: PolicySpec,
    request: Request,
    asked: EpisodeMemory,
) -> Decision:
    """Return the decision that a chunk makes.

    Args:
        asked: the memory as it was before the prediction.
    """
    plan = chunk[0]
    if not np.isfinite(plan).all():
        raise PolicyOutputError(
            f"policy {policy.type!r} planned a NaN or infinite action at step {request.step}"
        )
    alternatives = None
    if chunk.alternatives is not None:
        alternatives = np.concatenate([plan[None], chunk.alternatives[0]])
    intermediate_plans = chunk.intermediate_plans
    features = chunk.features
    return Decision(
        step=request.step,
        prediction_index=request.prediction_index,
        memory=asked,
        snapshot=request.snapshot,
        plan=plan,
        alternatives=alternatives,
        intermediate_plans=None if intermediate_plans is None else intermediate_plans[0],
        features=features and {name: rows[0] for name, rows in features.items()},
        signals={name: float(rows[0]) for name, rows in chunk.signals.items()},
    )


def _make_rngs(
    env: Env,
    episode_index: int,
    prediction_index: int,
    settings: RolloutSettings,
) -> tuple[np.random.Generator, ...]:
    """Make a new generator for each plan of a decision.

    Indices that are 0 are left out of its seed, so that neither samples nor branches change a
    recorded plan.
    """
    rngs = []
    for sample_index in range(settings.n_samples):
        more = filter(None, (sample_index, settings.seed))
        rngs.append(episode_rng(env.spec.task, episode_index, prediction_index, *more))
    return tuple(rngs)


class PolicyOutputError(RuntimeError):
    """Raised when the policy returned something that cannot be executed."""
