"""The kind of goal in which an object is brought into or onto something."""

import numpy as np
from jaxtyping import Float64

from sim.env import Progress
from sim.goals.goal import GoalKind

PICK_AND_PLACE = GoalKind(
    name="pick_and_place",
    stages={
        "reached": "the gripper is around the object",
        "grasped": "both jaws touch the object, if only for this moment: what counts as a grasp in an outcome is for "
        "`eval.grasps.find_grasps` to say",
        "lifted": "grasped and clear of the table",
        "over_goal": "the object is above or inside the goal's rim",
        "released": "no jaw touches the object",
        "placed": "inside the goal, released and at rest",
    },
    measures={
        "object_height_m": "height of the object above where it rests at the start of the episode",
        "goal_distance_m": "horizontal distance from the object to the middle of the goal",
    },
    thresholds={
        "held_steps": "moments of contact with both jaws that make a grasp",
        "raised_m": "a shorter contact is a grasp all the same if it raises the object by this much",
        "closing_steps": "control steps of a closing command that make a closing: by then the jaws are shut",
        "dropped_m": "an object that is lower than this after it was carried has come down",
        "near_goal_m": "horizontal distance from the goal's middle within which an object was put beside the goal",
        "near_gripper_m": "distance from the tool centre point to the object within which a closing was meant for it",
        "stalled_steps": "control steps without progress before the end that tell a stalled episode from a short one",
        "stalled_m": "coming nearer, or higher, by less than this is no progress",
    },
)


def pick_and_place_progress(
    *,
    reached: bool,
    grasped: bool,
    lifted: bool,
    over_goal: bool,
    released: bool,
    placed: bool,
    object_height_m: float,
    goal_distance_m: float,
    object_pos_world: Float64[np.ndarray, "3"],
) -> Progress:
    """Return the progress of a goal of this kind. It is met where the object is placed."""
    return Progress(
        met=placed,
        stages={
            "reached": reached,
            "grasped": grasped,
            "lifted": lifted,
            "over_goal": over_goal,
            "released": released,
            "placed": placed,
        },
        measures={"object_height_m": object_height_m, "goal_distance_m": goal_distance_m},
        object_pos_world=object_pos_world,
    )
