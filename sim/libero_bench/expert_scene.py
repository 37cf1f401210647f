"""Reads what the scripted LIBERO expert needs from the true state of the simulation."""

from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float64

from sim.robosuite.grasping import PALM_U_M, Grasp, find_grasp, grid_points
from sim.robosuite.height_map import (
    CELL_M,
    COARSE_CELL_M,
    GeomMask,
    HeightMap,
    Matrix,
    Position,
    collision_geoms,
)

if TYPE_CHECKING:
    from sim.libero_bench.env import LiberoEnv

PositionXY = Float64[np.ndarray, "2"]

_GRASP_MAP_MARGIN_M = 0.12
_SPOT_MAP_RADIUS_M = 0.3


class ExpertScene:
    """Finds objects, joints, grasps and free places in a LIBERO scene.

    Attributes:
        problem: LIBERO's own environment.
        is_robot: mask of the robot's geoms.
    """

    def __init__(self, env: "LiberoEnv") -> None:
        self.env = env
        self.problem = env._env
        self.model = env.model
        self.data = env.data
        self._base = int(self.model.body("robot0_base").id)
        self.is_robot = self.geoms_of(self._base)

    def hand_position(self) -> Position:
        """Return the position of the grip site, m, world."""
        return self.env.ee_pos_world()

    def hand_rotation(self) -> Matrix:
        """Return the rotation of the grip site. Its columns are the hand's u, v and w."""
        return self.data.site_xmat[self.env._tool].reshape(3, 3).copy()

    def body_of(self, name: str) -> int:
        return int(self.problem.obj_body_id[name])

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

    def is_drawer(self, name: str) -> bool:
        """Return whether a name is that of a part that slides."""
        sites = self.problem.object_sites_dict
        if name not in sites:
            return False
        joints = [self.model.joint(joint) for joint in sites[name].joints or []]
        return any(joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE for joint in joints)

    def joint_range(
        self,
        verb: str,
        name: str,
    ) -> list[float]:
        """Return the joint positions that LIBERO's asset calls open, closed, on or off [rad or m].

        Args:
            verb: "open", "close", "turnon" or "turnoff".
        """
        owner = self.problem.get_object(name)
        return list(
            (
                self.problem.get_object(owner.parent_name) if self.is_drawer(name) else owner
            ).object_properties["articulation"][f"default_{verb}_ranges"]
        )

    def find_grasp(
        self,
        is_target: GeomMask,
        middle: Position,
    ) -> Grasp | None:
        """Return the best grasp from above of the geoms, or None if there is none."""
        middle_xy = middle[:2].copy()
        return find_grasp(
            self._make_map(middle_xy, _GRASP_MAP_MARGIN_M + PALM_U_M, CELL_M, self.is_robot),
            is_target,
            middle_xy,
            self.data.xpos[self._base, :2],
            np.pi / 2,
        )

    def find_spot(
        self,
        place: str,
        is_target: GeomMask,
        beside_m: float | None,
    ) -> PositionXY:
        """Return where to put an object down: the position of its origin, m, world.

        On another object, this is the middle of that object. In a region, it is the lowest place
        that has room.

        Args:
            is_target: geoms of the object.
            beside_m: if given, put it this far beside the place.
        """
        spots = self._list_spots(place)
        middle = spots.mean(axis=0)
        if beside_m is not None:
            angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
            spots = middle + beside_m * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        low, high = self.bounds_of(is_target)
        footprint = ((high - low)[:2].max() / 2) * grid_points((-1.0, 1.0), 1.0, 7, 7)
        ignored = self.is_robot | is_target
        height_m, _ = self._make_map(middle, _SPOT_MAP_RADIUS_M, COARSE_CELL_M, ignored).at(
            spots[:, None] + footprint
        )
        # A centimetre of height costs as much as a centimetre of distance from the middle.
        return spots[np.argmin(height_m.max(axis=1) + np.linalg.norm(spots - middle, axis=1))]

    def _list_spots(self, place: str) -> Float64[np.ndarray, "spot 2"]:
        region = self.problem.object_sites_dict.get(place)
        if region is None:
            # A view: the spot follows the other object if it moves.
            return self.data.xpos[None, self.body_of(place), :2]
        site = self.model.site(place).id
        rotation = self.data.site_xmat[site].reshape(3, 3)
        half = np.abs(rotation @ region.size)[:2]
        return self.data.site_xpos[site, :2] + half * grid_points((-0.8, 0.8), 0.8, 9, 9)

    def _make_map(
        self,
        middle: PositionXY,
        radius_m: float,
        cell_m: float,
        ignored: GeomMask,
    ) -> HeightMap:
        return HeightMap(
            self.model,
            self.data,
            middle - radius_m,
            middle + radius_m,
            cell_m,
            ignored,
        )
