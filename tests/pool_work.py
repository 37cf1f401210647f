"""Work for tests of workers: it computes, raises errors, and ends its process."""

import os
import signal
from pathlib import Path

from sim.errors import WhiskerError


class Squares:
    """Returns the square of a number and the process that computed it.

    It obeys words. A path is a job that kills the first process which is given it.
    """

    def run(self, job):
        if job == "refuse":
            raise WhiskerError("a job", expected="a number", got=job)
        if job == "fail":
            raise ValueError("no such number")
        if job == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(job, Path):
            if not job.exists():
                job.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            job = 7
        return job**2, os.getpid()

    def close(self):
        pass


def refuse_to_begin():
    raise WhiskerError("work", expected="something else")
