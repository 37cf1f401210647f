"""The goals of the SO-101's tasks, and the thresholds of their verdicts.

The measurements are in `docs/outcomes.md`.
"""

from sim.goals.goal import Goal, Threshold
from sim.goals.pick_and_place import PICK_AND_PLACE

# A grasped object is clear of the table if it is this far above its height at rest.
LIFTED_M = 0.03

THRESHOLDS = {
    "held_steps": Threshold(
        10,
        "measured on act-early: contacts that lifted the block lasted 15 steps or more, "
        "others 8 or fewer",
    ),
    "raised_m": Threshold(
        0.02, "measured on act-early: contacts that lifted the block raised it by 5.8 cm or more"
    ),
    "closing_steps": Threshold(
        5, "measured: the jaws of act-early are shut 2 to 8 steps after the command"
    ),
    "dropped_m": Threshold(LIFTED_M, "the height at which an object is clear of the table"),
    "near_goal_m": Threshold(0.12, "about twice the radius of the bowl"),
    "near_gripper_m": Threshold(
        0.05,
        "measured: closings of act-early that were meant for the block came within 3.7 cm, "
        "others from 7 cm on",
    ),
    "stalled_steps": Threshold(30, "a second at 30 Hz"),
    "stalled_m": Threshold(0.005, "chosen: a fifth of the block's edge"),
}


def declare_goal(name: str) -> Goal:
    """Return a goal of that name with the SO-101's thresholds."""
    return PICK_AND_PLACE.goal(name, THRESHOLDS)
