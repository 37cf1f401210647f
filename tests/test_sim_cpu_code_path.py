"""The CPU code path is chosen before the libraries load, and respects the user's choice."""

import json
import os
import subprocess
import sys

import pytest

from sim.cpu_code_path import (
    ANY_PROCESSOR,
    SETTINGS,
    SWITCH,
    choose_code_path,
    describe_code_path,
    leave_choice_to_libraries,
    read_processor,
)

CAPABLE = read_processor()["flags"] >= {"avx2", "fma"}
needs_avx2 = pytest.mark.skipif(not CAPABLE, reason="the path needs AVX2 and FMA")
ENVIRON = {key: os.environ[key] for key in os.environ.keys() - {*SETTINGS, SWITCH}}
# This code prints what each library reports, independently of the variables, and a product that
# depends in its last bits on the order of summation.
REPORT = """
import json, sim, torch
from threadpoolctl import threadpool_info
import numpy
blas = [pool["architecture"] for pool in threadpool_info() if pool["internal_api"] == "openblas"]
torch.set_num_threads(1)
a, b = torch.arange(1.0, 77101.0).reshape(300, 257).sin(), \
torch.arange(1.0, 77101.0).reshape(257, 300).cos()
product = (a @ b).numpy().tobytes().hex()
print(json.dumps([blas, torch.backends.cpu.get_cpu_capability(), product]))
"""


def report(**settings):
    """Return what a new interpreter reports, with no settings but the given ones."""
    command = [sys.executable, "-c", REPORT]
    return json.loads(subprocess.check_output(command, env=ENVIRON | settings))


@needs_avx2
def test_the_libraries_take_the_path():
    blas, torch_capability, product = report()
    assert set(blas) == {"Haswell"} and torch_capability == "AVX2"
    # MKL multiplies by its compatible branch.
    *_, compatible = report(**{SWITCH: "native", "MKL_CBWR": "COMPATIBLE"})
    assert product == compatible


@needs_avx2
def test_the_choice_of_the_user_stays():
    _, torch_capability, _ = report(ATEN_CPU_CAPABILITY="default")
    assert torch_capability == "DEFAULT"


@pytest.fixture
def no_settings(monkeypatch):
    for name in (*SETTINGS, SWITCH):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


@needs_avx2
def test_the_processor_is_named_only_if_the_libraries_look_at_it(no_settings):
    no_settings.delitem(sys.modules, "numpy")
    choose_code_path()
    portable = describe_code_path("AVX2")
    assert portable["processor"] == ANY_PROCESSOR
    assert portable.items() >= SETTINGS.items()
    for capability in ("AVX512", "DEFAULT"):
        assert read_processor()["model name"] in describe_code_path(capability)["processor"]
    no_settings.setenv("MKL_CBWR", "AVX2")
    assert read_processor()["model name"] in describe_code_path("AVX2")["processor"]


@needs_avx2
def test_openblas_is_not_said_to_be_what_it_can_no_longer_become(no_settings):
    no_settings.setitem(sys.modules, "numpy", object())
    choose_code_path()
    assert "OPENBLAS_CORETYPE" not in os.environ
    assert describe_code_path()["processor"] != ANY_PROCESSOR


def test_native_leaves_the_choice_to_the_libraries(no_settings):
    no_settings.setenv(SWITCH, "native")
    choose_code_path()
    assert not SETTINGS.keys() & os.environ.keys()


def test_a_processor_without_avx2_is_left_alone(no_settings):
    no_settings.setattr("sim.cpu_code_path.read_processor", lambda: {"flags": {"sse2", "fma"}})
    choose_code_path()
    assert not SETTINGS.keys() & os.environ.keys()


def test_the_first_processor_is_read(tmp_path):
    first = (
        "processor\t: 0\nvendor_id\t: GenuineIntel\n"
        "model name\t: Xeon: 3 GHz\nflags\t\t: fpu avx2 fma\n"
    )
    (tmp_path / "cpuinfo").write_text(first + "\nprocessor\t: 1\nmodel name\t: other\n")
    read = read_processor(tmp_path / "cpuinfo")
    assert read == {
        "vendor_id": "GenuineIntel",
        "model name": "Xeon: 3 GHz",
        "flags": {"fpu", "avx2", "fma"},
    }
    assert read_processor(tmp_path / "absent")["flags"] == set()


@needs_avx2
def test_a_training_leaves_the_choice_to_the_libraries(monkeypatch):
    for name in (*SETTINGS, SWITCH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_CBWR", "AVX2")  # of the user's own
    choose_code_path()
    assert os.environ["ATEN_CPU_CAPABILITY"] == "avx2"
    leave_choice_to_libraries()
    assert os.environ["MKL_CBWR"] == "AVX2"
    assert not (SETTINGS.keys() - {"MKL_CBWR"}) & os.environ.keys()
    choose_code_path()  # as a process does that is started now
    assert "ATEN_CPU_CAPABILITY" not in os.environ
