"""Refuse a device that this machine lacks before torch is imported, which takes seconds."""

import ctypes
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from sim.errors import WhiskerError

# The CUDA runtime opens the driver under this name.
_DRIVER_LIBRARY = "libcuda.so.1"


def check_device(device: str) -> None:
    """Raise if torch certainly cannot use the device. Doubtful cases pass, and torch reports them.

    Raises:
        WhiskerError: there is no driver for `cuda`, or torch was built without CUDA.
    """
    if device.partition(":")[0] != "cuda":
        return
    build = _read_torch_build()
    if build == "cpu":
        got = "a torch that was built for the CPU alone"
    elif build == "cuda" and sys.platform == "linux" and not _has_driver():
        got = f"no NVIDIA driver on this machine ({_DRIVER_LIBRARY})"
    else:
        return
    raise WhiskerError(
        f"device {device!r}",
        expected="a device of this machine",
        got=got,
        hint="Use --device cpu.",
    )


def _read_torch_build() -> str:
    """Return the build of the installed torch, from its `version.py` and without importing it.

    It is "cpu", "cuda" or "rocm"; "" if the file does not say.
    """
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin).parent / "version.py"
    if not file.is_file():
        return ""
    text = file.read_text(encoding="utf-8")
    versions = dict(re.findall(r"^(cuda|hip)\b[^=\n]*= *(\S+)", text, re.MULTILINE))
    if versions.keys() != {"cuda", "hip"}:
        return ""
    if versions["hip"] != "None":
        return "rocm"
    return "cuda" if versions["cuda"] != "None" else "cpu"


def _has_driver() -> bool:
    try:
        ctypes.CDLL(_DRIVER_LIBRARY)
    except OSError:
        return False
    return True
