"""Does jobs one after another in this process, or several at once in processes of their own."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from queue import SimpleQueue

from sim.worker_process import Work, WorkerProcess, prepare_processes

# Jobs for each worker that are begun, or done and not taken yet. Results may be large.
_N_AHEAD = 2


def run_jobs[Job, Result](
    make_work: Callable[[], Work[Job, Result]],
    jobs: Iterable[Job],
    n_workers: int,
    modules: Sequence[str] = (),
) -> Generator[tuple[Job, Result]]:
    """Yield each job with its result, in the order of the jobs.

    Jobs are taken from the iterable as they are needed. Nothing is left running at the end, or when
    this is closed.

    Args:
        make_work: makes the work in the process that does it. For several workers, it is an
            importable class or function, or a partial of one.
        n_workers: number of processes; 1: this one.
        modules: as for `prepare_processes`.

    Raises:
        WhiskerError: the work raised it, or a job ended two processes.
    """
    if n_workers == 1:
        with closing(make_work()) as work:
            for job in jobs:
                yield job, work.run(job)
        return
    prepare_processes(modules)
    # Workers are closed first, which ends the calls that the threads wait for.
    with ThreadPoolExecutor(n_workers) as threads, ExitStack() as opened:
        idle: SimpleQueue[WorkerProcess[Job, Result]] = SimpleQueue()
        for _ in range(n_workers):
            idle.put(opened.enter_context(closing(WorkerProcess(make_work))))

        def run(job: Job) -> Result:
            worker = idle.get()
            try:
                return worker.run(job)
            finally:
                idle.put(worker)

        begun: deque[tuple[Job, Future[Result]]] = deque()
        for job in jobs:
            begun.append((job, threads.submit(run, job)))
            if len(begun) == _N_AHEAD * n_workers:
                first, result = begun.popleft()
                yield first, result.result()
        for job, result in begun:
            yield job, result.result()
