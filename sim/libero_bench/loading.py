"""LIBERO's problem classes, without what others have configured."""

import os
from pathlib import Path

from sim.libero_bench.tasks import OWN_PATHS
from sim.robosuite.loading import load_robosuite


def make_problem(bddl_path: Path):
    """Return LIBERO's problem class of a task, as `load_robosuite` has it."""
    os.environ.update(OWN_PATHS)
    env = load_robosuite(lambda: _make(bddl_path))
    # A hard reset registers each drawer, door and knob once more, and each time it draws a number
    # before the fixtures' poses are drawn. An episode is the first of a new environment of lerobot:
    # made, reset, reset with the seed.
    env.object_property_initializers *= 3
    return env


def _make(bddl_path: Path):
    from libero.libero.envs.env_wrapper import ControlEnv

    return ControlEnv(
        bddl_file_name=str(bddl_path),
        has_offscreen_renderer=False,
        use_camera_obs=False,
        hard_reset=False,
        ignore_done=True,  # how long an episode is, the rollout says
    ).env
