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
    read_processor,
)

CAPABLE = read_processor()["flags"] >= {"avx2", "fma"}
needs_avx2 = pytest.mark.skipif(not CAPABLE, reason="the path needs AVX2 and FMA")
# This code prints what each library reports, independently of the variables.
ASK_LIBRARIES = """
import json, sim, torch
from threadpoolctl import threadpool_info
import numpy
blas = [pool["architecture"] for pool in threadpool_info() if pool["internal_api"] == "openblas"]
print(json.dumps([blas, torch.backends.cpu.get_cpu_capability()]))
"""
# This product depends in its last bits on the order of summation.
PRODUCT = """
import sim, torch
torch.set_num_threads(1)
a, b = torch.arange(1.0, 77101.0).reshape(300, 257).sin(), \
torch.arange(1.0, 77101.0).reshape(257, 300).cos()
print((a @ b).numpy().tobytes().hex())
"""


def run_python(code, **settings):
    environ = {
        name: value for name, value in os.environ.items() if name not in {*SETTINGS, SWITCH}
    } | settings
    return subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    ).stdout


@needs_avx2
def test_the_libraries_take_the_path():
    blas, torch_capability = json.loads(run_python(ASK_LIBRARIES))
    assert blas and set(blas) == {"Haswell"} and torch_capability == "AVX2"


@needs_avx2
def test_the_choice_of_the_user_stays():
    _, torch_capability = json.loads(run_python(ASK_LIBRARIES, ATEN_CPU_CAPABILITY="default"))
    assert torch_capability == "DEFAULT"


@needs_avx2
def test_mkl_multiplies_by_its_compatible_branch():
    assert run_python(PRODUCT) == run_python(
        PRODUCT, **{SWITCH: "native", "MKL_CBWR": "COMPATIBLE"}
    )


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
    assert {name: portable[name] for name in SETTINGS} == SETTINGS
    assert (
        describe_code_path("AVX512")["processor"]
        == describe_code_path("DEFAULT")["processor"]
        != ANY_PROCESSOR
    )
    no_settings.setenv("MKL_CBWR", "AVX2")
    assert read_processor()["model name"] in describe_code_path("AVX2")["processor"]


@needs_avx2
def test_openblas_is_not_said_to_be_what_it_can_no_longer_become(no_settings):
    no_settings.setitem(sys.modules, "numpy", object())
    choose_code_path()
    assert (
        "OPENBLAS_CORETYPE" not in os.environ and describe_code_path()["processor"] != ANY_PROCESSOR
    )


def test_native_leaves_the_choice_to_the_libraries(no_settings):
    no_settings.setenv(SWITCH, "native")
    choose_code_path()
    assert not any(name in os.environ for name in SETTINGS)


def test_a_processor_without_avx2_is_left_alone(no_settings, monkeypatch):
    monkeypatch.setattr(
        "sim.cpu_code_path.read_processor",
        lambda: {"flags": {"sse2", "fma"}},
    )
    choose_code_path()
    assert not any(name in os.environ for name in SETTINGS)


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
