"""The MuJoCo model of the scenes with two blocks, whose receptacles move between episodes."""

import mujoco
import numpy as np

from sim.so101.scene import BLOCK_RED, add_cameras, make_table_spec
from sim.so101.scene_config import TwoBlockScene
from sim.so101.scene_objects import add_block, add_bowl, add_plate

BLOCK_BLUE = (0.08, 0.22, 0.72)
# In an image of 64 pixels, lightness and shape distinguish the receptacles. Their colours differ
# from those of both blocks.
BOWL_DARK = (0.13, 0.15, 0.16)
PLATE_WHITE = (0.95, 0.95, 0.92)
_SIDES = (1, -1)


def build_two_block_model(config: TwoBlockScene) -> mujoco.MjModel:
    """Compile the scene. Receptacles are mocap bodies, so that MuJoCo's state has their places."""
    spec = make_table_spec(config)
    for side, name in zip(_SIDES, config.blocks, strict=True):
        pos_m = (float(np.mean(config.block_x_m)), side * float(np.mean(config.block_y_m)))
        colour = BLOCK_BLUE if name == "blue_block" else BLOCK_RED
        add_block(spec, config, name, pos_m, colour)
    for side, name in zip(_SIDES, config.receptacles, strict=False):
        x_m = float(np.mean(config.receptacle_x_m))
        y_m = side * float(np.mean(config.receptacle_y_m))
        add, colour = (add_bowl, BOWL_DARK) if name == "bowl" else (add_plate, PLATE_WHITE)
        add(
            spec,
            config,
            name,
            (x_m, y_m),
            colour,
            goal_site(name),
        ).mocap = True
        # Receptacles do not move by themselves, so that contacts with the table would only cost
        # time.
        spec.add_exclude(bodyname1="world", bodyname2=name)
    add_cameras(spec, config)
    return spec.compile()


def goal_site(receptacle: str) -> str:
    """Return the name of the site that marks the inside of a receptacle."""
    return f"goal_{receptacle}"
