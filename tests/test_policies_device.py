"""A device is refused without torch only where torch would refuse it too."""

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from policies.device import check_device
from sim.errors import WhiskerError

_CHECK = (
    "import sys\nfrom policies.device import check_device\nfrom sim.errors import WhiskerError\n"
    "try: check_device('cuda:0')\nexcept WhiskerError as error: print(error)\n"
    "assert 'torch' not in sys.modules"
)


def test_what_torch_can_use_is_never_refused():
    check_device("cpu")
    check_device("auto")
    check_device("mps")
    try:
        check_device("cuda")
    except WhiskerError as error:
        assert not torch.cuda.is_available()
        assert "Use --device cpu." in str(error)


@pytest.mark.skipif(torch.version.cuda is None, reason="torch is built without CUDA")
def test_a_machine_with_a_driver_is_left_to_torch_and_one_without_is_refused(tmp_path):
    """Any library with the driver's name suffices, since torch finds out whether it works."""
    known = ctypes.util.find_library("m")
    library = next(
        path / known
        for path in map(Path, ("/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib"))
        if (path / known).exists()
    )
    shutil.copy(library, tmp_path / "libcuda.so.1")
    with_driver = subprocess.run(
        [sys.executable, "-c", _CHECK],
        capture_output=True,
        text=True,
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
    )
    assert with_driver.returncode == 0 and with_driver.stdout == "", with_driver.stderr
    if ctypes.util.find_library("cuda") is None:
        without = subprocess.run(
            [sys.executable, "-c", _CHECK],
            capture_output=True,
            text=True,
        )
        assert without.stdout.startswith(
            "device 'cuda:0': expected a device of this machine, got no NVIDIA driver"
        )
