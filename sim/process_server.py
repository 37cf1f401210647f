"""The child process of `sim.process.EnvProcess`: makes one environment and serves requests for it.

A request is `(method, arguments)` and an answer `(value, readings, raised)`, both pickled. Images
are passed through shared memory instead.
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

from sim.arrays import Image
from sim.capabilities import HasExpert, capability_methods_of, require
from sim.env import Env, Expert, Progress
from sim.errors import WhiskerError
from sim.spec import CameraSpec, EnvSpec

# Readings that callers need after every step. They travel with the answer to every request that
# changes them, as bytes from which the parent makes a new array for each caller. The pickled
# progress is the fourth reading.
READING_DTYPES = {
    "state": np.float32,
    "ee_pos_world": np.float64,
    "snapshot": np.float64,
}


@dataclass(frozen=True)
class RemoteException:
    """An exception on its way to the parent.

    Attributes:
        whisker_error: the exception itself if it is one for people to read; None for other errors,
            whose classes the parent may not have.
    """

    type_name: str
    message: str
    traceback: str
    whisker_error: WhiskerError | None


Readings = dict[str, bytes]
Answer = tuple[Any, Readings | None, RemoteException | None]


class EnvServer:
    """Serves requests for an environment."""

    def __init__(self, images_fd: int) -> None:
        self._images_fd = images_fd
        self._experts: list[Expert] = []

    def answer(
        self,
        method: str,
        arguments: tuple[Any, ...],
    ) -> bytes:
        """Return the pickled answer. An exception is an answer too, and the server goes on."""
        try:
            answer: Answer = (*self._execute(method, arguments), None)
            return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            answer = (
                None,
                None,
                RemoteException(
                    type(error).__name__,
                    str(error),
                    "".join(traceback.format_exception(error)),
                    error if isinstance(error, WhiskerError) else None,
                ),
            )
            return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)

    def _execute(
        self,
        method: str,
        arguments: tuple[Any, ...],
    ) -> tuple[Any, Readings | None]:
        """Return the value, and the readings if they may have changed."""
        match method:
            case "step":
                result = self._env.step(*arguments)
                # The progress travels once, in the readings. The parent puts it back.
                return replace(result, progress=()), self._read(result.progress)
            case "reset" | "restore" | "simulate_ee_path":
                return getattr(self._env, method)(*arguments), self._read(self._env.progress())
            case "read":
                return None, self._read(self._env.progress())
            case "observe":
                return self._observe(), None
            case "make":
                return self._make(*arguments), None
            case "make_expert":
                # The expert stays here, and the parent asks it by its index.
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
        """Make the environment; return its spec and the names of its capability methods."""
        try:
            make = pickle.loads(pickled_make)  # noqa: S301  sent by the process that started this
        except (
            AttributeError
        ) as error:  # it is in the parent's script, another `__main__` than here
            raise _not_importable(error) from error
        self._env: Env = make()
        self._reading_dtypes = {
            name: dtype for name, dtype in READING_DTYPES.items() if hasattr(self._env, name)
        }
        spec = self._env.spec
        os.ftruncate(self._images_fd, n_image_bytes(spec.cameras))
        self._images = map_images(self._images_fd, spec.cameras)
        return spec, tuple(capability_methods_of(self._env))

    def _observe(self) -> tuple[np.ndarray, str, np.ndarray | None]:
        """Write the images into the shared memory; return the rest of the observation."""
        observation = self._env.observe()
        shapes = {name: image.shape for name, image in observation.images.items()}
        expected = {name: image.shape for name, image in self._images.items()}
        if shapes != expected:
            raise ValueError(f"the environment declared images {expected} and observed {shapes}")
        for name, image in self._images.items():
            np.copyto(image, observation.images[name], casting="no")
        return observation.state, observation.instruction, observation.tool_rotation

    def _read(self, progress: tuple[Progress, ...]) -> Readings:
        readings = {"progress": pickle.dumps(progress, pickle.HIGHEST_PROTOCOL)}
        for name, dtype in self._reading_dtypes.items():
            readings[name] = np.asarray(getattr(self._env, name)(), dtype).tobytes()
        return readings


def pickle_factory(make: Callable[[], Env]) -> bytes:
    """Return the pickled factory of an environment.

    Raises:
        WhiskerError: it cannot be pickled, e.g. because it is a lambda.
    """
    try:
        return pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _not_importable(error) from error


def _not_importable(error: Exception) -> WhiskerError:
    return WhiskerError(
        "the factory of an environment in a process of its own",
        expected="a function that the other process can import, or a functools.partial of one",
        got=str(error),
        hint="Define it at the top level of a module other than the script that is started.",
    )


def n_image_bytes(cameras: Sequence[CameraSpec]) -> int:
    """Return the size of the shared memory. It is at least 1, because 0 bytes cannot be mapped."""
    return max(1, sum(3 * camera.height_px * camera.width_px for camera in cameras))


def map_images(
    images_fd: int,
    cameras: Sequence[CameraSpec],
) -> dict[str, Image]:
    """Return camera → `(height_px, width_px, 3)` view of the shared memory.

    The images lie one behind the other, in the order of the spec.
    """
    memory = mmap.mmap(images_fd, n_image_bytes(cameras))
    views: dict[str, Image] = {}
    offset = 0
    for camera in cameras:
        shape = (camera.height_px, camera.width_px, 3)
        views[camera.name] = np.ndarray(shape, np.uint8, memory, offset)
        offset += prod(shape)
    return views


def die_with_parent(lifeline_fd: int) -> None:
    """Have the kernel end this process when the parent is gone.

    The parent's end of the pipe closes then, and the kernel sends a signal with its default action.
    That requires neither a thread nor Python's lock, which native code may hold forever. Unlike
    PR_SET_PDEATHSIG, it does not depend on the parent's thread that started this process.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)
    # The pipe may have been closed before the signal was enabled.
    if select.select([lifeline_fd], [], [], 0)[0]:
        os._exit(1)


def main(
    connection_fd: int,
    lifeline_fd: int,
    images_fd: int,
) -> NoReturn:
    """Serve until told to close, or until the parent is gone.

    A Ctrl-C in the terminal also reaches this process. It is ignored, because the parent decides
    when this process ends. SIGUSR1 prints the stack of every thread; the parent sends it before it
    kills a child that hangs.
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
    # Skips the interpreter's own shutdown, in which GL libraries tend to crash or hang.
    os._exit(0)
