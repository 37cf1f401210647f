"""Does jobs in a process of its own."""

import faulthandler
import signal
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any, Protocol

from sim.errors import WhiskerError, WhiskerWarning
from sim.process_server import die_with_parent

# Times that a job is begun, each time in a new process, before it is given up.
N_TRIES = 2
# Every worker is a fork of one process, which has imported what all of them need. That process has
# neither threads nor a context of OpenGL, which would not survive a fork.
_CONTEXT = get_context("forkserver")
_END_LIMIT_S = 5.0


class Work[Job, Result](Protocol):
    """Does one job after another, in this process or elsewhere."""

    def run(self, job: Job) -> Result: ...

    def close(self) -> None:
        """Close what it has opened. No job is possible afterwards."""


class WorkerError(RuntimeError):
    """A worker raised an error that nobody expected, or is closed."""


class WorkerDiedError(WhiskerError):
    """Every process that was given a job died of it.

    Attributes:
        how: what happened, as in "the worker died 2 times: exit code 1".
    """

    def __init__(self, how: str) -> None:
        self.how = f"the worker died {N_TRIES} times: {how}"
        super().__init__("a job of a worker", expected="its result", got=f"none: {self.how}")


class WorkerProcess[Job, Result]:
    """`Work` that is done in a process of its own. A process that dies is replaced by a new one.

    The process ends with this one, however this one ends.
    """

    def __init__(self, make_work: Callable[[], Work[Job, Result]]) -> None:
        """Start the process.

        Args:
            make_work: makes the work in the process, at the first job. It is an importable class or
                function, or a partial of one.
        """
        self._make_work = make_work
        self._is_closed = False
        self._starting = Lock()
        self._start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def run(self, job: Job) -> Result:
        """Do a job, in a second process if the first one dies.

        Raises:
            WhiskerError: the work raised it.
            WorkerDiedError: the second process died, too.
            WorkerError: the work raised another error, or this is closed.
        """
        how = ""
        for _ in range(N_TRIES):
            try:
                self._connection.send(job)
                answer = self._connection.recv()
            except (EOFError, OSError):
                how = self._describe_death()
                self._start()
                continue
            if isinstance(answer, Exception):
                raise answer
            return answer
        raise WorkerDiedError(how)

    def close(self) -> None:
        """End the process at once; a second call does nothing."""
        with self._starting:
            self._is_closed = True
            self._process.kill()
            self._process.join(_END_LIMIT_S)

    def _start(self) -> None:
        """Start a process, unless this is closed."""
        with self._starting:
            if self._is_closed:
                raise WorkerError("the worker is closed")
            self._connection, theirs = _CONTEXT.Pipe()
            lifeline, self._lifeline = _CONTEXT.Pipe(duplex=False)
            with theirs, lifeline:
                self._process = _CONTEXT.Process(
                    target=_serve,
                    args=(theirs, lifeline, self._make_work),
                    daemon=True,
                )
                self._process.start()

    def _describe_death(self) -> str:
        self._process.join(_END_LIMIT_S)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            return "it closed its pipe"
        if code >= 0:
            return f"exit code {code}"
        if code != -signal.SIGKILL:
            return f"signal {signal.Signals(-code).name}"
        return "signal SIGKILL, most likely because memory ran out: run fewer --workers"


def prepare_processes(modules: Sequence[str] = ()) -> None:
    """Start the process that workers are forked from, which imports their libraries meanwhile.

    It does nothing if there is one. A Ctrl-C in the terminal reaches neither that process nor the
    workers, which end with their parent.

    Args:
        modules: modules that take long to import, and start no threads.
    """
    _CONTEXT.set_forkserver_preload([__name__, *modules])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def catch_error[Result](call: Callable[[], Result]) -> Result | Exception:
    """Return what a call returns, or its error in a form that can travel to another process."""
    try:
        return call()
    except WhiskerError as error:
        return error
    except Exception as error:
        return WorkerError("".join(traceback.format_exception(error)))


def _serve(
    connection: Connection,
    lifeline: Connection,
    make_work: Callable[[], Work[Any, Any]],
) -> None:
    """Do the jobs that the connection asks for, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(lifeline.fileno())
    faulthandler.enable()
    # The parent has said it.
    warnings.simplefilter("ignore", WhiskerWarning)
    work = cache(make_work)

    def do(job: Any) -> Any:
        return work().run(job)

    with suppress(EOFError):
        while True:
            job = connection.recv()
            connection.send(catch_error(partial(do, job)))
