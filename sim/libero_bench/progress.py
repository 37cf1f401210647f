"""How far each goal of a LIBERO task is.

A goal is a predicate of the task's BDDL file. Whether it holds is for LIBERO's own code to say
(`env._eval_predicate`); what leads there is measured here, with these rules:

- an object is held when both finger pads touch it (robosuite's `_check_grasp`), or when any part of
  the gripper does while nothing else touches it or it is raised by `HELD_M`: a bowl or mug hangs by
  its rim, which one of the pads leaves for moments;
- it is over the goal when its origin is where LIBERO's predicate wants it, or above that;
- a joint's progress is 0 where it was at reset and 1 at the end, nearest to there, of the range of
  angles that LIBERO's asset calls open, closed, on or off.
"""

from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Bool, Float64, Int64

from sim.env import Progress
from sim.goals.articulated import ARTICULATED, articulated_progress
from sim.goals.pick_and_place import PICK_AND_PLACE, pick_and_place_progress
from sim.libero_bench.goal_thresholds import (
    ARTICULATED_THRESHOLDS,
    HELD_M,
    LIFTED_M,
    PICK_AND_PLACE_THRESHOLDS,
)
from sim.robosuite.env import WatchedGoal
from sim.robosuite.grasping import collision_geoms

REACHED_M = 0.03
ON_OBJECT_M, ON_SITE_M, IN_SITE_M = 0.03, -0.005, -0.01  # see `PlaceGoal._is_over`

_JOINT_RANGES = {
    "open": "default_open_ranges",
    "close": "default_close_ranges",
    "turnon": "default_turnon_ranges",
    "turnoff": "default_turnoff_ranges",
}
# Any one joint that is open or on will do, while all of them must be closed or off (LIBERO's
# ObjectState).
_ANY_JOINT = ("open", "turnon")


class PlaceGoal:
    """An object is to be brought into or onto something."""

    def __init__(self, env, model: mujoco.MjModel, predicate: Sequence[str]) -> None:
        """Args:
        env: robosuite's environment.
        predicate: ("in" or "on", object, place).
        """
        verb, thing, place = predicate
        self.declared = PICK_AND_PLACE.goal(" ".join(predicate), PICK_AND_PLACE_THRESHOLDS)
        self.start = np.zeros(1)
        self._body = int(env.obj_body_id[thing])
        self._geoms = _collision_geoms_of(model, self._body)
        self._aabb = model.geom_aabb[self._geoms]
        self._is_thing = np.isin(np.arange(model.ngeom), self._geoms)
        gripper = env.robots[0].gripper
        self._is_gripper = _mask(model, gripper.contact_geoms)
        self._is_pad = [
            _mask(model, gripper.important_geoms[f"{side}_fingerpad"]) for side in ("left", "right")
        ]
        self._is_inside = verb == "in"
        self._place_site, self._place_body = -1, -1
        if place in env.object_sites_dict:
            self._place_site = model.site(place).id
            self._place_half_m = np.array(env.object_sites_dict[place].size, dtype=np.float64)
        else:
            self._place_body = int(env.obj_body_id[place])

    def begin(self, data: mujoco.MjData) -> None:
        self.start = data.xpos[self._body, 2:].copy()

    def progress(
        self, data: mujoco.MjData, ee_pos: Float64[np.ndarray, "3"], met: bool
    ) -> Progress:
        position = data.xpos[self._body].copy()
        height_m = float(position[2] - self.start[0])
        touching, grasped, alone = self._touch(data)
        held = grasped or (touching and (alone or height_m > HELD_M))
        distance = position[:2] - self._place_pos(data)[:2]
        return pick_and_place_progress(
            reached=touching or self._distance_m(data, ee_pos) < REACHED_M,
            grasped=held,
            lifted=held and height_m > LIFTED_M,
            over_goal=met or self._is_over(data, position),
            released=not touching,
            placed=met,
            object_height_m=height_m,
            goal_distance_m=float(np.hypot(*distance)),
            object_pos_world=position,
        )

    def _touch(self, data: mujoco.MjData) -> tuple[bool, bool, bool]:
        """Whether the gripper touches the object, whether both pads do, and whether nothing else does."""
        pairs = data.contact.geom
        other = np.concatenate(
            [pairs[self._is_thing[pairs[:, 0]], 1], pairs[self._is_thing[pairs[:, 1]], 0]]
        )
        pads = [bool(pad[other].any()) for pad in self._is_pad]
        return bool(self._is_gripper[other].any()), all(pads), bool(self._is_gripper[other].all())

    def _distance_m(self, data: mujoco.MjData, point: Float64[np.ndarray, "3"]) -> float:
        """From a point to the nearest bounding box of the object's geoms."""
        rotation = data.geom_xmat[self._geoms].reshape(-1, 3, 3)
        local = np.einsum("gij,gi->gj", rotation, point - data.geom_xpos[self._geoms])
        outside = np.maximum(np.abs(local - self._aabb[:, :3]) - self._aabb[:, 3:], 0.0)
        return float(np.linalg.norm(outside, axis=1).min())

    def _is_over(self, data: mujoco.MjData, position: Float64[np.ndarray, "3"]) -> bool:
        """LIBERO's own measures without their upper ends and contacts.

        On an object: `ObjectState.check_ontop`. On a site: `SiteObject.under`, whose matrix is not
        transposed. In a site: `SiteObject.in_box`, which turns the size into the world.
        """
        offset = position - self._place_pos(data)
        if self._place_site < 0:
            return bool(np.hypot(*offset[:2]) < ON_OBJECT_M and offset[2] >= 0)
        rotation = data.site_xmat[self._place_site].reshape(3, 3)
        if self._is_inside:
            half = np.abs(rotation @ self._place_half_m)
            return bool((np.abs(offset[:2]) < half[:2]).all() and offset[2] > IN_SITE_M - half[2])
        half, offset = self._place_half_m, rotation @ offset
        return bool((np.abs(offset[:2]) < half[:2]).all() and offset[2] > ON_SITE_M + half[2])

    def _place_pos(self, data: mujoco.MjData) -> Float64[np.ndarray, "3"]:
        return (
            data.site_xpos[self._place_site]
            if self._place_site >= 0
            else data.xpos[self._place_body]
        )


