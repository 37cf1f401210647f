"""Reads what the scripted LIBERO expert needs from the true state of the simulation."""

from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float64

from sim.robosuite.expert_scene import ExpertScene, PositionXY
from sim.robosuite.grasping import grid_points
from sim.robosuite.height_map import COARSE_CELL_M, GeomMask

if TYPE_CHECKING:
    from sim.libero_bench.env import LiberoEnv

_SPOT_MAP_RADIUS_M = 0.3


class LiberoScene(ExpertScene):
    """Finds objects, joints, grasps and free places in a LIBERO scene.

    Attributes:
        problem: LIBERO's own environment.
    """

    def __init__(self, env: "LiberoEnv") -> None:
        super().__init__(env)
        self.problem = env._env

    def body_of(self, name: str) -> int:
        return int(self.problem.obj_body_id[name])

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
        height_m, _ = self.make_map(middle, _SPOT_MAP_RADIUS_M, COARSE_CELL_M, ignored).at(
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
