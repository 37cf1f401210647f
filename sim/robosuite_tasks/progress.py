"""Measures the progress of robosuite's goals.

robosuite's own `_check_success` decides whether a goal holds. The way to it is measured here.
"""

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from sim.arrays import Vector3
from sim.env import Progress
from sim.goals.door import DOOR
from sim.goals.lift import LIFT, lift_progress
from sim.robosuite.goal_tracking import GoalTracker
from sim.robosuite.held_object import HeldObject, make_mask
from sim.robosuite_tasks.carrying import BinGoal, PegGoal, StackGoal
from sim.robosuite_tasks.goal_thresholds import (
    AJAR_RAD,
    DOOR_THRESHOLDS,
    HELD_M,
    LIFT_THRESHOLDS,
    UNLATCHED_RAD,
)
from sim.robosuite_tasks.pot_lift import PotGoal
from sim.robosuite_tasks.wiping import WipeGoal

# robosuite's Lift._check_success.
_LIFT_M = 0.04
# robosuite's Door._check_success.
_OPEN_RAD = 0.3


class LiftGoal:
    """Tracks the cube of Lift."""

    def __init__(self, env, model: mujoco.MjModel) -> None:
        self.declared = LIFT.goal("lift cube", LIFT_THRESHOLDS)
        self.start: np.ndarray = np.zeros(1)
        self._table_m = float(env.table_offset[2])
        self._cube = HeldObject(env, model, env.cube_body_id)

    def begin(self, data: mujoco.MjData) -> None:
        self.start = np.array([self._cube.resting_height(data, self._table_m)])

    def progress(
        self,
        data: mujoco.MjData,
        ee_pos: Vector3,
        met: bool,
    ) -> Progress:
        position = data.xpos[self._cube.body].copy()
        height_m = float(position[2] - self.start[0])
        contact = self._cube.contact(data, ee_pos)
        return lift_progress(
            met=met,
            reached=contact.is_reached,
            grasped=contact.is_held(height_m, HELD_M),
            object_height_m=height_m,
            height_left_m=self._table_m + _LIFT_M - float(position[2]),
            object_pos_world=position,
        )


class DoorGoal:
    """Tracks the handle and the hinge of Door."""

    def __init__(self, env, model: mujoco.MjModel) -> None:
        self.declared = DOOR.goal("open door", DOOR_THRESHOLDS)
        self.start = np.zeros(0)
        self._hinge = env.hinge_qpos_addr
        self._handle = env.handle_qpos_addr
        self._site = env.door_handle_site_id
        latch = env.object_body_ids["latch"]
        self._is_handle = model.geom_bodyid == latch
        self._is_gripper = make_mask(model, env.robots[0].gripper.contact_geoms)

    def begin(self, data: mujoco.MjData) -> None:
        """Measure nothing, because every door begins closed."""

    def progress(
        self,
        data: mujoco.MjData,
        ee_pos: Vector3,
        met: bool,
    ) -> Progress:
        first, second = data.contact.geom.T
        touching = (self._is_gripper[first] & self._is_handle[second]) | (
            self._is_gripper[second] & self._is_handle[first]
        )
        hinge_rad = float(data.qpos[self._hinge])
        handle_rad = abs(float(data.qpos[self._handle]))
        return Progress(
            met,
            stages={
                "reached": bool(touching.any()),
                "unlatched": handle_rad > UNLATCHED_RAD or hinge_rad > AJAR_RAD,
                "opened": met,
            },
            measures={
                "handle_rad": handle_rad,
                "hinge_rad": hinge_rad,
                "opening_left_rad": _OPEN_RAD - hinge_rad,
            },
            object_pos_world=data.site_xpos[self._site].copy(),
        )


# Name of robosuite's class, or of a base of it → the tracker of its goal.
_TRACKERS: dict[str, Callable[[Any, mujoco.MjModel], GoalTracker]] = {
    "Lift": LiftGoal,
    "Stack": StackGoal,
    "PickPlace": BinGoal,
    "NutAssembly": PegGoal,
    "Door": DoorGoal,
    "Wipe": WipeGoal,
    "TwoArmLift": PotGoal,
}


def make_goal(env, model: mujoco.MjModel) -> GoalTracker:
    """Return the tracker of the goal of a robosuite environment."""
    class_names = (base.__name__ for base in type(env).__mro__)
    return next(_TRACKERS[name] for name in class_names if name in _TRACKERS)(env, model)
