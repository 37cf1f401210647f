"""The MuJoCo model of the scenes with two blocks and receptacles that stand elsewhere in each episode."""

import mujoco
import numpy as np

from sim.so101.scene import BLOCK_RED, add_block, add_bowl, add_cameras, contact_of, make_table_spec
from sim.so101.scene_config import TwoBlockScene

BLOCK_BLUE = (0.08, 0.22, 0.72)
# Told apart by lightness as well as by shape, in an image of 64 pixels, and by neither block's
# colour.
BOWL_DARK = (0.13, 0.15, 0.16)
PLATE_WHITE = (0.95, 0.95, 0.92)
_N_RIM_PARTS = 16


def build_two_block_model(config: TwoBlockScene) -> mujoco.MjModel:
    """Compile the scene. Receptacles are mocap bodies: their places are part of MuJoCo's state."""
    spec = make_table_spec(config)
    for side, name in zip((1, -1), config.blocks, strict=True):
        pos = (float(np.mean(config.block_x_m)), side * float(np.mean(config.block_y_m)))
        add_block(
            spec,
            config,
            name,
            pos,
            BLOCK_BLUE if name == "blue_block" else BLOCK_RED,
        )
    for side, name in zip((1, -1), config.receptacles, strict=False):
        pos = (float(np.mean(config.receptacle_x_m)), side * float(np.mean(config.receptacle_y_m)))
        if name == "bowl":
            add_bowl(spec, config, name, pos, BOWL_DARK, goal_site(name)).mocap = True
        else:
            _add_plate(spec, config, name, pos).mocap = True
        # Neither moves by itself: contact between them would only cost time.
        spec.add_exclude(bodyname1="world", bodyname2=name)
    add_cameras(spec, config)
    return spec.compile()


def goal_site(receptacle: str) -> str:
    """Return the name of the site that is the inside of a receptacle."""
    return f"goal_{receptacle}"


def _add_plate(
    spec: mujoco.MjSpec,
    config: TwoBlockScene,
    name: str,
    pos_m: tuple[float, float],
) -> mujoco.MjsBody:
    """Add a plate with a low, flaring rim.

    Its goal reaches as high above the floor as a block is large.
    """
    floor_m = 0.003
    rim_m = 0.008
    wall_m = 0.0015
    plate = spec.worldbody.add_body(
        name=name,
        pos=[*pos_m, 0],
    )
    paint = {
        "rgba": [*PLATE_WHITE, 1],
        **contact_of(config),
    }
    inner = config.plate_inner_m
    height = config.plate_height_m
    cylinder = mujoco.mjtGeom.mjGEOM_CYLINDER
    plate.add_geom(
        name=f"{name}_floor",
        type=cylinder,
        pos=[0, 0, floor_m / 2],
        size=[inner, floor_m / 2, 0],
        **paint,
    )
    tilt = np.arctan2(height - floor_m, rim_m)
    for i in range(_N_RIM_PARTS):
        angle = 2 * np.pi * i / _N_RIM_PARTS
        quat = np.zeros(4)
        outward = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
        mujoco.mju_mulQuat(
            quat,
            outward,
            np.array([np.cos(tilt / 2), 0, -np.sin(tilt / 2), 0]),
        )
        middle = inner + rim_m / 2
        plate.add_geom(
            name=f"{name}_rim_{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[middle * np.cos(angle), middle * np.sin(angle), (floor_m + height) / 2 - wall_m],
            quat=quat,
            size=[rim_m / 2 / np.cos(tilt), (inner + rim_m) * np.tan(np.pi / _N_RIM_PARTS), wall_m],
            **paint,
        )
    half = (floor_m + max(config.block_size_m)) / 2
    plate.add_site(
        name=goal_site(name),
        type=cylinder,
        pos=[0, 0, half],
        size=[inner, half, 0],
        group=4,
    )
    return plate