class JointGoal:
    """Something is to be opened, closed, or turned on or off."""

    def __init__(self, env, model: mujoco.MjModel, predicate: Sequence[str]) -> None:
        """Args:
        env: robosuite's environment.
        predicate: (verb, fixture or the site of one of its parts).
        """
        verb, thing = predicate
        self.declared = ARTICULATED.goal(" ".join(predicate), ARTICULATED_THRESHOLDS)
        is_site = thing in env.object_sites_dict
        owner = env.get_object(thing)
        joints = [model.joint(joint) for joint in owner.joints]
        self._any_joint = verb in _ANY_JOINT
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._part = int(model.jnt_bodyid[joints[0].id])
        articulated = env.get_object(owner.parent_name) if is_site else owner
        self._range = np.array(articulated.object_properties["articulation"][_JOINT_RANGES[verb]])
        self.start = np.zeros(len(joints))

    def begin(self, data: mujoco.MjData) -> None:
        self.start = data.qpos[self._qpos].copy()

    def progress(
        self, data: mujoco.MjData, ee_pos: Float64[np.ndarray, "3"], met: bool
    ) -> Progress:
        del ee_pos
        nearest = np.abs(self._range[:, None] - self.start).argmin(axis=0)
        way = self._range[nearest] - self.start
        gone = np.divide(
            data.qpos[self._qpos] - self.start, way, out=np.ones_like(way), where=np.abs(way) > 1e-9
        )
        share = float(gone.max() if self._any_joint else gone.min())
        share = max(share, 1.0) if met else min(share, 1.0)
        return articulated_progress(met, share, data.xipos[self._part].copy())


def make_goal(env, model: mujoco.MjModel, predicate: Sequence[str]) -> WatchedGoal:
    """Of one predicate of `env.parsed_problem["goal_state"]`."""
    return (JointGoal if predicate[0] in _JOINT_RANGES else PlaceGoal)(env, model, predicate)


def _collision_geoms_of(model: mujoco.MjModel, root: int) -> Int64[np.ndarray, " geom"]:
    """Of a body and all that hangs on it; of one that is part of another, its own."""
    is_part = root != model.body_rootid[root]
    own = model.geom_bodyid == root if is_part else model.body_rootid[model.geom_bodyid] == root
    return np.flatnonzero(own & collision_geoms(model))


def _mask(model: mujoco.MjModel, geoms: Sequence[str]) -> Bool[np.ndarray, " geom"]:
    mask = np.zeros(model.ngeom, dtype=bool)
    mask[[model.geom(geom).id for geom in geoms]] = True
    return mask
