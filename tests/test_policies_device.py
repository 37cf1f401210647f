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


@pytest.mark.parametrize("device", ["cpu", "auto", "mps", "cuda"])
def test_what_torch_can_use_is_never_refused(device):
    try:
        check_device(device)
    except WhiskerError as error:
        assert device == "cuda"
        assert not torch.cuda.is_available()
        assert "Use --device cpu." in str(error)


def check_without_torch(**environment):
    return subprocess.check_output(
        (sys.executable, "-c", _CHECK), text=True, env=os.environ | environment
    )


@pytest.mark.skipif(torch.version.cuda is None, reason="torch is built without CUDA")
def test_a_machine_with_a_driver_is_left_to_torch_and_one_without_is_refused(tmp_path):
    """Any library with the driver's name suffices, since torch finds out whether it works."""
    known = ctypes.util.find_library("m")
    folders = map(Path, ("/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib"))
    library = next(folder / known for folder in folders if (folder / known).exists())
    shutil.copy(library, tmp_path / "libcuda.so.1")
    assert check_without_torch(LD_LIBRARY_PATH=str(tmp_path)) == ""
    if ctypes.util.find_library("cuda") is None:
        assert check_without_torch().startswith(
            "device 'cuda:0': expected a device of this machine, got no NVIDIA driver"
        )
