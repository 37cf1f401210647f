"""Which OpenGL MuJoCo renders with, chosen before mujoco is imported."""

import ctypes.util
import glob
import os

from sim.errors import WhiskerError

LIBRARY_OF_BACKEND = {"osmesa": "OSMesa", "egl": "EGL"}
INSTALL_COMMAND = "apt-get install -y libosmesa6 libegl1 libgl1"


def choose_gl_backend() -> str:
    """Set `MUJOCO_GL` unless the user did: EGL where a GPU device is, else OSMesa, else software EGL.

    GLFW is never chosen: it needs a display, and an evaluation must not depend on one.
    """
    if os.environ.get("MUJOCO_GL"):
        return os.environ["MUJOCO_GL"]
    has_gpu = bool(glob.glob("/dev/nvidia[0-9]*") or glob.glob("/dev/dri/renderD*"))
    order = ("egl", "osmesa") if has_gpu else ("osmesa", "egl")
    backend = next((b for b in order if ctypes.util.find_library(LIBRARY_OF_BACKEND[b])), order[0])
    os.environ["MUJOCO_GL"] = backend
    # PyOpenGL, which MuJoCo uses to create the context, has a switch of its own.
    os.environ.setdefault("PYOPENGL_PLATFORM", backend)
    return backend


def check_gl_library() -> None:
    """Raise if the library of the chosen backend is not on this machine.

    Raises:
        WhiskerError: with the exact command that installs it.
    """
    backend = os.environ.get("MUJOCO_GL", "")
    library = LIBRARY_OF_BACKEND.get(backend)
    if library and ctypes.util.find_library(library) is None:
        raise WhiskerError(
            f"OpenGL backend {backend!r}",
            expected=f"the system library lib{library}",
            got="none on this machine",
            do=f"Install it: {INSTALL_COMMAND}",
        )
