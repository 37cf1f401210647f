"""Chooses and tests the OpenGL backend of MuJoCo, before mujoco is imported."""

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
# Creates a context with MuJoCo's own class, without initialising the package `mujoco`, because
# loading the physics takes a second.
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
    """Set `MUJOCO_GL` unless the user did, and return it.

    The choice is EGL if there is a GPU on which EGL starts, else OSMesa, else software EGL. GLFW is
    never chosen: it needs a display, and an evaluation must not depend on one.
    """
    if os.environ.get("MUJOCO_GL"):
        return os.environ["MUJOCO_GL"]
    devices = glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/dri/renderD*")
    has_gpu = any(os.access(device, os.R_OK | os.W_OK) for device in devices)
    order = ("egl", "osmesa") if has_gpu else ("osmesa", "egl")
    installed = [backend for backend in order if _has_library(backend)]
    if installed == ["egl", "osmesa"] and find_context_fault("egl"):
        # A container can have the GPU and its library, but not the driver's graphics part.
        installed = ["osmesa"]
    os.environ["MUJOCO_GL"] = (*installed, *order)[0]
    return os.environ["MUJOCO_GL"]


def name_renderer() -> str:
    """Return the renderer of the current OpenGL context.

    An example is "llvmpipe (LLVM 15.0.6, 256 bits), Mesa 22.3.6".
    """
    from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString

    return ", ".join(glGetString(name).decode() for name in (GL_RENDERER, GL_VERSION))


def _has_library(backend: str) -> bool:
    return ctypes.util.find_library(LIBRARY_OF_BACKEND[backend]) is not None


@cache
def find_context_fault(backend: str) -> str:
    """Return why an installed backend cannot create an OpenGL context; "" if it can.

    The test runs in a process of its own (0.1 to 0.3 s), because a faulty driver may crash or hang.
    """
    try:
        tried = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _TRY_CONTEXT],
            env=os.environ | {"MUJOCO_GL": backend},
            capture_output=True,
            timeout=_CONTEXT_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no context after {_CONTEXT_TIMEOUT_S:g} s"
    if tried.returncode:
        output = tried.stderr.decode(errors="replace").strip()
        return f"exit code {tried.returncode} of the process that tried it. {output[-200:]}".strip()
    return " ".join(tried.stdout.decode(errors="replace").split())


def check_gl_library() -> None:
    """Raise if MuJoCo could not render with the chosen backend. Call it before importing mujoco.

    Raises:
        WhiskerError: the library is missing, and the message has the command that installs it; or
            it does not start, and the message names the backend that does.
    """
    backend = os.environ.get("MUJOCO_GL", "").strip().lower()
    if backend not in LIBRARY_OF_BACKEND:
        raise WhiskerError(
            "MUJOCO_GL",
            expected=f"one of {', '.join(LIBRARY_OF_BACKEND)}",
            got=repr(backend),
        )
    # MuJoCo creates its context with PyOpenGL, which has a switch of its own.
    platform = os.environ.get("PYOPENGL_PLATFORM", backend)
    if backend != "glfw" and platform != backend:
        raise WhiskerError(
            "PYOPENGL_PLATFORM",
            expected=f"{backend!r}, as MUJOCO_GL",
            got=repr(platform),
            hint="Unset it.",
        )
    if not _has_library(backend):
        raise WhiskerError(
            f"OpenGL backend {backend!r}",
            expected=f"the system library lib{LIBRARY_OF_BACKEND[backend]}",
            got="none on this machine",
            hint=f"Install it: apt-get install -y {PACKAGES_OF_BACKEND[backend]}",
        )
    # OSMesa draws in memory, without a device, driver or display that could fail.
    fault = "" if backend == "osmesa" else find_context_fault(backend)
    if fault:
        hint = "Unset it, or set MUJOCO_GL=osmesa, which draws on the CPU."
        if not _has_library("osmesa"):
            hint = f"Set MUJOCO_GL=osmesa after apt-get install -y {PACKAGES_OF_BACKEND['osmesa']}."
        raise WhiskerError(
            f"MUJOCO_GL={backend}",
            expected="an OpenGL context",
            got=fault.rstrip("."),
            hint=hint,
        )
