"""Refuse a device that this machine certainly lacks before torch is imported, which takes some seconds."""

import ctypes
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from sim.errors import WhiskerError

# What CUDA's runtime opens first, by this name.
_DRIVER_LIBRARY = "libcuda.so.1"


def check_device(device: str) -> None:
    """Raise if torch could not use the device. Where that is not certain, nothing is raised: torch will say.

    Raises:
        WhiskerError: no driver for `cuda`, or a torch that was built without it.
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
        f"device {device!r}", expected="a device of this machine", got=got, hint="Say --device cpu."
    )


def _read_torch_build() -> str:
    """Return "cpu", "cuda" or "rocm" as the installed torch says, which is not imported; "" if it does not say."""
    spec = find_spec("torch")
    file = Path(spec.origin).parent / "version.py" if spec and spec.origin else None
    text = file.read_text(encoding="utf-8") if file and file.is_file() else ""
    said = dict(re.findall(r"^(cuda|hip)\b[^=\n]*= *(\S+)", text, re.MULTILINE))
    if said.keys() != {"cuda", "hip"}:
        return ""
    return "rocm" if said["hip"] != "None" else "cuda" if said["cuda"] != "None" else "cpu"


def _has_driver() -> bool:
    try:
        ctypes.CDLL(_DRIVER_LIBRARY)
    except OSError:
        return False
    return True
