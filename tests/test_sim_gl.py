import ctypes.util
import os
import subprocess
import sys

import pytest

from sim.errors import WhiskerError
from sim.gl import check_gl_library, choose_gl_backend, find_context_fault

EGL_DRIVERS = "__EGL_VENDOR_LIBRARY_FILENAMES"
needs_egl = pytest.mark.skipif(
    ctypes.util.find_library("EGL") is None, reason="libEGL is not installed"
)


@pytest.fixture(autouse=True)
def _nothing_was_tried_before():
    find_context_fault.cache_clear()
    yield
    find_context_fault.cache_clear()


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)  # importing MuJoCo sets it
    monkeypatch.setattr("sim.gl.glob.glob", lambda _: ["/dev/nvidia0"])
    monkeypatch.setattr("sim.gl.os.access", lambda *_: True)


@pytest.fixture
def no_osmesa(monkeypatch):
    real = ctypes.util.find_library
    monkeypatch.setattr(
        ctypes.util, "find_library", lambda name: None if name == "OSMesa" else real(name)
    )


def test_the_users_choice_is_kept(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert choose_gl_backend() == "glfw"


def test_software_egl_takes_the_place_of_an_absent_osmesa(no_osmesa, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr("sim.gl.glob.glob", lambda _: [])
    assert choose_gl_backend() == "egl"


def test_a_gpu_means_egl_where_egl_starts(gpu, monkeypatch):
    monkeypatch.setattr("sim.gl.find_context_fault", lambda _: "")
    monkeypatch.setattr("sim.gl.ctypes.util.find_library", lambda name: f"lib{name}.so")
    assert choose_gl_backend() == "egl"


@needs_egl
@pytest.mark.skipif(ctypes.util.find_library("OSMesa") is None, reason="libOSMesa is not installed")
def test_a_gpu_whose_driver_has_no_graphics_means_osmesa(gpu, monkeypatch):
    monkeypatch.setenv(EGL_DRIVERS, "/nonexistent.json")
    assert choose_gl_backend() == "osmesa"


def test_osmesa_draws_without_a_device_so_it_is_not_tried(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr("sim.gl.find_context_fault", lambda _: pytest.fail("a process was started"))
    check_gl_library()


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        pytest.param(
            {"MUJOCO_GL": "egl", EGL_DRIVERS: "/nonexistent.json"},
            "",
            id="no driver",
            marks=needs_egl,
        ),
        pytest.param(
            {"MUJOCO_GL": "egl", "MUJOCO_EGL_DEVICE_ID": "99"},
            "DEVICE_ID",
            id="no device",
            marks=needs_egl,
        ),
        pytest.param({"MUJOCO_GL": "glfw"}, "DISPLAY", id="no display"),
    ],
)
def test_a_choice_that_cannot_start_is_refused_before_anything_is_imported(choice, said):
    """The check refuses such a choice as it does in `eval`, and the message's advice works."""
    code = (
        "import sys\n"
        "from sim.errors import WhiskerError\n"
        "from sim.gl import check_gl_library\n"
        "try: check_gl_library()\n"
        "except WhiskerError as error: print(error)\n"
        "print([name for name in ('mujoco', 'lerobot', 'torch') if name in sys.modules])\n"
    )

    def run(environment):
        return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)

    chosen = os.environ | choice
    for unwanted in ("DISPLAY", "PYOPENGL_PLATFORM"):
        chosen.pop(unwanted, None)
    refusal, imported = run(chosen).splitlines()
    assert refusal.startswith(f"MUJOCO_GL={choice['MUJOCO_GL']}: expected an OpenGL context, got ")
    assert said in refusal and "MUJOCO_GL=osmesa" in refusal and imported == "[]"
    if refusal.endswith("Unset it, or set MUJOCO_GL=osmesa, which draws on the CPU."):
        assert run(chosen | {"MUJOCO_GL": "osmesa"}) == "[]\n"
        del chosen["MUJOCO_GL"]
        assert run(chosen) == "[]\n"


def test_a_missing_library_names_the_command_that_installs_it(no_osmesa, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(WhiskerError, match="apt-get install -y libosmesa6"):
        check_gl_library()


def test_an_unknown_backend_and_a_contradiction_are_refused(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "bogus")
    with pytest.raises(WhiskerError, match="one of osmesa, egl, glfw"):
        check_gl_library()
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "egl")
    with pytest.raises(WhiskerError, match="Unset it"):
        check_gl_library()
