"""Policies of a user's own that end their process, for tests of workers."""

import os
import signal
from pathlib import Path

from policies.simple_policy import SimplePolicy


class Deadly(SimplePolicy):
    """A policy that holds still, and kills its process whenever it plans."""

    def plan(self, observation, rng):
        os.kill(os.getpid(), signal.SIGKILL)


class DeadlyOnce(SimplePolicy):
    """A policy that kills the first process in which it plans.

    The checkpoint is a file that says whether this has happened. It is named by a signal's number.
    """

    def __init__(self, env, mark):
        super().__init__("deadly_once", env)
        self._mark = Path(mark)

    def plan(self, observation, rng):
        if not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), int(self._mark.name))
        return observation.state[None, :6]


def make_deadly(env, **_):
    return Deadly("deadly", env)


def make_deadly_once(env, checkpoint, **_):
    return DeadlyOnce(env, checkpoint)
