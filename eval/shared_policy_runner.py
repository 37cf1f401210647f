"""Runs episodes in environments with a process of their own each, by one policy in this process."""

import time
from dataclasses import replace
from pathlib import Path
from threading import Event

from eval.config import EvalConfig
from eval.episode_runner import FinishedEpisode, LocalRunner
from eval.evaluation import Setup
from policies.batched_forwards import BatchedForwards
from policies.batching_policy import BatchingPolicy
from sim.errors import WhiskerError

# Time in which the episodes that run may come to their next decision, which ends them.
_END_LIMIT_S = 3.0


class SharedPolicyRunner:
    """Runs episodes by a policy that other runners use at the same time.

    Only one thread uses its environment: the one that runs the episode, or else the one that closes
    this.
    """

    def __init__(
        self,
        config: EvalConfig,
        setup: Setup,
        run: Path,
        forwards: BatchedForwards,
    ) -> None:
        self._forwards = forwards
        self._policy = BatchingPolicy(forwards)
        setup = replace(setup, policy=self._policy, feature_recorder=None)
        self._runner = LocalRunner(config, setup, run, in_own_process=True)
        self._is_idle = Event()
        self._is_idle.set()

    def run(self, task: str, episode_index: int) -> FinishedEpisode:
        """Run an episode to its end. A crash becomes its outcome.

        Raises:
            WhiskerError: the task cannot be begun, or a batch does not fit the GPU.
            RuntimeError: this is closed.
        """
        self._is_idle.clear()
        try:
            with self._policy.episode(task, episode_index):
                finished = self._runner.run(task, episode_index)
            # Its row would be an error that says nothing about the policy, and so would all others.
            if self._forwards.is_too_large:
                raise self._refuse_batch()
            return finished
        finally:
            if self._forwards.closed_s is not None:
                self._runner.close()
            self._is_idle.set()

    def leave(self) -> None:
        """Close the environment. The others go on with the policy."""
        self._runner.close()

    def close(self) -> None:
        """End the policy of all runners, and close the environment; a second call does nothing.

        An environment that does not come to an end in time ends with this process.
        """
        self._forwards.close()
        assert self._forwards.closed_s is not None
        left_s = self._forwards.closed_s + _END_LIMIT_S - time.monotonic()
        if self._is_idle.wait(max(0.0, left_s)):
            self._runner.close()

    def _refuse_batch(self) -> WhiskerError:
        n_rows = self._forwards.n_rows
        hint = "Free memory of the GPU and --resume this run"
        if n_rows > 1:
            smaller = f"begin a new run with --batch {n_rows // 2}"
            hint = f"{hint}, or {smaller}: rows of another batch are not mixed"
        return WhiskerError(
            f"--batch {n_rows}",
            expected="a forward pass for which the GPU has memory",
            got="one that ran out of it",
            hint=f"{hint}.",
        )


def make_sharing_runners(
    config: EvalConfig,
    setup: Setup,
    run: Path,
    n_runners: int,
) -> list[SharedPolicyRunner]:
    """Return runners that share the policy of a setup. Closing one ends the policy of all."""
    policy = (setup.feature_recorder or setup).policy
    forwards = BatchedForwards(policy, config.batch)
    return [SharedPolicyRunner(config, setup, run, forwards) for _ in range(n_runners)]
