"""Tests, one file a module. Rendering needs no display, lerobot no network."""

import os
import tempfile

from threadpoolctl import threadpool_info

os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ["HF_HUB_OFFLINE"] = "1"
# transformers copies code that comes with a checkpoint there, and two workers would share it.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="whisker-modules-")
# Set by `./run`; the tests know the other way of calling.
os.environ.pop("WHISKER_RUN", None)
# pytest's plugins load NumPy before any of our packages could choose its kernels: processes that
# the tests start, whose results are compared with those in here, are to have the same.
for _pool in threadpool_info():
    if _pool["internal_api"] == "openblas":
        os.environ.setdefault("OPENBLAS_CORETYPE", _pool["architecture"])
