"""Runs an environment in a process of its own."""

import pickle
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sim.arrays import Action, StateVector, Vector3
from sim.env import Env, Progress, StepResult
from sim.errors import WhiskerError
from sim.observation import Observation
from sim.process_child import Child, ChildEndedError
from sim.process_server import (
    READING_DTYPES,
    Answer,
    Readings,
    map_images,
    pickle_factory,
)
from sim.spec import EnvSpec


class EnvProcessError(RuntimeError):
    """The process crashed, hangs or is gone, or raised an error other than `WhiskerError`."""


class EnvProcessEndedError(EnvProcessError):
    """The process has ended, or was killed because it did not answer."""


class EnvProcess:
    """`sim.env.Env` that runs in a process of its own, with the same results bit for bit.

    The output of the process goes to a temporary file and is quoted if it dies. The process ends
    with this one, however this one ends. Only one caller may use it at a time; several of these may
    be driven from several threads.

    It has exactly the capabilities (`sim.capabilities`) of the environment in the process.

    After a crash every call raises `EnvProcessEndedError`, until `reset` starts a new process.
    """

    def __init__(
        self,
        make: Callable[[], Env],
        *,
        step_limit_s: float = 60.0,
        start_limit_s: float = 600.0,
        python: str | None = None,
    ) -> None:
        """Args:
        make: makes the environment in the process; an importable function, or a partial of one.
        step_limit_s: an unanswered call counts as a crash after this time.
        start_limit_s: the same limit for `make`.
        python: executable of the process. None: that of this process.

        Raises:
            WhiskerError: the process hung in `make`, or died there twice, or `make` raised a
                `WhiskerError`.
            EnvProcessError: `make` raised another error.
        """
        self._subject = f"environment {_describe_call(make)}"
        self._pickled_make = pickle_factory(make)
        self._step_limit_s = step_limit_s
        self._start_limit_s = start_limit_s
        self._python = python
        self._child: Child | None = None
        self._readings: Readings | None = None
        self._n_starts = 0
        self._is_closed = False
        try:
            self._start_again_if_it_dies()
        except ChildEndedError as end:
            raise WhiskerError(
                self._subject,
                expected="its process to create it",
                got=f"a process that {end.how}",
                hint=end.last_output,
            ) from None

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def pid(self) -> int | None:
        """Return the id of the process; None if there is none."""
        return self._child.pid if self._child else None

    def reset(self, episode_index: int) -> None:
        if self._child is None and not self._is_closed:
            try:
                self._start()
            except ChildEndedError as end:
                raise EnvProcessEndedError(f"{self._subject}: its new process {end}") from None
        if self._child is not None:
            self._child.trim_log()
        self._ask("reset", episode_index)

    def observe(self) -> Observation:
        state, instruction, tool_rotation = self._ask("observe")
        images = {name: image.copy() for name, image in self._images.items()}
        return Observation(images, state, instruction, tool_rotation)

    def step(self, action: Action) -> StepResult:
        return replace(self._ask("step", action), progress=self.progress())

    def state(self) -> StateVector:
        return self._read_array("state")

    def progress(self) -> tuple[Progress, ...]:
        return pickle.loads(self._read("progress"))  # noqa: S301  from our own child

    def ee_pos_world(self) -> Vector3:
        return self._read_array("ee_pos_world")

    def close(self) -> None:
        """End the process within seconds. No other call is possible afterwards.

        A second call does nothing.
        """
        self._is_closed = True
        if self._child is not None:
            self._child.close()
        self._forget_child("was closed")

    def _start_again_if_it_dies(self) -> None:
        """Start a process, and a second one if the first one is killed meanwhile."""
        try:
            self._start()
        except ChildEndedError as end:
            if end.was_late:
                raise
            self._start()

    def _start(self) -> None:
        """Start a process and make the environment in it.

        Raises:
            ChildEndedError: the process ended before that was done.
        """
        self._child = child = Child(self._python)
        # The finalizer also runs when the interpreter exits, before modules are torn down.
        self._finalizer = weakref.finalize(self, child.close)
        self._n_starts += 1
        try:
            self._spec, capability_methods = self._value_of(
                "make", child.exchange("make", (self._pickled_make,), self._start_limit_s)
            )
        except BaseException:
            child.kill()
            self._forget_child("could not be made")
            raise
        for name in capability_methods:
            setattr(self, name, partial(self._ask, name))
        if "snapshot" in capability_methods:
            self.snapshot = partial(self._read_array, "snapshot")
        if "make_expert" in capability_methods:
            self.make_expert = partial(RemoteExpert, self)
        self._images = map_images(child.images_fd, self._spec.cameras)
        self._subject = f"environment {self._spec.name!r}"

    def _ask(self, method: str, *arguments: Any) -> Any:
        if self._child is None:
            hint = "" if self._is_closed else " Reset it: that starts a new process."
            raise EnvProcessEndedError(f"{self._subject} is gone: it {self._end}.{hint}")
        try:
            answer = self._child.exchange(method, arguments, self._step_limit_s)
        except ChildEndedError as end:
            self._forget_child(end.how)
            raise EnvProcessEndedError(f"{self._subject}: its process {end}") from None
        except BaseException:
            # After e.g. Ctrl-C, the pending answer must not be mistaken for the next one.
            self._child.kill()
            self._forget_child(f"was interrupted in {method}")
            raise
        return self._value_of(method, answer)

    def _value_of(
        self,
        method: str,
        answer: Answer,
    ) -> Any:
        value, readings, raised = answer
        if raised is not None:
            self._readings = None
            if raised.whisker_error is not None:
                raise raised.whisker_error
            error = EnvProcessError(
                f"{self._subject}: {method} raised {raised.type_name}: {raised.message}"
            )
            error.add_note(f"In the environment's process:\n{raised.traceback}")
            raise error
        if readings is not None:
            self._readings = readings
        return value

    def _read_array(self, name: str) -> np.ndarray:
        """Return a new copy for every caller."""
        return np.frombuffer(self._read(name), READING_DTYPES[name]).copy()

    def _read(self, name: str) -> bytes:
        """Return a current reading, which the last answer contained."""
        if self._readings is None:
            self._ask("read")
        assert self._readings is not None
        return self._readings[name]

    def _forget_child(self, end: str) -> None:
        self._finalizer.detach()
        self._child = None
        self._readings = None
        self._end = end
        self._images = {}


class RemoteExpert:
    """The scripted expert in the environment's process. It is made again in a new process."""

    def __init__(
        self,
        env: EnvProcess,
        failure_mode: str | None = None,
    ) -> None:
        self._env = env
        self._failure_mode = failure_mode
        self._make()

    def reset(self) -> None:
        self._ask("reset")

    def action(self) -> Action:
        return self._ask("action")

    def _make(self) -> None:
        self._index = self._env._ask("make_expert", self._failure_mode)
        self._made_in_start = self._env._n_starts

    def _ask(self, method: str) -> Any:
        if self._made_in_start != self._env._n_starts:
            self._make()
        return self._env._ask("ask_expert", self._index, method)


def _describe_call(make: Callable[[], Env]) -> str:
    """Return the source form of a call of a factory."""
    named = getattr(make, "keywords", {}).items()
    arguments = [
        *map(repr, getattr(make, "args", ())),
        *(f"{name}={value!r}" for name, value in named),
    ]
    function = getattr(make, "func", make)
    return f"{getattr(function, '__name__', function)}({', '.join(arguments)})"
