"""Chooses which code path the numerical libraries take on this processor, before any of them is imported.

OpenBLAS, MKL, oneDNN and PyTorch's own kernels look at the processor (MKL at its maker too) and
choose kernels that round differently, and a contact makes the last bit of an action large.
`SETTINGS` name one path that every x86-64 processor with AVX2 and FMA has (Intel's since 2013,
AMD's since 2015):

- MKL's `COMPATIBLE` is the one branch that Intel documents as the same on processors of other
  makers. `AVX2` is not: its matrix products and logarithms have other bits on an emulated Intel
  than on an AMD.
- PyTorch and oneDNN have AVX2 kernels that ask for no maker. PyTorch's bring their own elementary
  functions (SLEEF); without AVX2 it would call those of the C library.
- OpenBLAS computes for NumPy, on which LIBERO's controller and the inverse kinematics of the SO-101
  rest.

Not settled by this: a GPU, other architectures, and the C library, whose functions MuJoCo calls.
"""

import os
import platform
import sys
from pathlib import Path

SETTINGS = {
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
# "native" leaves the choice to the libraries: faster for large networks, and no longer the same
# everywhere.
SWITCH = "WHISKER_CPU_CODE_PATH"
ANY_PROCESSOR = "any x86-64 with AVX2 and FMA"
_NEEDED = {"avx2", "fma"}


def choose_code_path() -> None:
    """Set the environment variables in `SETTINGS` that the user did not set, if the processor can take that path.

    OpenBLAS chooses when NumPy is imported: where that was done before, its variable would be
    untrue and is not set.
    """
    if os.environ.get(SWITCH) != "native" and read_processor()["flags"] >= _NEEDED:
        too_late = {"OPENBLAS_CORETYPE"} if "numpy" in sys.modules else set()
        for name in SETTINGS.keys() - too_late:
            os.environ.setdefault(name, SETTINGS[name])


def describe_code_path(torch_capability: str = "") -> dict[str, str]:
    """Return what a number may depend on besides package versions: two equal descriptions mean the same rows.

    The processor is named only if the libraries may look at it.

    Args:
        torch_capability: which of PyTorch's kernels are in effect; "" if no network runs.
    """
    processor = read_processor()
    settings = {name: os.environ.get(name, "") for name in SETTINGS}
    is_portable = (
        settings == SETTINGS and processor["flags"] >= _NEEDED and torch_capability in ("", "AVX2")
    )
    name = (
        ANY_PROCESSOR
        if is_portable
        else f"{processor['vendor_id']} {processor['model name']}".strip()
    )
    return {
        **settings,
        "torch": torch_capability,
        "processor": name,
        "libc": " ".join(platform.libc_ver()),
    }


def read_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict:
    """Return "vendor_id" and "model name" of the first processor (of Linux), and the set of its "flags"."""
    found: dict = {
        "vendor_id": platform.machine(),
        "model name": "",
        "flags": set(),
    }
    try:
        lines = (
            cpuinfo.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
        )
    except OSError:
        return found
    for line in lines:
        name, _, value = (part.strip() for part in line.partition(":"))
        if name in found:
            found[name] = set(value.split()) if name == "flags" else value
    return found
