"""Measures how the gripper touches and holds one object, from contacts and positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool

from sim.arrays import Vector3
from sim.robosuite.height_map import collision_geoms

REACHED_M = 0.03


@dataclass(frozen=True)
class GripperContact:
    """Says how the gripper touches an object at one moment.

    Attributes:
        is_reached: the gripper touches the object, or the tool centre point is within `REACHED_M`
            of one of its bounding boxes.
        is_touching: any part of the gripper touches it.
        is_alone: nothing but the gripper touches it, or nothing at all.
        is_between_pads: both finger pads touch it (robosuite's `_check_grasp`).
    """

    is_reached: bool
    is_touching: bool
    is_alone: bool
    is_between_pads: bool

    def is_held(
        self,
        height_m: float,
        held_m: float,
    ) -> bool:
        """Return whether the object is held.

        A bowl or a nut can hang by its rim, and one of the pads leaves the rim for moments. So an
        object that the gripper touches is also held if nothing else touches it, or if it is raised.

        Args:
            height_m: of the object above where it rested at the start.
            held_m: height above which it counts as raised.
        """
        return self.is_between_pads or (self.is_touching and (self.is_alone or height_m > held_m))


class HeldObject:
    """Looks up the geoms of an object and of the gripper, and finds the contacts between them.

    Attributes:
        body: id of the object's body.
    """

    def __init__(
        self,
        env,
        model: mujoco.MjModel,
        body: int,
        *,
        geoms: Sequence[str] | None = None,
        robot_index: int = 0,
    ) -> None:
        """Look up the geoms.

        Args:
            env: robosuite's environment.
            geoms: names of the geoms by which the object is to be held; None: all of it.
            robot_index: which of the robots is to hold it.
        """
        self.body = body
        # A root body has the geoms of all bodies below it, a part of another object only its own.
        is_root = body == model.body_rootid[body]
        owners = model.body_rootid[model.geom_bodyid] if is_root else model.geom_bodyid
        is_held = owners == body if geoms is None else make_mask(model, geoms)
        self._geoms = np.flatnonzero(is_held & collision_geoms(model))
        self._aabb = model.geom_aabb[self._geoms]
        self._is_object = np.isin(np.arange(model.ngeom), self._geoms)
        gripper = env.robots[robot_index].gripper
        self._is_gripper = make_mask(model, gripper.contact_geoms)
        self._is_pad = [
            make_mask(model, gripper.important_geoms[f"{side}_fingerpad"])
            for side in ("left", "right")
        ]

    def contact(
        self,
        data: mujoco.MjData,
        ee_pos: Vector3,
    ) -> GripperContact:
        """Return how the gripper touches the object.

        Args:
            ee_pos: position of the tool centre point, m, world.
        """
        first, second = data.contact.geom.T
        others = np.concatenate([second[self._is_object[first]], first[self._is_object[second]]])
        is_touching = bool(self._is_gripper[others].any())
        return GripperContact(
            is_reached=is_touching or self._distance_m(data, ee_pos) < REACHED_M,
            is_touching=is_touching,
            is_alone=bool(self._is_gripper[others].all()),
            is_between_pads=all(bool(pad[others].any()) for pad in self._is_pad),
        )

    def resting_height(
        self,
        data: mujoco.MjData,
        support_m: float,
    ) -> float:
        """Return the height of the body's origin when the object rests on its support, m, world.

        Objects can begin slightly above or inside what they then lie on.

        Args:
            support_m: height of the support, m, world.
        """
        rotation = data.geom_xmat[self._geoms].reshape(-1, 3, 3)
        middle = data.geom_xpos[self._geoms] + (rotation @ self._aabb[:, :3, None])[..., 0]
        half_m = (np.abs(rotation) @ self._aabb[:, 3:, None])[:, 2, 0]
        lowest_m = (middle[:, 2] - half_m).min()
        return float(data.xpos[self.body, 2] - (lowest_m - support_m))

    def _distance_m(
        self,
        data: mujoco.MjData,
        point: Vector3,
    ) -> float:
        """Return the distance from a point to the nearest bounding box of the object's geoms."""
        rotation = data.geom_xmat[self._geoms].reshape(-1, 3, 3)
        local = np.einsum("gij,gi->gj", rotation, point - data.geom_xpos[self._geoms])
        from_middle = np.abs(local - self._aabb[:, :3])
        outside = np.maximum(from_middle - self._aabb[:, 3:], 0.0)
        return float(np.linalg.norm(outside, axis=1).min())


def make_mask(model: mujoco.MjModel, geoms: Sequence[str]) -> Bool[np.ndarray, " geom"]:
    """Return the mask of the geoms with these names."""
    return np.isin(np.arange(model.ngeom), [model.geom(geom).id for geom in geoms])
