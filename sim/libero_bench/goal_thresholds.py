"""Defines the thresholds of the outcomes of LIBERO's goals.

Several numbers are those of the SO-101; none of these was measured in LIBERO. They were kept
because the labels that they give agree with the stills of 29 LIBERO failures in 27 outcomes, 29
stages and 24 steps of 26 (`docs/outcomes.md`).
"""

from sim.goals.goal import Threshold

# A held object that is this much above its resting height has left its support.
LIFTED_M = 0.03
# An object that the gripper touches counts as held if it is raised by this much. A bowl hangs by
# its rim, on one pad.
HELD_M = 0.02

_SAME = "the SO-101's number, which agrees with the stills of LIBERO failures"
_STALLED_STEPS = Threshold(30, f"{_SAME}; 1.5 s at 20 Hz")
_STALLED_M = Threshold(0.005, _SAME)

PICK_AND_PLACE_THRESHOLDS = {
    "held_steps": Threshold(10, f"{_SAME}; 0.5 s at 20 Hz"),
    "raised_m": Threshold(
        HELD_M, "the height that tells a bowl that hangs by its rim; the SO-101's number too"
    ),
    "closing_steps": Threshold(5, f"{_SAME}; 0.25 s at 20 Hz"),
    "dropped_m": Threshold(LIFTED_M, "the height at which an object is clear of what it lay on"),
    "near_goal_m": Threshold(
        0.12, f"{_SAME}; one number for all goals, too small for a wide basket"
    ),
    "near_gripper_m": Threshold(0.05, _SAME),
    "stalled_steps": _STALLED_STEPS,
    "stalled_m": _STALLED_M,
}
ARTICULATED_THRESHOLDS = {
    "begun_joint_progress": Threshold(
        0.1, "chosen: a tenth of the way is more than a touch in passing"
    ),
    "stalled_steps": _STALLED_STEPS,
    "stalled_m": _STALLED_M,
    "stalled_joint_progress": Threshold(0.02, "chosen"),
}
