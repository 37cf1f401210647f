"""The rollout: one episode of a policy in an environment."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from eval.recorder import EpisodeRecord, EpisodeRecorder
from policies.action_chunk import ChunkQueue
from policies.policy import Policy
from sim.env import Env, StepResult, episode_rng
from sim.observation import Observation


@dataclass(frozen=True)
class Decision:
    """The policy looked at the world and planned.

    Attributes:
        step: control steps executed so far.
        snapshot: the environment's full state in which it looked.
        plan: `(horizon, action_dim)`, of which the first `n_action_steps` will be executed.
    """

    step: int
    observation: Observation
    snapshot: Float64[np.ndarray, " snapshot_dim"]
    plan: Float32[np.ndarray, "horizon action_dim"]


@dataclass(frozen=True)
class ControlStep:
    """One action was executed; `step` counts it."""

    step: int
    action: Float32[np.ndarray, " action_dim"]
    result: StepResult


def rollout(
    env: Env, policy: Policy, episode_index: int, n_action_steps: int, horizon: int
) -> Iterator[Decision | ControlStep]:
    """Reset, then decide and step until success or the horizon; yields after each decision and step.

    The caller drives it: nothing happens between two `next` calls, so a viewer can pause anywhere.

    Raises:
        PolicyOutputError: a plan that is not finite.
    """
    env.reset(episode_index)
    memory = policy.reset()
    queue = ChunkQueue(n_action_steps)
    n_predictions = 0
    for step in range(horizon):
        # A policy that looks back must see the steps just before it decides; the others need not be rendered.
        if len(queue) < policy.spec.n_obs_steps:
            memory.observations.append(env.observe())
        if not queue:
            rng = episode_rng(env.spec.task, episode_index, n_predictions)
            plan = policy.predict([memory], [rng])[0]
            n_predictions += 1
            if not np.isfinite(plan).all():
                raise PolicyOutputError(f"policy {policy.spec.type!r} planned a NaN or infinite action at step {step}")
            queue.fill(plan)
            yield Decision(step, memory.present, env.snapshot(), plan)
        action = queue.pop()
        result = env.step(action)
        yield ControlStep(step + 1, action, result)
        if result.success:
            return


def run_episode(
    env: Env, policy: Policy, episode_index: int, recorder: EpisodeRecorder, n_action_steps: int, horizon: int
) -> EpisodeRecord:
    """Roll one episode out and return its record; a crash on the way becomes the record's `error`."""
    recorder.start(env, episode_index)
    try:
        for event in rollout(env, policy, episode_index, n_action_steps, horizon):
            match event:
                case Decision(step, _, snapshot, plan):
                    recorder.record_decision(step, snapshot, plan)
                case ControlStep(_, action, result):
                    recorder.record_step(action, result)
    except Exception as error:
        recorder.record_error(error)
    return recorder.finish()


class PolicyOutputError(RuntimeError):
    """The policy returned something that cannot be executed."""
