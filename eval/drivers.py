"""Drives rollouts, one episode at a time, by answering their requests for plans."""

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from eval.declared_series import POLICY_LATENCY
from eval.episode_arrays import EpisodeRecord
from eval.recorder import EpisodeRecorder
from eval.rollout import (
    ControlStep,
    Decision,
    Request,
    RolloutSettings,
    RolloutState,
    rollout,
)
from policies.action_chunk import ActionChunk
from policies.policy import Policy
from sim.env import Env
from sim.process import EnvProcessEndedError


def run_episode(
    env: Env,
    policy: Policy,
    episode_index: int,
    recorder: EpisodeRecorder,
    settings: RolloutSettings,
) -> EpisodeRecord:
    """Roll one episode out and return its record. A crash becomes the record's `error`.

    If the environment has a process of its own and that ends, the episode is begun again, once: the
    machine may have killed it. The result does not change by that.
    """
    for may_begin_again in (True, False):
        recorder.start(env, episode_index)
        try:
            for event in play_episode(env, policy, episode_index, settings):
                recorder.record(event)
        except EnvProcessEndedError as error:
            if may_begin_again:
                continue
            recorder.record_error(error)
        except Exception as error:
            recorder.record_error(error)
        break
    return recorder.finish()


def play_episode(
    env: Env,
    policy: Policy,
    episode_index: int,
    settings: RolloutSettings,
) -> Iterator[Decision | ControlStep]:
    """Reset, then decide and step until success or the last step.

    Yields each decision and control step. Nothing happens between two `next` calls, so a viewer can
    pause anywhere.

    Raises:
        PolicyOutputError: a plan is not finite.
    """
    env.reset(episode_index)
    # The policy is reset after the environment, which a scripted expert reads when it is reset.
    start = RolloutState(
        step=0,
        prediction_index=0,
        memory=policy.reset(),
    )
    yield from continue_episode(env, policy, start, episode_index, settings)


def continue_episode(
    env: Env,
    policy: Policy,
    start: RolloutState,
    episode_index: int,
    settings: RolloutSettings,
) -> Iterator[Decision | ControlStep]:
    """Decide and step from `start` on, in an environment in that state, as `play_episode` does."""
    events = rollout(env, policy.spec, start, episode_index, settings)
    answer: ActionChunk | None = None
    while True:
        try:
            event = events.send(answer)
        except StopIteration:
            return
        if isinstance(event, Request):
            answer = plan(policy, event)
        else:
            answer = None
            yield event


def plan(policy: Policy, request: Request) -> ActionChunk:
    """Return the answer to one request, with as many plans as it has generators."""
    own_rng, *other_rngs = request.rngs
    asked = request.memory.copy() if other_rngs else None
    begin_s = time.perf_counter()
    chunk = policy.predict([request.memory], [own_rng])
    latency_ms = 1000 * (time.perf_counter() - begin_s)
    signals = {**chunk.signals, POLICY_LATENCY: np.array([latency_ms])}
    chunk = replace(chunk, signals=signals)
    if asked is None:
        return chunk
    return replace(chunk, alternatives=policy.sample(asked, other_rngs).actions[None])
