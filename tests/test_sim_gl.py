import ctypes.util

import pytest

from sim.errors import WhiskerError
from sim.gl import check_gl_library, choose_gl_backend


def without(monkeypatch, *missing):
    real = ctypes.util.find_library
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None if name in missing else real(name))


def test_the_users_choice_is_kept(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert choose_gl_backend() == "glfw"


def test_software_egl_takes_the_place_of_an_absent_osmesa(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr("sim.gl.glob.glob", lambda _: [])
    without(monkeypatch, "OSMesa")
    assert choose_gl_backend() == "egl"
    monkeypatch.undo()


def test_a_gpu_means_egl(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr("sim.gl.glob.glob", lambda _: ["/dev/nvidia0"])
    monkeypatch.setattr("sim.gl.os.access", lambda *_: True)
    assert choose_gl_backend() == "egl"
    monkeypatch.undo()


def test_a_missing_library_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    without(monkeypatch, "OSMesa")
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
