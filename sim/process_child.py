"""The parent's handle of a child process: starts it, asks with a time limit, and ends it."""

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

# Time in which a child may close its GL contexts and end before it is killed.
CLOSE_LIMIT_S = 5.0
# The output of a child is kept to explain its death. The limit keeps long runs from filling the
# disk.
MAX_LOG_BYTES = 1 << 20
N_LAST_LINES = 30
MAX_LINE_LENGTH = 200
TAIL_BYTES = 1 << 16

# multiprocessing's spawn would run the caller's script again and print the child's first output to
# the terminal. `python -m` would not find the same modules in the same places.
_PROGRAM = (
    "import sys; fds = map(int, sys.argv[1:4]); sys.path[{}:] = sys.argv[4:]; "
    "from sim.process_server import main; main(*fds)"
)


class ChildEndedError(Exception):
    """A child ended, or was killed because it did not answer.

    Attributes:
        how: predicate, e.g. "died in step: signal SIGABRT".
        last_output: a sentence with its last output; "" if there was none.
        was_late: it did not answer in time, and was killed.
    """

    def __init__(
        self,
        how: str,
        last_output: str,
        *,
        was_late: bool,
    ) -> None:
        self.how = how
        self.last_output = last_output
        self.was_late = was_late
        super().__init__(f"{how}. {last_output}".rstrip())


class Child:
    """A process that runs `sim.process_server.main`.

    The shared memory, the log and the pipes have no name in any file system. They disappear with
    the last process that has them open, even if processes are killed.
    """

    def __init__(self, python: str | None) -> None:
        """Args:
        python: executable that runs it. It finds its own packages first, then this package and the
            modules in the current directory. None: the executable of this process, with the same
            module search path.
        """
        first_place = ""
        places = sys.path
        if python is not None:
            first_place = "len(sys.path)"
            places = [str(Path(__file__).parents[1]), str(Path.cwd())]
        self._owner_pid = os.getpid()
        self._files = contextlib.ExitStack()
        self._log = self._files.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)
        # A file without a name, in memory if the system supports that. /dev/shm is not used: it is
        # small in containers, and writing past its end kills the process.
        if hasattr(os, "memfd_create"):
            memory: IO[bytes] = os.fdopen(os.memfd_create("whisker-images"), "w+b")
        else:
            memory = tempfile.TemporaryFile()  # noqa: SIM115
        self._images_file = self._files.enter_context(memory)
        ours, childs_connection = Pipe()
        self._connection = self._files.enter_context(ours)
        childs_lifeline, lifeline = os.pipe()
        # Only this process holds this end open, and nothing is ever written to it
        # (`sim.process_server.die_with_parent`).
        self._files.enter_context(os.fdopen(lifeline, "wb"))
        fds = (childs_connection.fileno(), childs_lifeline, self.images_fd)
        try:
            self._popen = subprocess.Popen(
                [
                    python or sys.executable,
                    "-u",
                    "-c",
                    _PROGRAM.format(first_place),
                    *map(str, fds),
                    *places,
                ],
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
        """Return the file descriptor of the shared memory. The child sets its size."""
        return self._images_file.fileno()

    def exchange(
        self,
        method: str,
        arguments: tuple[Any, ...],
        limit_s: float,
    ) -> Any:
        """Send a request, and wait for the answer.

        Raises:
            ChildEndedError: there was no answer, and the child has ended.
        """
        was_late = False
        try:
            self._connection.send_bytes(pickle.dumps((method, arguments), pickle.HIGHEST_PROTOCOL))
            if self._connection.poll(limit_s):
                return pickle.loads(self._connection.recv_bytes())  # noqa: S301  from our own child
            # The child prints to the log where it hangs.
            self._popen.send_signal(signal.SIGUSR1)
            time.sleep(0.3)
            was_late = True
            how = f"gave no answer to {method} within {limit_s:g} s and was killed"
        except (EOFError, ConnectionError):
            how = f"died in {method}: {self._cause_of_death()}"
        ended = ChildEndedError(how, self._last_output(), was_late=was_late)
        self.kill()
        raise ended

    def trim_log(self) -> None:
        if os.fstat(self._log.fileno()).st_size > MAX_LOG_BYTES:
            os.ftruncate(self._log.fileno(), 0)

    def close(self) -> None:
        """Ask the child to close its environment and end; kill it if it does not."""
        if os.getpid() != self._owner_pid:
            return  # This is a fork of the parent, and the parent still needs the child.
        with contextlib.suppress(ChildEndedError, subprocess.TimeoutExpired):
            self.exchange("close", (), CLOSE_LIMIT_S)
            self._popen.wait(CLOSE_LIMIT_S)
        self.kill()

    def kill(self) -> None:
        self._popen.kill()
        # A killed process remains while it is in an uninterruptible system call.
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
        if returncode != -signal.SIGKILL:
            return f"signal {signal.Signals(-returncode).name}"
        return (
            "signal SIGKILL, most likely because memory ran out: free some, or run fewer "
            "environments at once"
        )

    def _last_output(self) -> str:
        log = self._log.fileno()
        n_bytes = os.fstat(log).st_size
        tail = os.pread(log, TAIL_BYTES, max(0, n_bytes - TAIL_BYTES)).decode(errors="replace")
        # faulthandler adds a list of all imports.
        lines = [
            line[:MAX_LINE_LENGTH]
            for line in tail.splitlines()
            if line.strip() and not line.startswith("Extension modules:")
        ]
        return "\n".join(["Its last output:", *lines[-N_LAST_LINES:]]) if lines else ""
