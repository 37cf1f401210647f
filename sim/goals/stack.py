"""The kind of goal in which an object is put on top of another one that can be pushed away."""

from sim.goals.goal import GoalKind
from sim.goals.pick_and_place import PICK_AND_PLACE

STACK = GoalKind(
    name="stack",
    stages={
        **PICK_AND_PLACE.stages,
        "over_goal": "the middle of the object is above the other object",
        "placed": "it lies on the other object, and the gripper does not hold it",
    },
    measures={
        "object_height_m": "height of the object above where it rests at the start",
        "goal_distance_m": "horizontal distance between the two objects",
        "base_shift_m": "horizontal distance by which the lower object was pushed from its start",
    },
    thresholds=PICK_AND_PLACE.thresholds,
)
