"""Runs episodes in a process of its own, which has an environment and a policy."""

import faulthandler
import signal
from contextlib import suppress
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from threading import Lock

from eval.config import EvalConfig
from eval.episode_runner import FinishedEpisode
from eval.worker import N_TRIES, Assignment, Worker, WorkerError, make_error
from policies.loading import find_loader
from sim.process_server import die_with_parent
from sim.registry import family_of

# Every worker is a fork of one process, which has imported what all of them need. That process has
# neither threads nor a context of OpenGL, which would not survive a fork.
_CONTEXT = get_context("forkserver")
_END_LIMIT_S = 5.0


class WorkerProcess:
    """Runs episodes in a process of its own. A process that dies is replaced by a new one.

    The process ends with this one, however this one ends.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._is_closed = False
        self._starting = Lock()
        self._start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def run(self, task: str, episode_index: int) -> FinishedEpisode:
        """Run an episode to its end, in a second process if the first one dies.

        Raises:
            WhiskerError: the task cannot be begun.
            WorkerError: the process raised another error outside the episode.
        """
        how = ""
        for _ in range(N_TRIES):
            try:
                self._connection.send((task, episode_index))
                answer = self._connection.recv()
            except (EOFError, OSError):
                how = self._describe_death()
                self._start()
                continue
            if isinstance(answer, Exception):
                raise answer
            return answer
        died = f"WorkerError: the worker died {N_TRIES} times: {how}"
        return make_error(task, episode_index, died)

    def leave(self) -> None:
        self.close()

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
                    args=(theirs, lifeline, self._assignment),
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


def prepare_workers(config: EvalConfig) -> None:
    """Start the process that workers are forked from, which imports their libraries meanwhile.

    It does nothing if there is one. A Ctrl-C in the terminal reaches neither that process nor the
    workers, which end with their parent.
    """
    _CONTEXT.set_forkserver_preload([__name__, *_list_libraries(config)])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _list_libraries(config: EvalConfig) -> list[str]:
    """Return the modules that take long to import, and start no threads."""
    modules = []
    if config.policy.name is not None and find_loader(config.policy.name).made_from == "files":
        modules.append("eval.worker_libraries")
    if not family_of(config.env.name).in_own_process:
        modules.append("sim.model_env")
    return modules


def _serve(
    connection: Connection,
    lifeline: Connection,
    assignment: Assignment,
) -> None:
    """Run the episodes that the connection asks for, until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(lifeline.fileno())
    faulthandler.enable()
    worker = Worker(assignment)
    with suppress(EOFError):
        while True:
            connection.send(worker.answer(*connection.recv()))
