"""Decides how many workers run at once."""

import os
import warnings
from typing import Literal

from sim.errors import WhiskerError, WhiskerWarning
from sim.memory import compute_available_gb

# Memory of a worker besides its environment: Python and the simulator.
SIMULATOR_GB = 0.3


def choose_n_workers(
    asked: int | Literal["auto"],
    n_jobs: int,
    each_gb: float,
    jobs_a_worker: int = 1,
) -> int:
    """Return how many processes do some jobs; 1: this one does.

    It warns if the memory holds fewer than are asked for.

    Args:
        asked: the value of --workers.
        each_gb: memory of one worker, 10⁹ bytes.
        jobs_a_worker: jobs for which "auto" starts a worker. Fewer take less time than its start.

    Raises:
        WhiskerError: fewer than one are asked for.
    """
    if asked == "auto":
        wanted = min(count_cores(), n_jobs // jobs_a_worker)
    else:
        check_n_workers(asked)
        wanted = min(asked, n_jobs)
    available_gb = compute_available_gb()
    if wanted <= 1 or available_gb is None or wanted * each_gb <= available_gb:
        return max(1, wanted)
    n_workers = max(1, int(available_gb / each_gb))
    if asked != "auto":
        message = (
            f"--workers {asked}: only {n_workers} are started, because each takes {each_gb:.1f} GB "
            f"and {available_gb:.1f} GB are free."
        )
        warnings.warn(message, WhiskerWarning, stacklevel=2)
    return n_workers


def check_n_workers(asked: int | Literal["auto"]) -> None:
    """Raise if a number of workers is not one."""
    if asked != "auto" and asked < 1:
        raise WhiskerError("--workers", expected="at least 1", got=str(asked))


def count_cores() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
