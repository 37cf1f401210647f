"""Defines the thresholds of the outcomes of SimplerEnv's goals.

None of these numbers was measured on policies in SimplerEnv.
"""

from sim.goals.goal import Threshold

# An object that is this much above its resting height, and held, has left the table.
LIFTED_M = 0.03
# The tool centre point is between the fingers, and the objects are 3 to 8 cm long.
NEAR_M = 0.05

THRESHOLDS = {
    "held_steps": Threshold(3, "chosen: 0.6 s at 5 Hz, as 0.5 s in LIBERO"),
    "raised_m": Threshold(0.02, "LIBERO's number"),
    "closing_steps": Threshold(2, "chosen: 0.4 s at 5 Hz, in which the fingers close"),
    "dropped_m": Threshold(LIFTED_M, "the height at which an object is clear of what it lay on"),
    "near_goal_m": Threshold(0.12, "LIBERO's number"),
    "near_gripper_m": Threshold(NEAR_M, "LIBERO's number"),
    "stalled_steps": Threshold(8, "LIBERO's 1.5 s at 5 Hz"),
    "stalled_m": Threshold(0.005, "LIBERO's number"),
}
