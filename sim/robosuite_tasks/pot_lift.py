"""Measures the progress of robosuite's TwoArmLift, in which each hand has a handle of the pot."""

import mujoco
import numpy as np

from sim.arrays import Vector3
from sim.env import Progress
from sim.goals.two_handed_lift import TWO_HANDED_LIFT
from sim.robosuite.held_object import GripperContact, HeldObject
from sim.robosuite_tasks.goal_thresholds import HELD_M, LIFTED_M, TWO_HANDED_LIFT_THRESHOLDS

# robosuite's TwoArmLift._check_success.
_LIFT_M = 0.10


class PotGoal:
    """Tracks the pot of TwoArmLift and how each hand holds its handle."""

    def __init__(self, env, model: mujoco.MjModel) -> None:
        self.declared = TWO_HANDED_LIFT.goal("lift pot", TWO_HANDED_LIFT_THRESHOLDS)
        # The pot begins at rest, so nothing is measured at the start.
        self.start: np.ndarray = np.zeros(0)
        self._body = env.pot_body_id
        self._bottom = env.pot_center_id
        self._bottom_offset_m = float(env.pot.top_offset[2])
        self._table = env.table_top_id
        self._grip_sites = [robot.eef_site_id for robot in env.robots]
        self._handle_sites = [env.handle0_site_id, env.handle1_site_id]
        handles = (env.pot.handle0_geoms, env.pot.handle1_geoms)
        self._handles = [
            HeldObject(env, model, self._body, geoms=geoms, robot_index=index)
            for index, geoms in enumerate(handles)
        ]

    def begin(self, data: mujoco.MjData) -> None:
        """Measure nothing, because the pot begins at rest."""

    def progress(
        self,
        data: mujoco.MjData,
        ee_pos: Vector3,
        met: bool,
    ) -> Progress:
        """Return the progress. `ee_pos` is not used, since both hands are looked up."""
        bottom_m = data.site_xpos[self._bottom, 2] - self._bottom_offset_m
        height_m = float(bottom_m - data.site_xpos[self._table, 2])
        hands = data.site_xpos[self._grip_sites]
        to_handle_m = np.linalg.norm(hands - data.site_xpos[self._handle_sites], axis=1)
        contacts = [
            handle.contact(data, hand) for handle, hand in zip(self._handles, hands, strict=True)
        ]
        is_held = all(_holds(contact, height_m) for contact in contacts)
        # The last number of the rotation is the cosine, which rounding can carry above 1.
        tilt_rad = float(np.arccos(min(1.0, data.xmat[self._body, 8])))
        return Progress(
            met,
            stages={
                "reached": all(contact.is_reached for contact in contacts),
                "grasped": is_held,
                "lifted": is_held and height_m > LIFTED_M,
                "raised": met,
            },
            measures={
                "object_height_m": height_m,
                "height_left_m": _LIFT_M - height_m,
                "tilt_rad": tilt_rad,
                "farther_hand_m": float(to_handle_m.max()),
            },
            object_pos_world=data.xpos[self._body].copy(),
        )


def _holds(contact: GripperContact, height_m: float) -> bool:
    """Return whether a hand holds its handle.

    A pad can leave a raised handle for moments, so touching it is then enough.
    """
    return contact.is_between_pads or (contact.is_touching and height_m > HELD_M)
