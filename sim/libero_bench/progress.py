"""Measures the progress of each goal of a LIBERO task.

A goal is a predicate of the task's BDDL file. LIBERO's own code decides whether it holds
(`env._eval_predicate`). The way to it is measured here, with these rules:

- an object is held as `GripperContact.is_held` says, raised if it is above `HELD_M`;
- it is over the goal when its origin is where LIBERO's predicate requires it, or above that;
- a joint's progress is 0 at its position at reset. It is 1 at the nearest end of the range of
  angles that LIBERO's asset calls open, closed, on or off.
"""

from collections.abc import Sequence

import mujoco
import numpy as np

from sim.arrays import Vector3
from sim.env import Progress
from sim.goals.articulated import ARTICULATED, VERBS, articulated_progress
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.libero_bench.goal_thresholds import (
    ARTICULATED_THRESHOLDS,
    HELD_M,
    LIFTED_M,
    PICK_AND_PLACE_THRESHOLDS,
)
from sim.robosuite.carry_goal import CarryGoal
from sim.robosuite.goal_tracking import GoalTracker

# Margins of LIBERO's predicates, see `PlaceGoal._is_over`.
ON_OBJECT_M = 0.03
ON_SITE_M = -0.005
IN_SITE_M = -0.01

# One open or switched-on joint is enough for these verbs. The other verbs need all joints to be
# closed or off (LIBERO's ObjectState).
_ANY_JOINT = ("open", "turnon")


class PlaceGoal(CarryGoal):
    """Tracks an object that is to be brought into or onto a place."""

    def __init__(
        self,
        env,
        model: mujoco.MjModel,
        predicate: Sequence[str],
    ) -> None:
        """Look up the object, the gripper and the place.

        Args:
            env: robosuite's environment.
            predicate: ("in" or "on", object, place).
        """
        verb, target, place = predicate
        body = int(env.obj_body_id[target])
        super().__init__(env, model, body, held_m=HELD_M, lifted_m=LIFTED_M)
        self.declared = PICK_AND_PLACE.goal(" ".join(predicate), PICK_AND_PLACE_THRESHOLDS)
        self._is_inside = verb == "in"
        self._place_site = -1
        self._place_body = -1
        if place in env.object_sites_dict:
            self._place_site = model.site(place).id
            self._place_half_m = np.array(env.object_sites_dict[place].size, dtype=np.float64)
        else:
            self._place_body = int(env.obj_body_id[place])

    def _goal_xy(self, data: mujoco.MjData) -> np.ndarray:
        return self._place_pos(data)[:2]

    def _is_over(
        self,
        data: mujoco.MjData,
        position: Vector3,
    ) -> bool:
        """Apply LIBERO's predicates without their upper bounds and contacts.

        On an object: `ObjectState.check_ontop`. On a site: `SiteObject.under`, which does not
        transpose the matrix. In a site: `SiteObject.in_box`, which rotates the size into the world.
        """
        offset = position - self._place_pos(data)
        if self._place_site < 0:
            return bool(np.hypot(*offset[:2]) < ON_OBJECT_M and offset[2] >= 0)
        rotation = data.site_xmat[self._place_site].reshape(3, 3)
        if self._is_inside:
            half = np.abs(rotation @ self._place_half_m)
            lowest = IN_SITE_M - half[2]
        else:
            half = self._place_half_m
            lowest = ON_SITE_M + half[2]
            offset = rotation @ offset
        return bool((np.abs(offset[:2]) < half[:2]).all() and offset[2] > lowest)

    def _place_pos(self, data: mujoco.MjData) -> Vector3:
        if self._place_site >= 0:
            return data.site_xpos[self._place_site]
        return data.xpos[self._place_body]


class JointGoal:
    """Tracks a fixture that is to be opened, closed, or turned on or off."""

    def __init__(
        self,
        env,
        model: mujoco.MjModel,
        predicate: Sequence[str],
    ) -> None:
        """Look up the joints and the range that the verb asks for.

        Args:
            env: robosuite's environment.
            predicate: (verb, fixture or the site of one of its parts).
        """
        verb, target = predicate
        self.declared = ARTICULATED.goal(" ".join(predicate), ARTICULATED_THRESHOLDS)
        owner = env.get_object(target)
        joints = [model.joint(joint) for joint in owner.joints]
        self._any_joint = verb in _ANY_JOINT
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._part = int(model.jnt_bodyid[joints[0].id])
        is_site = target in env.object_sites_dict
        self._range = np.array(
            (env.get_object(owner.parent_name) if is_site else owner).object_properties[
                "articulation"
            ][f"default_{verb}_ranges"]
        )
        self.start = np.zeros(len(joints))

    def begin(self, data: mujoco.MjData) -> None:
        self.start = data.qpos[self._qpos].copy()

    def progress(
        self,
        data: mujoco.MjData,
        ee_pos: Vector3,
        met: bool,
    ) -> Progress:
        nearest = np.abs(self._range[:, None] - self.start).argmin(axis=0)
        way = self._range[nearest] - self.start
        # A joint that starts at its goal has nowhere to go, and counts as done.
        shares = np.divide(
            data.qpos[self._qpos] - self.start, way, out=np.ones_like(way), where=np.abs(way) > 1e-9
        )
        share = float(shares.max() if self._any_joint else shares.min())
        share = max(share, 1.0) if met else min(share, 1.0)
        return articulated_progress(met, share, data.xipos[self._part].copy())


def make_goal(
    env,
    model: mujoco.MjModel,
    predicate: Sequence[str],
) -> GoalTracker:
    """Return the tracker of one predicate of `env.parsed_problem["goal_state"]`."""
    return (JointGoal if predicate[0] in VERBS else PlaceGoal)(env, model, predicate)
