"""Selects one CPU code path for the numerical libraries, before any of them is imported.

OpenBLAS, MKL, oneDNN and PyTorch choose their kernels by processor (MKL also by its maker). These
kernels round differently, and a contact amplifies the last bit of an action. `SETTINGS` selects a
path that every x86-64 processor with AVX2 and FMA supports (Intel since 2013, AMD since 2015):

- MKL: `COMPATIBLE` is the only branch that Intel documents as equal on processors of other makers.
  With `AVX2`, matrix products and logarithms have different bits on an emulated Intel and on an
  AMD.
- PyTorch and oneDNN: their AVX2 kernels do not depend on the maker. PyTorch's kernels include
  their own elementary functions (SLEEF); without AVX2, PyTorch would call those of the C library.
- OpenBLAS: NumPy uses it, and LIBERO's controller and the SO-101's inverse kinematics use NumPy.

Three things remain outside these settings: GPUs, other architectures, and the C library, whose
functions MuJoCo calls.
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
# The value "native" leaves the choice to the libraries. That is faster for large networks, but
# results then differ between processors.
SWITCH = "WHISKER_CPU_CODE_PATH"
ANY_PROCESSOR = "any x86-64 with AVX2 and FMA"
_NEEDED = {"avx2", "fma"}


def choose_code_path() -> None:
    """Set the variables in `SETTINGS` that the user left unset, if the CPU supports them.

    OpenBLAS reads its variable when NumPy is imported. If NumPy is already imported, that variable
    is left unset, because it would not describe the path in use.
    """
    if os.environ.get(SWITCH) != "native" and read_processor()["flags"] >= _NEEDED:
        too_late = {"OPENBLAS_CORETYPE"} if "numpy" in sys.modules else set()
        for name in SETTINGS.keys() - too_late:
            os.environ.setdefault(name, SETTINGS[name])


def leave_choice_to_libraries() -> None:
    """Undo `choose_code_path`, for libraries that are imported later and for child processes.

    A training does so: its result depends on the processor anyway, and with `SETTINGS` it takes
    many times as long.
    """
    os.environ[SWITCH] = "native"
    for name, value in SETTINGS.items():
        if os.environ.get(name) == value:
            del os.environ[name]


def describe_code_path(torch_capability: str = "") -> dict[str, str]:
    """Return what results may depend on besides package versions.

    Two machines with equal descriptions give equal rows. The processor is named only if the
    libraries may choose kernels by it.

    Args:
        torch_capability: the kernels that PyTorch uses; "" if no network runs.
    """
    processor = read_processor()
    settings = {name: os.environ.get(name, "") for name in SETTINGS}
    has_settings = settings == SETTINGS and processor["flags"] >= _NEEDED
    if has_settings and torch_capability in ("", "AVX2"):
        name = ANY_PROCESSOR
    else:
        name = f"{processor['vendor_id']} {processor['model name']}".strip()
    return {
        **settings,
        "torch": torch_capability,
        "processor": name,
        "libc": " ".join(platform.libc_ver()),
    }


def read_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict:
    """Return "vendor_id", "model name" and the set of "flags" of the first processor (Linux)."""
    found: dict = {
        "vendor_id": platform.machine(),
        "model name": "",
        "flags": set(),
    }
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return found
    for line in text.partition("\n\n")[0].splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name in found:
            found[name] = set(value.split()) if name == "flags" else value
    return found
