"""Runs episodes in a process of its own, which has an environment and a policy."""

from functools import partial

from eval.config import EvalConfig
from eval.episode_runner import FinishedEpisode
from eval.schedule import Episode
from eval.worker import Assignment, Worker, make_error
from policies.loading import find_loader
from sim.registry import family_of
from sim.worker_process import WorkerDiedError, WorkerProcess, prepare_processes


class EpisodeProcess:
    """`eval.episode_runner.EpisodeRunner` in a process of its own, which is replaced if it dies."""

    def __init__(self, assignment: Assignment) -> None:
        self._process: WorkerProcess[Episode, FinishedEpisode] = WorkerProcess(
            partial(Worker, assignment)
        )

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def run(self, task: str, episode_index: int) -> FinishedEpisode:
        """Run an episode to its end, in a second process if the first one dies.

        Raises:
            WhiskerError: the task cannot be begun.
            WorkerError: the process raised another error outside the episode.
        """
        try:
            return self._process.run((task, episode_index))
        except WorkerDiedError as error:
            return make_error(task, episode_index, f"WorkerError: {error.how}")

    def leave(self) -> None:
        self.close()

    def close(self) -> None:
        """End the process at once; a second call does nothing."""
        self._process.close()


def prepare_workers(config: EvalConfig) -> None:
    """Start the process that workers are forked from, which imports their libraries meanwhile."""
    modules = [__name__]
    if config.policy.name is not None and find_loader(config.policy.name).made_from == "files":
        modules.append("eval.worker_libraries")
    if not family_of(config.env.name).in_own_process:
        modules.append("sim.model_env")
    prepare_processes(modules)
