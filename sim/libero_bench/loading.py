"""LIBERO's problem classes, loaded without their noise and without what others have configured."""

import logging
import os
from pathlib import Path
from unittest import mock

from sim.libero_bench.tasks import OWN_PATHS


def make_robosuite_env(bddl_path: Path):
    """LIBERO's problem class without a renderer and without observables: those are ours."""
    os.environ.update(OWN_PATHS)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "whisker" / "numba"))
    with mock.patch("logging.FileHandler", _no_log_file):
        from libero.libero.envs.env_wrapper import ControlEnv

    env = ControlEnv(
        bddl_file_name=str(bddl_path),
        has_offscreen_renderer=False,
        use_camera_obs=False,
        hard_reset=False,
        ignore_done=True,  # how long an episode is, the rollout says
    ).env
    env._observables = {}
    # A hard reset registers each drawer, door and knob once more, and each time it draws a number before the fixtures'
    # poses are drawn. An episode is the first of a new environment of lerobot: made, reset, reset with the seed.
    env.object_property_initializers *= 3
    return env


def _no_log_file(*args, **kwargs):
    """robosuite opens /tmp/robosuite.log at import, a file that may be another user's."""
    del args, kwargs
    return logging.NullHandler()
