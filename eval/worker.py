"""Runs the episodes that another process asks for, in an environment and a policy of its own."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from eval.config import EvalConfig
from eval.episode_arrays import EpisodeRecord
from eval.episode_row import make_row
from eval.episode_runner import FinishedEpisode, LocalRunner
from eval.evaluation import Setup, set_up
from eval.schedule import Episode
from sim.flags import replace_flags


@dataclass(frozen=True)
class Assignment:
    """Says what a worker works on.

    Attributes:
        tasks: task → the name of its environment.
        run: folder of the run, which a message names.
    """

    config: EvalConfig
    tasks: Mapping[str, str]
    run: Path


class Worker:
    """`sim.worker_process.Work`: runs episodes. It sets policy and environment up at the first."""

    def __init__(
        self,
        assignment: Assignment,
        check: Callable[[EvalConfig, Setup], None] = lambda config, setup: None,
    ) -> None:
        """Args:
        check: raises if the episodes must not run on what was set up here.
        """
        self._assignment = assignment
        self._check = check
        self._runner: LocalRunner | None = None

    def run(self, episode: Episode) -> FinishedEpisode:
        """Run an episode to its end.

        Raises:
            WhiskerError: it could not begin.
        """
        task, episode_index = episode
        if self._runner is None:
            self._runner = self._make_runner(task)
        return _without_trajectory(self._runner.run(task, episode_index))

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()

    def _make_runner(self, task: str) -> LocalRunner:
        """Return a runner whose environment is that of the first episode that it is asked for."""
        assignment = self._assignment
        config = replace_flags(assignment.config, env=assignment.tasks[task])
        setup = replace(set_up(config), tasks=assignment.tasks)
        with ExitStack() as opened:
            opened.enter_context(closing(setup.env))
            self._check(config, setup)
            opened.pop_all()
        return LocalRunner(config, setup, assignment.run)


def make_error(task: str, episode_index: int, error: str) -> FinishedEpisode:
    """Return an episode that no worker could run.

    Args:
        error: the kind of error and what happened, as in "WorkerError: the worker died".
    """
    record = EpisodeRecord(
        task=task,
        episode_index=episode_index,
        success=False,
        error=error,
        duration_s=0.0,
        arrays=None,
    )
    return FinishedEpisode(record, make_row(record))


def _without_trajectory(finished: FinishedEpisode) -> FinishedEpisode:
    """Leave out what the row was made from. A user's kind of goal may not be known elsewhere."""
    return finished._replace(record=replace(finished.record, trajectory=None))
