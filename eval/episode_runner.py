"""Runs episodes of an evaluation in this process."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from eval.config import EvalConfig
from eval.drivers import run_episode
from eval.episode_arrays import EpisodeRecord
from eval.episode_row import EpisodeRow, make_row
from eval.evaluation import Setup, check_episodes, follow_task, observed_sizes, resolve_max_steps
from eval.preflight import check_alike, check_fit
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from sim.errors import WhiskerError
from sim.registry import make_env


class FinishedEpisode(NamedTuple):
    """An episode that has ended, and its row."""

    record: EpisodeRecord
    row: EpisodeRow


@runtime_checkable
class EpisodeRunner(Protocol):
    """Runs one episode at a time, in this process or elsewhere."""

    def run(self, task: str, episode_index: int) -> FinishedEpisode:
        """Run an episode to its end. A crash becomes its outcome.

        Raises:
            WhiskerError: the task cannot be begun.
        """

    def leave(self) -> None:
        """Give back what other runners may need, since no episode is left for this one."""

    def close(self) -> None:
        """Close what it has opened. Running an episode is not possible afterwards."""


class LocalRunner:
    """Runs episodes in this process, in one environment at a time.

    The environment of a task is closed before that of the next task is made, because one of LIBERO
    takes 2 GB.
    """

    def __init__(
        self,
        config: EvalConfig,
        setup: Setup,
        run: Path,
        *,
        in_own_process: bool = False,
    ) -> None:
        """Args:
        setup: has the environment of the first episode, or of another task.
        run: folder of the run, which a message names.
        in_own_process: make an environment with a process of its own, and leave that of the setup.
        """
        self._config = config
        self._setup = setup
        self._run = run
        self._in_own_process = in_own_process
        self._is_open = not in_own_process
        self._recorder = EpisodeRecorder(
            records_observations=config.recording.record_observations,
        )

    def run(self, task: str, episode_index: int) -> FinishedEpisode:
        if not self._is_open or task != self._setup.env.spec.task:
            self._change_task(task)
        now = self._setup
        settings = RolloutSettings(
            now.n_action_steps,
            now.max_steps,
            self._config.recording.samples,
            success=now.success,
        )
        policy = (now.feature_recorder or now).policy
        record = run_episode(now.env, policy, episode_index, self._recorder, settings)
        return FinishedEpisode(record, make_row(record))

    def leave(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the environment; a second call does nothing."""
        if self._is_open:
            self._setup.env.close()
            self._is_open = False

    def _change_task(self, task: str) -> None:
        """Go on with the same evaluation in a new environment of one of its tasks."""
        self.close()
        first = self._setup.env.spec
        env_name = self._setup.tasks[task]
        env_config = self._config.env
        env = None
        try:
            env = make_env(
                env_name,
                observed_sizes(first),
                env_config.control,
                env_config.init_grid,
                in_own_process=self._in_own_process,
            )
            assert env.spec.task == task
            check_alike(first, env.spec)
            check_fit(self._setup.policy.spec, env.spec)
            check_episodes(self._config, env.spec)
            policy = follow_task(self._config, self._setup, env)
        except Exception as error:
            if env is not None:
                env.close()
            raise WhiskerError(
                f"task {task!r} ({env_name})",
                expected="an environment that can follow the first",
                got=str(error),
                hint=f"Finished episodes stay in {str(self._run)!r}; --resume goes on from there.",
            ) from error
        self._setup = replace(
            self._setup,
            env=env,
            policy=policy,
            max_steps=resolve_max_steps(self._config.rollout, env.spec),
        )
        self._is_open = True
