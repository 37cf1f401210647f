"""Policies of a user's own that end their process, for tests of workers.

They do so in workers alone: the command itself plans once before it starts any.
"""

import os
import signal
import sys
from multiprocessing import parent_process
from pathlib import Path

from policies.simple_policy import SimplePolicy


def is_worker():
    """Return whether this process is a worker, of the command's own or of Ray's."""
    return parent_process() is not None or "ray" in sys.modules


class Deadly(SimplePolicy):
    """A policy that kills its process whenever it plans."""

    def plan(self, observation, rng):
        if is_worker():
            os.kill(os.getpid(), signal.SIGKILL)
        return observation.state[None, :6]


class DeadlyOnce(SimplePolicy):
    """A policy that kills the first worker in which it plans, and holds still in the others.

    The checkpoint is a file that says whether this has happened. It is named by a signal's number.
    """

    def __init__(self, env, mark):
        super().__init__("deadly_once", env)
        self._mark = Path(mark)

    def plan(self, observation, rng):
        if is_worker() and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), int(self._mark.name))
        return observation.state[None, :6]


def make_deadly(env, **_):
    return Deadly("deadly", env)


def make_deadly_once(env, checkpoint, **_):
    return DeadlyOnce(env, checkpoint)
