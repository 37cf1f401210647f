"""Which OpenGL MuJoCo renders with, chosen and tried before mujoco is imported."""

import ctypes.util
import glob
import os
import subprocess
import sys
from functools import cache

from sim.errors import WhiskerError

LIBRARY_OF_BACKEND = {"osmesa": "OSMesa", "egl": "EGL", "glfw": "GL"}
PACKAGES_OF_BACKEND = {
    "osmesa": "libosmesa6",
    "egl": "libegl1 libgl1-mesa-dri",
    "glfw": "libgl1 libgl1-mesa-dri",
}
# Makes a context with MuJoCo's own class. Its package is not initialised for that: loading the
# physics takes a second.
_TRY_CONTEXT = """
import importlib.util, os, sys, types
package = types.ModuleType("mujoco")
package.__path__ = importlib.util.find_spec("mujoco").submodule_search_locations
sys.modules["mujoco"] = package
try:
    if os.environ["MUJOCO_GL"] == "glfw":
        import glfw
        if not glfw.init():
            raise OSError(glfw.get_error()[1].decode())
    from mujoco.gl_context import GLContext
    context = GLContext(8, 8)
    context.make_current()
    fault = ""
except Exception as error:
    fault = f"{type(error).__name__}: {error}"
sys.stdout.buffer.write(fault.encode())
sys.stdout.flush()
os._exit(0)  # drivers may crash when they are unloaded
"""
_CONTEXT_TIMEOUT_S = 20.0


def choose_gl_backend() -> str:
    """Set `MUJOCO_GL` unless the user did: EGL where a GPU device is and EGL starts, else OSMesa, else software EGL.

    GLFW is never chosen: it needs a display, and an evaluation must not depend on one.
    """
    if os.environ.get("MUJOCO_GL"):
        return os.environ["MUJOCO_GL"]
    devices = glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/dri/renderD*")
    has_gpu = any(os.access(device, os.R_OK | os.W_OK) for device in devices)
    order = ("egl", "osmesa") if has_gpu else ("osmesa", "egl")
    there = [backend for backend in order if ctypes.util.find_library(LIBRARY_OF_BACKEND[backend])]
    if there == ["egl", "osmesa"] and find_context_fault("egl"):
        # A container can have the GPU and its library, but not the driver's graphics half.
        there = ["osmesa"]
    backend = there[0] if there else order[0]
    os.environ["MUJOCO_GL"] = backend
    return backend


def name_renderer() -> str:
    """Return what draws in the current OpenGL context, e.g.

    "llvmpipe (LLVM 15.0.6, 256 bits), Mesa 22.3.6".
    """
    from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString

    return ", ".join(glGetString(name).decode() for name in (GL_RENDERER, GL_VERSION))


@cache
def find_context_fault(backend: str) -> str:
    """Return why no OpenGL context can be made with a backend whose library is there; "" if one can.

    The context is made in a process of its own, which takes 0.1 to 0.3 s: a driver that fails may
    crash or hang.
    """
    command = [sys.executable, "-W", "ignore", "-c", _TRY_CONTEXT]
    environment = os.environ | {"MUJOCO_GL": backend}
    try:
        tried = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            timeout=_CONTEXT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no context after {_CONTEXT_TIMEOUT_S:g} s"
    if tried.returncode:
        said = tried.stderr.decode(errors="replace").strip()
        return f"exit code {tried.returncode} of the process that tried it. {said[-200:]}".strip()
    return " ".join(tried.stdout.decode(errors="replace").split())


def check_gl_library() -> None:
    """Raise, before mujoco is imported, if it could not render with the chosen backend.

    Raises:
        WhiskerError: for an absent library with the exact command that installs it, for one that
            does not start with the backend that does.
    """
    backend = os.environ.get("MUJOCO_GL", "").strip().lower()
    if backend not in LIBRARY_OF_BACKEND:
        raise WhiskerError(
            "MUJOCO_GL",
            expected=f"one of {', '.join(LIBRARY_OF_BACKEND)}",
            got=repr(backend),
        )
    # PyOpenGL, through which MuJoCo makes its context, has a switch of its own.
    platform = os.environ.get("PYOPENGL_PLATFORM", backend)
    if backend != "glfw" and platform != backend:
        raise WhiskerError(
            "PYOPENGL_PLATFORM",
            expected=f"{backend!r}, as MUJOCO_GL",
            got=repr(platform),
            hint="Unset it.",
        )
    library = LIBRARY_OF_BACKEND[backend]
    if ctypes.util.find_library(library) is None:
        raise WhiskerError(
            f"OpenGL backend {backend!r}",
            expected=f"the system library lib{library}",
            got="none on this machine",
            hint=f"Install it: apt-get install -y {PACKAGES_OF_BACKEND[backend]}",
        )
    # OSMesa draws in memory: no device, driver or display is there to fail.
    fault = "" if backend == "osmesa" else find_context_fault(backend)
    if fault:
        hint = "Unset it, or set MUJOCO_GL=osmesa, which draws on the CPU."
        if ctypes.util.find_library(LIBRARY_OF_BACKEND["osmesa"]) is None:
            hint = f"Set MUJOCO_GL=osmesa after apt-get install -y {PACKAGES_OF_BACKEND['osmesa']}."
        raise WhiskerError(
            f"MUJOCO_GL={backend}",
            expected="an OpenGL context",
            got=fault.rstrip("."),
            hint=hint,
        )
