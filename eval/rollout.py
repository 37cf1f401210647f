"""The rollout: one episode of a policy in an environment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from eval.recorder import EpisodeRecord, EpisodeRecorder
from policies.action_chunk import ChunkQueue
from policies.policy import EpisodeMemory, Policy
from sim.capabilities import Snapshots, require
from sim.env import Env, StepResult, episode_rng
from sim.observation import Observation


@dataclass(frozen=True)
class Start:
    """Where a rollout begins to run, in an environment that is in the state of that step.

    Attributes:
        step: control steps executed before.
        prediction_index: predictions made before.
        memory: without the present observation, which is made anew: what is seen may have been changed.
    """

    step: int
    prediction_index: int
    memory: EpisodeMemory


@dataclass(frozen=True)
class Decision:
    """The policy looked at the world and planned.

    Attributes:
        step: control steps executed so far.
        prediction_index: predictions made before this one.
        memory: a copy of what the policy was asked with, its present observation last.
        snapshot: the environment's full state in which it looked.
        plan: `(horizon, action_dim)`, of which the first `n_action_steps` will be executed.
        alternatives: with the plan as the first; None unless asked for.
        drafts: what the plan was made from, oldest first; None unless the policy records them.
        features: hook point → what the network knew; None unless the policy collects them.
    """

    step: int
    prediction_index: int
    memory: EpisodeMemory
    snapshot: Float64[np.ndarray, " snapshot_dim"]
    plan: Float32[np.ndarray, "horizon action_dim"]
    alternatives: Float32[np.ndarray, "sample horizon action_dim"] | None = None
    drafts: Float32[np.ndarray, "draft horizon action_dim"] | None = None
    features: Mapping[str, Float32[np.ndarray, " _dim"]] | None = None

    @property
    def observation(self) -> Observation:
        return self.memory.present

    def start(self) -> Start:
        """To decide again: after `env.restore(decision.snapshot)`, `continue_rollout` runs on from it."""
        memory = self.memory.copy()
        memory.observations.pop()
        return Start(self.step, self.prediction_index, memory)


@dataclass(frozen=True)
class ControlStep:
    """One action was executed; `step` counts it."""

    step: int
    action: Float32[np.ndarray, " action_dim"]
    result: StepResult


def rollout(
    env: Env, policy: Policy, episode_index: int, n_action_steps: int, horizon: int, n_samples: int = 1
) -> Iterator[Decision | ControlStep]:
    """Reset, then decide and step until success or the horizon; yields after each decision and step.

    The caller drives it: nothing happens between two `next` calls, so a viewer can pause anywhere.

    Args:
        n_samples: plans at each decision, the executed one included. The others change nothing.

    Raises:
        PolicyOutputError: a plan that is not finite.
    """
    env.reset(episode_index)
    start = Start(step=0, prediction_index=0, memory=policy.reset())
    yield from continue_rollout(env, policy, start, episode_index, n_action_steps, horizon, n_samples)


def continue_rollout(
    env: Env,
    policy: Policy,
    start: Start,
    episode_index: int,
    n_action_steps: int,
    horizon: int,
    n_samples: int = 1,
    seed: int = 0,
) -> Iterator[Decision | ControlStep]:
    """Decide and step from there on, as `rollout` does; from a decision of one, exactly as it did.

    The environment and the policy must be as they were but for what is in the snapshot and the memory: a scripted
    expert, which follows the environment by itself, cannot be continued.

    Args:
        start: is left as it is.
        seed: another one draws other noise. Its first plan is made from the noise of the alternative of that number.
    """
    memory, prediction_index = start.memory.copy(), start.prediction_index
    queue = ChunkQueue(n_action_steps)
    for step in range(start.step, horizon):
        # A policy that looks back must see the steps just before it decides; the others need not be rendered.
        if len(queue) < policy.spec.n_obs_steps:
            memory.observations.append(env.observe())
        if not queue:
            decision = _decide(env, policy, memory, step, (episode_index, prediction_index, seed), n_samples)
            queue.fill(decision.plan)
            yield decision
            prediction_index += 1
        action = queue.pop()
        result = env.step(action)
        yield ControlStep(step + 1, action, result)
        if result.success:
            return


def _decide(
    env: Env, policy: Policy, memory: EpisodeMemory, step: int, key: tuple[int, int, int], n_samples: int
) -> Decision:
    """Args:
    key: (episode index, prediction index, seed), which the noise is drawn from.
    """
    asked = memory.copy()
    chunk = policy.predict([memory], [_make_rng(env, key, 0)])
    plan, drafts = chunk[0], None if chunk.drafts is None else chunk.drafts[0]
    if not np.isfinite(plan).all():
        raise PolicyOutputError(f"policy {policy.spec.type!r} planned a NaN or infinite action at step {step}")
    alternatives = None
    if n_samples > 1:
        sampled = policy.sample(asked, [_make_rng(env, key, k) for k in range(n_samples)]).actions
        # The first is that plan, computed once more: on some GPUs not to the last bit.
        alternatives = np.concatenate([plan[None], sampled[1:]])
    features = None if chunk.features is None else {name: rows[0] for name, rows in chunk.features.items()}
    return Decision(
        step, key[1], asked, require(env, Snapshots, "a rollout").snapshot(), plan, alternatives, drafts, features
    )


def _make_rng(env: Env, key: tuple[int, int, int], sample_index: int) -> np.random.Generator:
    """A new one each time. What is 0 is left out, so that neither samples nor branches change a recorded plan."""
    episode_index, prediction_index, seed = key
    more = [index for index in (sample_index, seed) if index]
    return episode_rng(env.spec.task, episode_index, prediction_index, *more)


def run_episode(
    env: Env,
    policy: Policy,
    episode_index: int,
    recorder: EpisodeRecorder,
    n_action_steps: int,
    horizon: int,
    n_samples: int = 1,
) -> EpisodeRecord:
    """Roll one episode out and return its record; a crash on the way becomes the record's `error`."""
    recorder.start(env, episode_index)
    try:
        for event in rollout(env, policy, episode_index, n_action_steps, horizon, n_samples):
            match event:
                case Decision(step, _, memory, snapshot, plan, alternatives, drafts, features):
                    recorder.record_decision(step, snapshot, plan, alternatives, drafts, features)
                    recorder.record_looks(step, memory)
                case ControlStep(_, action, result):
                    recorder.record_step(action, result)
    except Exception as error:
        recorder.record_error(error)
    return recorder.finish()


class PolicyOutputError(RuntimeError):
    """The policy returned something that cannot be executed."""
