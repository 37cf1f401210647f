"""The objects of the pick-and-place scenes: blocks, bowls and plates."""

import mujoco
import numpy as np

from sim.so101.scene_config import SceneConfig, TwoBlockScene

_BOX = mujoco.mjtGeom.mjGEOM_BOX
_CYLINDER = mujoco.mjtGeom.mjGEOM_CYLINDER
_N_RING_PARTS = 16
_FLOOR_M = 0.003

XY = tuple[float, float]
RGB = tuple[float, float, float]


def contact_of(config: SceneConfig) -> dict:
    """Return the contact parameters of every geom in the scene."""
    return {
        "contype": 1,
        "conaffinity": 1,
        "condim": 4,
        "friction": config.friction,
        "solref": config.contact_solref,
        "solimp": config.contact_solimp,
    }


def add_block(
    spec: mujoco.MjSpec,
    config: SceneConfig,
    name: str,
    pos_m: XY,
    rgb: RGB,
) -> None:
    """Add a block on the table that can move freely."""
    half_size = np.array(config.block_size_m) / 2
    block = spec.worldbody.add_body(
        name=name,
        pos=[*pos_m, half_size[2]],
    )
    block.add_freejoint(name=name)
    block.add_geom(
        name=name,
        type=_BOX,
        size=half_size,
        mass=config.block_mass_kg,
        rgba=[*rgb, 1],
        **contact_of(config),
    )


def add_bowl(
    spec: mujoco.MjSpec,
    config: SceneConfig,
    name: str,
    pos_m: XY,
    rgb: RGB,
    goal: str = "goal",
) -> mujoco.MjsBody:
    """Add a bowl that is fixed to the table, and return its body.

    Args:
        goal: name of the site that marks the inside of the bowl.
    """
    bowl = spec.worldbody.add_body(
        name=name,
        pos=[*pos_m, 0],
    )
    geom_options = {
        "rgba": [*rgb, 1],
        **contact_of(config),
    }
    if config.bowl_shape == "square":
        _add_square_bowl(bowl, config, geom_options, goal)
    else:
        _add_round_bowl(bowl, config, geom_options, goal)
    return bowl


def _add_square_bowl(
    bowl: mujoco.MjsBody,
    config: SceneConfig,
    geom_options: dict,
    goal: str,
) -> None:
    """Add a floor, four upright walls and the goal site."""
    wall_m = 0.002
    height = config.bowl_height_m
    inner = config.bowl_inner_m
    _add_floor(bowl, _BOX, [inner, inner, _FLOOR_M / 2], geom_options)
    long_m = inner + 2 * wall_m
    for i, (dx, dy) in enumerate([(1, 0), (-1, 0), (0, 1), (0, -1)]):
        width, depth = (wall_m, long_m) if dx else (long_m, wall_m)
        bowl.add_geom(
            name=f"{bowl.name}_wall_{i}",
            type=_BOX,
            pos=[dx * (inner + wall_m), dy * (inner + wall_m), height / 2],
            size=[width, depth, height / 2],
            **geom_options,
        )
    _add_goal(bowl, goal, _BOX, [inner, inner, height / 2], height / 2)


def _add_round_bowl(
    bowl: mujoco.MjsBody,
    config: SceneConfig,
    geom_options: dict,
    goal: str,
) -> None:
    """Add a floor, a flaring wall of boxes and the goal site."""
    wall_m = 0.0015
    height = config.bowl_height_m
    inner = config.bowl_inner_m
    base_radius = 0.7 * inner
    _add_floor(bowl, _CYLINDER, [base_radius, _FLOOR_M / 2, 0], geom_options)
    tilt = np.arctan2(inner - base_radius, height)
    half_width = inner * np.tan(np.pi / _N_RING_PARTS) + 0.001
    _add_ring(
        bowl,
        "wall",
        (base_radius + inner) / 2 + wall_m,
        height / 2,
        tilt,
        size=[wall_m, half_width, height / 2 / np.cos(tilt)],
        **geom_options,
    )
    _add_goal(bowl, goal, _CYLINDER, [inner, height / 2, 0], height / 2)


def add_plate(
    spec: mujoco.MjSpec,
    config: TwoBlockScene,
    name: str,
    pos_m: XY,
    rgb: RGB,
    goal: str,
) -> mujoco.MjsBody:
    """Add a plate with a low, flaring rim, and return its body.

    Args:
        goal: name of the site above the plate. It is as high as a block is large.
    """
    rim_m = 0.008
    wall_m = 0.0015
    inner = config.plate_inner_m
    height = config.plate_height_m
    plate = spec.worldbody.add_body(
        name=name,
        pos=[*pos_m, 0],
    )
    geom_options = {
        "rgba": [*rgb, 1],
        **contact_of(config),
    }
    _add_floor(plate, _CYLINDER, [inner, _FLOOR_M / 2, 0], geom_options)
    tilt = np.arctan2(height - _FLOOR_M, rim_m)
    half_width = (inner + rim_m) * np.tan(np.pi / _N_RING_PARTS)
    _add_ring(
        plate,
        "rim",
        inner + rim_m / 2,
        (_FLOOR_M + height) / 2 - wall_m,
        -tilt,
        size=[rim_m / 2 / np.cos(tilt), half_width, wall_m],
        **geom_options,
    )
    goal_half_height = (_FLOOR_M + max(config.block_size_m)) / 2
    _add_goal(plate, goal, _CYLINDER, [inner, goal_half_height, 0], goal_half_height)
    return plate


def _add_floor(
    body: mujoco.MjsBody,
    shape: mujoco.mjtGeom,
    size: list,
    geom_options: dict,
) -> None:
    body.add_geom(
        name=f"{body.name}_floor",
        type=shape,
        pos=[0, 0, _FLOOR_M / 2],
        size=size,
        **geom_options,
    )


def _add_ring(
    body: mujoco.MjsBody,
    part: str,
    radius_m: float,
    height_m: float,
    tilt_rad: float,
    **geom_options,
) -> None:
    """Add boxes in a circle, each turned with its place and tilted."""
    for i in range(_N_RING_PARTS):
        angle = 2 * np.pi * i / _N_RING_PARTS
        body.add_geom(
            name=f"{body.name}_{part}_{i}",
            type=_BOX,
            pos=[radius_m * np.cos(angle), radius_m * np.sin(angle), height_m],
            quat=_turned_and_tilted(angle, tilt_rad),
            **geom_options,
        )


def _add_goal(
    body: mujoco.MjsBody,
    name: str,
    shape: mujoco.mjtGeom,
    size: list,
    height_m: float,
) -> None:
    body.add_site(
        name=name,
        type=shape,
        pos=[0, 0, height_m],
        size=size,
        group=4,
    )


def _turned_and_tilted(angle_rad: float, tilt_rad: float) -> np.ndarray:
    """Return the quaternion wxyz of a turn about z after a tilt about y."""
    turn = np.array([np.cos(angle_rad / 2), 0, 0, np.sin(angle_rad / 2)])
    tilt = np.array([np.cos(tilt_rad / 2), 0, np.sin(tilt_rad / 2), 0])
    quat = np.zeros(4)
    mujoco.mju_mulQuat(quat, turn, tilt)
    return quat
