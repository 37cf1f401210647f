"""A child process as its parent holds it: started, asked with a time limit, and ended."""

import contextlib
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import IO, Any

# How long a child may take to close its GL contexts and end before it is killed.
CLOSE_LIMIT_S = 5.0
# What a child writes is for the day on which it dies; a long run must not fill the disk with it.
MAX_LOG_BYTES = 1 << 20
N_LAST_LINES = 30
MAX_LINE_LENGTH = 200
TAIL_BYTES = 1 << 16

# Not multiprocessing's spawn, which runs the caller's script once more and lets the child's first
# words through to the terminal. Not `python -m`: the child must find the same modules in the same
# places.
_PROGRAM = (
    "import sys; fds = map(int, sys.argv[1:4]); sys.path[{}:] = sys.argv[4:]; "
    "from sim.process_server import main; main(*fds)"
)


class ChildEndedError(Exception):
    """A child ended, or was killed because it did not answer.

    Attributes:
        how: predicate, e.g. "died in step: signal SIGABRT".
        last_words: what it wrote last, as a sentence; empty when it wrote nothing.
    """

    def __init__(self, how: str, last_words: str) -> None:
        self.how = how
        self.last_words = last_words
        super().__init__(f"{how}. {last_words}".rstrip())


class Child:
    """A process that runs `sim.process_server.main`.

    Nothing here has a name in any file system: the shared memory, the log and the pipes are gone
    with the last process that has them open, whoever is killed.
    """

    def __init__(self, python: str | None = None) -> None:
        """Args:
        python: executable that runs it, which finds its own packages first, then this one and what
        is in the current
            directory. None: that of this process, with all the places in which this process finds
            modules.
        """
        if python is None:
            program = _PROGRAM.format("")
            places = sys.path
        else:
            program = _PROGRAM.format("len(sys.path)")
            places = [str(Path(__file__).parents[1]), str(Path.cwd())]
        self._owner_pid = os.getpid()
        self._files = contextlib.ExitStack()
        self._log = self._files.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)
        self._images_file = self._files.enter_context(_open_memory())
        ours, childs_connection = Pipe()
        self._connection = self._files.enter_context(ours)
        childs_lifeline, lifeline = os.pipe()
        # Held open by this process alone, and never written to; see
        # `sim.process_server.die_with_parent`.
        self._files.enter_context(os.fdopen(lifeline, "wb"))
        fds = (childs_connection.fileno(), childs_lifeline, self.images_fd)
        try:
            self._popen = subprocess.Popen(
                [python or sys.executable, "-u", "-c", program, *map(str, fds), *places],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=fds,
            )
        finally:
            childs_connection.close()
            os.close(childs_lifeline)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def images_fd(self) -> int:
        """The shared memory; the child sets its size."""
        return self._images_file.fileno()

    def exchange(
        self,
        method: str,
        arguments: tuple[Any, ...],
        limit_s: float,
    ) -> Any:
        """Ask, and wait for the answer.

        Raises:
            ChildEndedError: there will be none, and the child is no more.
        """
        try:
            self._connection.send_bytes(pickle.dumps((method, arguments), pickle.HIGHEST_PROTOCOL))
            if self._connection.poll(limit_s):
                return pickle.loads(self._connection.recv_bytes())  # noqa: S301  from our own child
            # Has it write to the log where it hangs.
            self._popen.send_signal(signal.SIGUSR1)
            time.sleep(0.3)
            how = f"gave no answer to {method} within {limit_s:g} s and was killed"
        except (EOFError, ConnectionError):
            how = f"died in {method}: {self._cause_of_death()}"
        ended = ChildEndedError(how, self._last_words())
        self.kill()
        raise ended

    def trim_log(self) -> None:
        if os.fstat(self._log.fileno()).st_size > MAX_LOG_BYTES:
            os.ftruncate(self._log.fileno(), 0)

    def close(self) -> None:
        """Let it close its environment and end; kill it if it does not."""
        if os.getpid() != self._owner_pid:
            return  # in a fork of the parent, whose end is not the parent's
        with contextlib.suppress(ChildEndedError, subprocess.TimeoutExpired):
            self.exchange("close", (), CLOSE_LIMIT_S)
            self._popen.wait(CLOSE_LIMIT_S)
        self.kill()

    def kill(self) -> None:
        self._popen.kill()
        # A process in a system call that cannot be interrupted stays even when killed.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(CLOSE_LIMIT_S)
        self._files.close()

    def _cause_of_death(self) -> str:
        try:
            returncode = self._popen.wait(CLOSE_LIMIT_S)
        except subprocess.TimeoutExpired:
            return "it closed its pipe"
        if returncode >= 0:
            return f"exit code {returncode}"
        name = signal.Signals(-returncode).name
        memory = (
            ", most likely because memory ran out: free some, or run fewer environments at once"
        )
        return f"signal {name}{memory if name == 'SIGKILL' else ''}"

    def _last_words(self) -> str:
        n_bytes = os.fstat(self._log.fileno()).st_size
        tail = os.pread(
            self._log.fileno(),
            TAIL_BYTES,
            max(0, n_bytes - TAIL_BYTES),
        ).decode(errors="replace")
        # faulthandler ends with a list of everything that was imported.
        lines = [
            line
            for line in tail.splitlines()
            if line.strip() and not line.startswith("Extension modules:")
        ]
        last = [line[:MAX_LINE_LENGTH] for line in lines[-N_LAST_LINES:]]
        return "\n".join(["It wrote last:", *last]) if last else ""


def _open_memory() -> IO[bytes]:
    """A file without a name, in memory where the system has such.

    Not in /dev/shm: that is small in containers, and writing past its end kills.
    """
    memfd_create = getattr(os, "memfd_create", None)
    return (
        os.fdopen(memfd_create("whisker-images"), "w+b")
        if memfd_create
        else tempfile.TemporaryFile()
    )
