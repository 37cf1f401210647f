"""Reads what a scripted expert needs from the true state of the simulation."""

from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float64

from sim.robosuite.grasping import PALM_U_M, Grasp, find_grasp
from sim.robosuite.height_map import (
    CELL_M,
    GeomMask,
    HeightMap,
    Matrix,
    Position,
    collision_geoms,
)

if TYPE_CHECKING:
    from sim.robosuite.env import RobosuiteEnv

PositionXY = Float64[np.ndarray, "2"]

_GRASP_MAP_MARGIN_M = 0.12


class ExpertScene:
    """Finds objects and grasps in a scene of robosuite.

    Attributes:
        is_robot: mask of the robot's geoms.
    """

    def __init__(self, env: "RobosuiteEnv", arm_index: int = 0) -> None:
        self.env = env
        self._grip_site = env.grip_sites[arm_index]
        self._base = int(self.model.body(f"robot{arm_index}_base").id)
        self.is_robot = self.geoms_of(self._base)

    @property
    def model(self) -> mujoco.MjModel:
        return self.env.model

    @property
    def data(self) -> mujoco.MjData:
        return self.env.data

    def hand_position(self) -> Position:
        """Return the position of the grip site, m, world."""
        return self.data.site_xpos[self._grip_site].copy()

    def hand_rotation(self) -> Matrix:
        """Return the rotation of the grip site. Its columns are the hand's u, v and w."""
        return self.data.site_xmat[self._grip_site].reshape(3, 3).copy()

    def geoms_of(self, body: int) -> GeomMask:
        """Return the mask of the geoms of the object that the body belongs to."""
        roots = self.model.body_rootid
        return roots[self.model.geom_bodyid] == roots[body]

    def bounds_of(self, is_target: GeomMask) -> tuple[Position, Position]:
        """Return the lowest and the highest corner of an object's bounding box, m, world."""
        geoms = is_target & collision_geoms(self.model)
        rotation = self.data.geom_xmat[geoms].reshape(-1, 3, 3)
        aabb = self.model.geom_aabb[geoms]
        middle = self.data.geom_xpos[geoms] + (rotation @ aabb[:, :3, None])[..., 0]
        half = (np.abs(rotation) @ aabb[:, 3:, None])[..., 0]
        return (middle - half).min(axis=0), (middle + half).max(axis=0)

    def is_touched(self, is_target: GeomMask) -> bool:
        """Return whether an object touches anything but the robot."""
        first, second = self.data.contact.geom.T
        others = np.concatenate([second[is_target[first]], first[is_target[second]]])
        return bool((~self.is_robot[others] & ~is_target[others]).any())

    def find_grasp(
        self,
        is_target: GeomMask,
        middle: Position,
    ) -> Grasp | None:
        """Return the best grasp from above of the geoms, or None if there is none."""
        middle_xy = middle[:2].copy()
        return find_grasp(
            self.make_map(middle_xy, _GRASP_MAP_MARGIN_M + PALM_U_M, CELL_M, self.is_robot),
            is_target,
            middle_xy,
            self.data.xpos[self._base, :2],
            np.pi / 2,
        )

    def make_map(
        self,
        middle: PositionXY,
        radius_m: float,
        cell_m: float,
        ignored: GeomMask,
    ) -> HeightMap:
        """Return the height map of a square around a point.

        Args:
            ignored: geoms that are left out.
        """
        return HeightMap(
            self.model,
            self.data,
            middle - radius_m,
            middle + radius_m,
            cell_m,
            ignored,
        )
