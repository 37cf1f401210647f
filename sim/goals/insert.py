"""The kind of goal in which an object with a hole is put onto a peg."""

from sim.goals.goal import GoalKind
from sim.goals.pick_and_place import PICK_AND_PLACE

INSERT = GoalKind(
    name="insert",
    stages={
        **PICK_AND_PLACE.stages,
        "over_goal": "the peg is within the object's hole, or below it",
        "placed": "the object is all the way down the peg, and the gripper is away",
    },
    measures={
        "object_height_m": "height of the object above where it rests at the start",
        "goal_distance_m": "horizontal distance from the middle of the hole to the peg",
        "depth_left_m": "how much further down the object has to be; negative below the goal",
    },
    thresholds=PICK_AND_PLACE.thresholds,
)
