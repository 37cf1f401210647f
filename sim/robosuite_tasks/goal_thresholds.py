"""Defines the thresholds of the outcomes of robosuite's goals.

None of these numbers was measured on policies in robosuite. They are those of LIBERO, which has the
same arm, gripper and control rate, and of the SO-101.
"""

from sim.goals.goal import Threshold
from sim.goals.lift import LIFT
from sim.goals.two_handed_lift import TWO_HANDED_LIFT

# A held object that is this much above its resting height has left its support.
LIFTED_M = 0.03
# An object that the gripper touches counts as held if it is raised by this much.
HELD_M = 0.02
# Measured by holding the handle at an angle, in steps of 0.05 rad, and pulling the hinge with 5 Nm
# for half a second: up to 1.20 rad the latch holds the door at 0.11 rad or less, and from 1.25 rad
# on the door swings to its stop.
UNLATCHED_RAD = 1.22
AJAR_RAD = 0.12

_SAME = "LIBERO's number: the same arm, gripper and control rate"
_STALLED_STEPS = Threshold(30, f"{_SAME}; 1.5 s at 20 Hz")

PICK_THRESHOLDS = {
    "held_steps": Threshold(10, f"{_SAME}; 0.5 s at 20 Hz"),
    "raised_m": Threshold(HELD_M, _SAME),
    "closing_steps": Threshold(5, f"{_SAME}; 0.25 s at 20 Hz"),
    "dropped_m": Threshold(LIFTED_M, "the height at which an object is clear of what it lay on"),
    "near_goal_m": Threshold(0.12, _SAME),
    "near_gripper_m": Threshold(0.05, _SAME),
    "stalled_steps": _STALLED_STEPS,
    "stalled_m": Threshold(0.005, _SAME),
}
LIFT_THRESHOLDS = {name: PICK_THRESHOLDS[name] for name in LIFT.thresholds} | {
    "raised_m": Threshold(0.01, "chosen: half of the 2 cm by which the task lifts its cube"),
}
TWO_HANDED_LIFT_THRESHOLDS = {name: PICK_THRESHOLDS[name] for name in TWO_HANDED_LIFT.thresholds}
# Distance from the middle of the wiping tool to a marker. robosuite wipes a marker off if it is
# inside the rectangle of the tool's corners (13 cm from corner to corner) and up to 2 cm above it.
AT_MARKER_M = 0.07
WIPE_THRESHOLDS = {
    "stalled_m": Threshold(0.005, _SAME),
    "stalled": Threshold(0.5, "chosen: markers are counted, so one more is progress"),
    "stalled_steps": _STALLED_STEPS,
}
DOOR_THRESHOLDS = {
    "stalled": Threshold(0.006, "chosen: 2 % of the 0.3 rad of the task, as for LIBERO's joints"),
    "stalled_steps": _STALLED_STEPS,
}
