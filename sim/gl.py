"""Which OpenGL MuJoCo renders with, chosen before mujoco is imported."""

import ctypes.util
import glob
import os

from sim.errors import WhiskerError

LIBRARY_OF_BACKEND = {"osmesa": "OSMesa", "egl": "EGL", "glfw": "GL"}
PACKAGES_OF_BACKEND = {"osmesa": "libosmesa6", "egl": "libegl1 libgl1-mesa-dri", "glfw": "libgl1 libgl1-mesa-dri"}


def choose_gl_backend() -> str:
    """Set `MUJOCO_GL` unless the user did: EGL where a GPU device is, else OSMesa, else software EGL.

    GLFW is never chosen: it needs a display, and an evaluation must not depend on one.
    """
    if os.environ.get("MUJOCO_GL"):
        return os.environ["MUJOCO_GL"]
    devices = glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/dri/renderD*")
    has_gpu = any(os.access(device, os.R_OK | os.W_OK) for device in devices)
    order = ("egl", "osmesa") if has_gpu else ("osmesa", "egl")
    backend = next((b for b in order if ctypes.util.find_library(LIBRARY_OF_BACKEND[b])), order[0])
    os.environ["MUJOCO_GL"] = backend
    return backend


def name_renderer() -> str:
    """Return what draws in the current OpenGL context, e.g. "llvmpipe (LLVM 15.0.6, 256 bits), Mesa 22.3.6"."""
    from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString

    return ", ".join(glGetString(name).decode() for name in (GL_RENDERER, GL_VERSION))


def check_gl_library() -> None:
    """Raise, before mujoco is imported, if it could not render with the chosen backend.

    Raises:
        WhiskerError: for an absent library with the exact command that installs it.
    """
    backend = os.environ.get("MUJOCO_GL", "").strip().lower()
    if backend not in LIBRARY_OF_BACKEND:
        raise WhiskerError("MUJOCO_GL", expected=f"one of {', '.join(LIBRARY_OF_BACKEND)}", got=repr(backend))
    # PyOpenGL, through which MuJoCo makes its context, has a switch of its own.
    platform = os.environ.get("PYOPENGL_PLATFORM", backend)
    if backend != "glfw" and platform != backend:
        raise WhiskerError(
            "PYOPENGL_PLATFORM", expected=f"{backend!r}, as MUJOCO_GL", got=repr(platform), do="Unset it."
        )
    library = LIBRARY_OF_BACKEND[backend]
    if ctypes.util.find_library(library) is None:
        raise WhiskerError(
            f"OpenGL backend {backend!r}",
            expected=f"the system library lib{library}",
            got="none on this machine",
            do=f"Install it: apt-get install -y {PACKAGES_OF_BACKEND[backend]}",
        )
