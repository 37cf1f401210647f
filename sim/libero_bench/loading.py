"""Loads LIBERO's problem classes, independent of the user's LIBERO configuration."""

import os
from pathlib import Path

from sim.libero_bench.installation import OWN_PATHS
from sim.robosuite.loading import load_robosuite


def make_problem(bddl_path: Path):
    """Return an instance of LIBERO's problem class for a task, made by `load_robosuite`."""
    os.environ.update(OWN_PATHS)

    def make():
        from libero.libero.envs.env_wrapper import ControlEnv

        return ControlEnv(
            bddl_file_name=str(bddl_path),
            has_offscreen_renderer=False,
            use_camera_obs=False,
            hard_reset=False,
            # The rollout decides when an episode ends.
            ignore_done=True,
        ).env

    env = load_robosuite(make)
    # lerobot begins each episode in a new environment: made, reset, and reset with the seed. Each
    # hard reset registers every drawer, door and knob once more. Each registration draws a random
    # number before the fixtures' poses are drawn.
    env.object_property_initializers *= 3
    return env
