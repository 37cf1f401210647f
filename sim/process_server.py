"""The child of `sim.process.EnvProcess`: makes one environment and answers for it.

One request is `(method, arguments)`, one answer `(value, moment, raised)`, pickled. Images do not
go that way but through memory that both processes map.
"""

import faulthandler
import fcntl
import mmap
import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import numpy as np
from jaxtyping import UInt8

from sim.capabilities import HasExpert, capability_methods_of, require
from sim.env import Env, Expert, Progress
from sim.errors import WhiskerError
from sim.spec import CameraSpec, EnvSpec

# What a caller reads after every step goes along with the answer to whatever changes it, as bytes
# of which every read makes an array of its own. Progress, the fourth, is pickled.
MOMENT_DTYPES = {
    "state": np.float32,
    "ee_pos_world": np.float64,
    "snapshot": np.float64,
}


@dataclass(frozen=True)
class Raised:
    """An exception on its way to the parent.

    Attributes:
        as_whisker_error: for an error that a person is meant to read its class, arguments and
            attributes: pickle alone would call the constructor with the finished message.
    """

    type_name: str
    message: str
    traceback: str
    as_whisker_error: tuple[type[WhiskerError], tuple[Any, ...], dict[str, Any]] | None

    @classmethod
    def of(cls, error: Exception) -> "Raised":
        whisker = (
            (type(error), error.args, vars(error)) if isinstance(error, WhiskerError) else None
        )
        return cls(
            type(error).__name__,
            str(error),
            "".join(traceback.format_exception(error)),
            whisker,
        )


Answer = tuple[Any, dict[str, bytes] | None, Raised | None]


class EnvServer:
    """Answers requests in the name of an environment."""

    def __init__(self, images_fd: int) -> None:
        self._images_fd = images_fd
        self._experts: list[Expert] = []

    def answer(
        self,
        method: str,
        arguments: tuple[Any, ...],
    ) -> bytes:
        """Do it; whatever it raises becomes the answer, and the next request is served."""
        try:
            answer: Answer = (*self._do(method, arguments), None)
            return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            return pickle.dumps((None, None, Raised.of(error)), pickle.HIGHEST_PROTOCOL)

    def _do(
        self,
        method: str,
        arguments: tuple[Any, ...],
    ) -> tuple[Any, dict[str, bytes] | None]:
        """The value, and the moment if that may have changed."""
        match method:
            case "step":
                result = self._env.step(*arguments)
                # The progress travels once: the parent puts it back.
                return replace(result, progress=()), self._look(result.progress)
            case "reset" | "restore" | "simulate_ee_path":
                return getattr(self._env, method)(*arguments), self._look(self._env.progress())
            case "look":
                return None, self._look(self._env.progress())
            case "observe":
                return self._observe(), None
            case "make":
                return self._make(*arguments), None
            case "make_expert":
                self._experts.append(
                    require(self._env, HasExpert, "an expert").make_expert(*arguments)
                )
                return len(self._experts) - 1, None
            case "ask_expert":
                expert_index, expert_method = arguments
                return getattr(self._experts[expert_index], expert_method)(), None
            case _:
                return getattr(self._env, method)(*arguments), None

    def _make(self, pickled_make: bytes) -> tuple[EnvSpec, tuple[str, ...]]:
        """Make the environment; return its spec, and which methods of `sim.capabilities` it has."""
        self._env: Env = unpickle_factory(pickled_make)()
        methods = tuple(capability_methods_of(self._env))
        self._moment_dtypes = {
            name: MOMENT_DTYPES[name] for name in MOMENT_DTYPES if hasattr(self._env, name)
        }
        spec = self._env.spec
        os.ftruncate(self._images_fd, n_image_bytes(spec.cameras))
        self._images = map_images(self._images_fd, spec.cameras)
        return spec, methods

    def _observe(self) -> tuple[np.ndarray, str]:
        """State and instruction; the images are in the shared memory then."""
        observation = self._env.observe()
        shapes = {name: image.shape for name, image in observation.images.items()}
        expected = {name: image.shape for name, image in self._images.items()}
        if shapes != expected:
            raise ValueError(f"the environment declared images {expected} and observed {shapes}")
        for name, image in self._images.items():
            np.copyto(image, observation.images[name], casting="no")
        return observation.state, observation.instruction

    def _look(self, progress: tuple[Progress, ...]) -> dict[str, bytes]:
        moment = {
            name: np.asarray(getattr(self._env, name)(), dtype).tobytes()
            for name, dtype in self._moment_dtypes.items()
        }
        return {
            "progress": pickle.dumps(progress, pickle.HIGHEST_PROTOCOL),
            **moment,
        }


def pickle_factory(make: Callable[[], Env]) -> bytes:
    """Raises `WhiskerError` for a lambda and the like."""
    try:
        return pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _cannot_travel(error) from error


def unpickle_factory(pickled_make: bytes) -> Callable[[], Env]:
    """Raises `WhiskerError` for what is defined in the parent's script: another one is `__main__` here."""
    try:
        return pickle.loads(pickled_make)  # noqa: S301  it comes from the process that started this one
    except AttributeError as error:
        raise _cannot_travel(error) from error


def _cannot_travel(error: Exception) -> WhiskerError:
    return WhiskerError(
        "the factory of an environment in a process of its own",
        expected="a function that the other process can import, or a functools.partial of one",
        got=str(error),
        hint="Define it at the top of a module; the script that is started itself is none.",
    )


def n_image_bytes(cameras: Sequence[CameraSpec]) -> int:
    """Size of the shared memory; nothing of length 0 can be mapped."""
    return max(1, sum(prod(_image_shape(camera)) for camera in cameras))


def map_images(
    images_fd: int, cameras: Sequence[CameraSpec]
) -> dict[str, UInt8[np.ndarray, "_height _width 3"]]:
    """Camera → `(height_px, width_px, 3)` view of the shared memory, one behind the other in the spec's order."""
    memory = mmap.mmap(images_fd, n_image_bytes(cameras))
    views = {}
    offset = 0
    for camera in cameras:
        shape = _image_shape(camera)
        views[camera.name] = np.frombuffer(memory, np.uint8, prod(shape), offset).reshape(shape)
        offset += prod(shape)
    return views


def _image_shape(camera: CameraSpec) -> tuple[int, int, int]:
    return camera.height_px, camera.width_px, 3


def die_with_parent(lifeline_fd: int) -> None:
    """Let the kernel end this process when the parent is gone, whose end of the pipe is closed then.

    By a signal with its default action: that needs neither a thread nor Python's lock, which native
    code may hold for ever. Unlike PR_SET_PDEATHSIG it does not depend on the thread of the parent
    that started this process.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(
        lifeline_fd,
        fcntl.F_SETFL,
        fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC,
    )
    # It may have been closed before the signal was asked for.
    if select.select([lifeline_fd], [], [], 0)[0]:
        os._exit(1)


def main(
    connection_fd: int,
    lifeline_fd: int,
    images_fd: int,
) -> NoReturn:
    """Serve until told to close, or until the parent is gone.

    A Ctrl-C in the terminal reaches this process too: the parent decides when it ends. SIGUSR1
    writes where every thread is, which the parent asks for before it kills a child that hangs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(lifeline_fd)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    connection = Connection(connection_fd)
    server = EnvServer(images_fd)
    method = ""
    while method != "close":
        try:
            method, arguments = connection.recv()
            connection.send_bytes(server.answer(method, arguments))
        except (EOFError, OSError):
            break
    # Not by the interpreter's own end, in which GL libraries like to crash or to wait.
    os._exit(0)
