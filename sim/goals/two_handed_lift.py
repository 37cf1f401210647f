"""The kind of goal in which two hands lift an object by its two handles."""

from sim.goals.goal import GoalKind
from sim.goals.pick_and_place import PICK_AND_PLACE

_GRASP_THRESHOLDS = (
    "held_steps",
    "raised_m",
    "stalled_steps",
    "stalled_m",
)

TWO_HANDED_LIFT = GoalKind(
    name="two_handed_lift",
    stages={
        "reached": "each hand is at its handle",
        "grasped": "each hand holds its handle",
        "lifted": "both hold it, and the object is clear of what it lay on",
        "raised": "the object is as high as the task asks for, whatever holds it",
    },
    measures={
        "object_height_m": "height of the object above where it rests",
        "height_left_m": "height that it still lacks; negative above the goal",
        "tilt_rad": "angle between the object's axis and the vertical",
        "farther_hand_m": "distance from the farther hand to its handle",
    },
    thresholds={name: PICK_AND_PLACE.thresholds[name] for name in _GRASP_THRESHOLDS},
)
