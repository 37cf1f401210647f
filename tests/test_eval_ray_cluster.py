"""Tests of a Ray that is not there, of another version, or without a cluster."""

import socket
import sys

import pytest

from eval.node_check import check_node, list_what_must_agree
from eval.run import Run
from sim.errors import WhiskerError


def test_without_ray_the_command_says_how_to_install_it(refusal_of_eval, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python does for a failed import
    said = refusal_of_eval("--policy scripted --ray auto")
    assert "--ray: expected the package ray 2.60, got none. Install whisker-eval[ray]" in said


def test_another_version_of_ray_is_refused(refusal_of_eval, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is an extra: ./run --extra ray pytest ...")
    monkeypatch.setattr(ray, "__version__", "2.6.3")
    said = refusal_of_eval("--policy scripted --ray auto")
    assert "--ray: expected the package ray 2.60, got 2.6.3" in said


def test_an_address_without_a_cluster_is_refused(refusal_of_eval, tmp_path):
    pytest.importorskip("ray", reason="Ray is an extra: ./run --extra ray pytest ...")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        said = refusal_of_eval(f"--policy scripted --ray {address} --run-dir", tmp_path)
    assert f"--ray {address}: expected a Ray cluster that this machine is a node of" in said
    assert f"got no answer from {address} (Connection refused)" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["nonsense", "ray://127.0.0.1:10001", "127.0.0.1"])
def test_what_is_no_address_is_refused(refusal_of_eval, address):
    pytest.importorskip("ray", reason="Ray is an extra: ./run --extra ray pytest ...")
    said = refusal_of_eval(f"--policy scripted --ray {address}")
    assert f"got {address!r}, which is neither auto, local nor HOST:PORT" in said


def test_a_node_is_compared_in_all_that_a_row_depends_on(failed_run):
    agreed = list_what_must_agree(Run.open(failed_run).description)
    assert {"commit", "versions.torch", "code_path.libc", "gl_renderer"} <= agreed.keys()
    assert "checkpoint.model.safetensors" in agreed
    check_node("a", agreed, dict(agreed))
    for name in agreed:
        with pytest.raises(WhiskerError, match=f"node a: expected {name} .*, got other"):
            check_node("a", agreed, agreed | {name: "other"})
