"""The kind of goal in which an object is moved into or onto something."""

from sim.arrays import Vector3
from sim.env import Progress
from sim.goals.goal import GoalKind

# A goal of any kind that has these stages is one in which an object is picked up.
PICKING_STAGES = frozenset({"grasped", "lifted"})

PICK_AND_PLACE = GoalKind(
    name="pick_and_place",
    stages={
        "reached": "the gripper is around the object",
        "grasped": "both jaws touch the object now; `eval.grasps.find_grasps` decides what counts "
        "as a grasp in an outcome",
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
        "held_steps": "steps of contact with both jaws that make a grasp",
        "raised_m": "a shorter contact is also a grasp if it raises the object by this much",
        "closing_steps": "control steps of a closing command after which the jaws are shut",
        "dropped_m": "an object lower than this after it was carried has come down",
        "near_goal_m": "horizontal distance from the goal's center within which an object was put "
        "beside the goal",
        "near_gripper_m": "distance from the tool centre point to the object within which a "
        "closing was meant for it",
        "stalled_steps": "control steps without progress at the end that distinguish a stalled "
        "episode from a short one",
        "stalled_m": "coming nearer, or higher, by less than this is no progress",
    },
)


def pick_and_place_progress(
    *,
    object_height_m: float,
    goal_distance_m: float,
    object_pos_world: Vector3,
    **stages: bool,
) -> Progress:
    """Return the progress of a goal of this kind. It is met when the object is placed.

    Args:
        stages: whether each of the kind's stages holds now.
    """
    return Progress(
        met=stages["placed"],
        stages=stages,
        measures={"object_height_m": object_height_m, "goal_distance_m": goal_distance_m},
        object_pos_world=object_pos_world,
    )
