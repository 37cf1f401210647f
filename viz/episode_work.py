"""Divides work on the recorded episodes of a run among processes."""

from collections.abc import Callable, Iterable
from itertools import batched, groupby
from typing import Literal, Protocol, runtime_checkable

from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.errors import WhiskerError
from sim.registry import family_of
from sim.worker_count import SIMULATOR_GB, choose_n_workers

# Modules that take long to import.
MODULES = ("viz.episode_film", "sim.model_env")

# Episodes of one task, in their order.
type Block = tuple[EpisodeRow, ...]


@runtime_checkable
class Closable(Protocol):
    """Something that is closed once."""

    def close(self) -> None: ...


class OpenedTask[Opened: Closable]:
    """Keeps what is opened for one task until the turn of another one.

    An environment of LIBERO takes seconds to open, and 2 GB.
    """

    def __init__(self, open_task: Callable[[str], Opened]) -> None:
        self._open_task = open_task
        self._opened: tuple[str, Opened] | None = None

    def get(self, task: str) -> Opened:
        """Return what is opened for a task."""
        if self._opened is None or self._opened[0] != task:
            self.close()
            self._opened = task, self._open_task(task)
        return self._opened[1]

    def close(self) -> None:
        """Close what is open; a second call does nothing."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].close()


def cut_blocks(rows: Iterable[EpisodeRow], size: int) -> list[Block]:
    """Return the rows in blocks of at most so many, each of one task, in their order."""
    blocks: list[Block] = []
    for _, rows_of_task in groupby(rows, key=lambda row: row.task):
        blocks += batched(rows_of_task, size)
    return blocks


def count_viz_workers(
    run: Run,
    asked: int | Literal["auto"],
    n_jobs: int,
    jobs_a_worker: int,
) -> int:
    """Return how many processes work on the episodes of a run; see `choose_n_workers`."""
    env_gb = max(map(_find_memory_gb, run.description.tasks.values()), default=0.0)
    n_workers = choose_n_workers(asked, n_jobs, env_gb + SIMULATOR_GB, jobs_a_worker)
    if n_workers > 1:
        run.warn_of_other_physics()
    return n_workers


def _find_memory_gb(env_name: str) -> float:
    """Return the memory of an environment, 10⁹ bytes; 0 if nobody knows it here."""
    try:
        return family_of(env_name).memory_gb(renders=True)
    except WhiskerError:
        return 0.0
