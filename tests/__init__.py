"""Tests of Whisker: one file for each module. They need neither a display nor a network."""

import os
import tempfile

from threadpoolctl import threadpool_info

os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ["HF_HUB_OFFLINE"] = "1"
# transformers copies the code that comes with a checkpoint to this folder. Two workers must not
# share it.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="whisker-modules-")
# `./run` sets this variable, and messages then name the commands differently.
os.environ.pop("WHISKER_RUN", None)
# pytest's plugins load NumPy before our packages can choose its kernels. The tests compare results
# of this process with those of processes that they start, so both must use the same kernels.
for _pool in threadpool_info():
    if _pool["internal_api"] == "openblas":
        os.environ.setdefault("OPENBLAS_CORETYPE", _pool["architecture"])
