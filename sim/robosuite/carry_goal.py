"""Measures the progress of goals to which an object is carried: a place, an object or a peg."""

from dataclasses import replace

import mujoco
import numpy as np

from sim.arrays import Vector3
from sim.env import Progress
from sim.goals.goal import Goal
from sim.goals.pick_and_place import pick_and_place_progress
from sim.robosuite.held_object import HeldObject


class CarryGoal:
    """Tracks an object that is carried to a goal.

    Subclasses define the kind, where the goal is, and when the object is over it.
    """

    declared: Goal

    def __init__(
        self,
        env,
        model: mujoco.MjModel,
        body: int,
        *,
        held_m: float,
        lifted_m: float,
        support_m: float | None = None,
    ) -> None:
        """Look up the object.

        Args:
            env: robosuite's environment.
            body: id of the object's body.
            held_m: height above which an object that the gripper touches is held.
            lifted_m: height above which a held object has left its support.
            support_m: height of what the object lies on at the start, m, world. None: the object
                begins at rest.
        """
        self._object = HeldObject(env, model, body)
        self._held_m = held_m
        self._lifted_m = lifted_m
        self._support_m = support_m
        self.start: np.ndarray = np.zeros(1)

    def begin(self, data: mujoco.MjData) -> None:
        if self._support_m is None:
            self.start = data.xpos[self._object.body, 2:].copy()
        else:
            self.start = np.array([self._object.resting_height(data, self._support_m)])

    def progress(
        self,
        data: mujoco.MjData,
        ee_pos: Vector3,
        met: bool,
    ) -> Progress:
        position = data.xpos[self._object.body].copy()
        height_m = float(position[2] - self.start[0])
        contact = self._object.contact(data, ee_pos)
        is_held = contact.is_held(height_m, self._held_m)
        progress = pick_and_place_progress(
            reached=contact.is_reached,
            grasped=is_held,
            lifted=is_held and height_m > self._lifted_m,
            over_goal=met or self._is_over(data, position),
            released=not contact.is_touching,
            placed=met,
            object_height_m=height_m,
            goal_distance_m=float(np.hypot(*(position[:2] - self._goal_xy(data)))),
            object_pos_world=position,
        )
        more = self._measure_more(data, position)
        return replace(progress, measures={**progress.measures, **more})

    def _goal_xy(self, data: mujoco.MjData) -> np.ndarray:
        """Return the horizontal position of the goal, m, world."""
        raise NotImplementedError

    def _is_over(
        self,
        data: mujoco.MjData,
        position: Vector3,
    ) -> bool:
        """Return whether the object at this position is above or inside the goal."""
        raise NotImplementedError

    def _measure_more(
        self,
        data: mujoco.MjData,
        position: Vector3,
    ) -> dict[str, float]:
        """Return the measures that only this kind of goal has."""
        return {}
