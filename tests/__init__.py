"""Tests, one file a module. Rendering needs no display, lerobot no network."""

import os
import tempfile

os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ["HF_HUB_OFFLINE"] = "1"
# transformers copies code that comes with a checkpoint there, and two workers would share it.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="whisker-modules-")
# Set by `./run`; the tests know the other way of calling.
os.environ.pop("WHISKER_RUN", None)
