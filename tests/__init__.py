"""Tests, one file a module. Rendering needs no display, lerobot no network."""

import os

os.environ.setdefault("MUJOCO_GL", "osmesa")
os.environ["HF_HUB_OFFLINE"] = "1"
# Set by `./run`; the tests know the other way of calling.
os.environ.pop("WHISKER_RUN", None)
