"""The kind of goal in which an object is lifted, and that is all."""

from sim.arrays import Vector3
from sim.env import Progress
from sim.goals.goal import GoalKind
from sim.goals.pick_and_place import PICK_AND_PLACE

_GRASP_THRESHOLDS = (
    "held_steps",
    "raised_m",
    "closing_steps",
    "near_gripper_m",
    "stalled_steps",
    "stalled_m",
)

LIFT = GoalKind(
    name="lift",
    stages={
        "reached": PICK_AND_PLACE.stages["reached"],
        "grasped": PICK_AND_PLACE.stages["grasped"],
        "lifted": "the object is as high as the task asks for, whatever holds it",
    },
    measures={
        "object_height_m": "height of the object above where it rests",
        "height_left_m": "height that it still lacks; negative above the goal",
    },
    thresholds={name: PICK_AND_PLACE.thresholds[name] for name in _GRASP_THRESHOLDS},
)


def lift_progress(
    *,
    met: bool,
    reached: bool,
    grasped: bool,
    object_height_m: float,
    height_left_m: float,
    object_pos_world: Vector3,
) -> Progress:
    """Return the progress of a goal of this kind."""
    return Progress(
        met,
        stages={"reached": reached, "grasped": grasped, "lifted": met},
        measures={"object_height_m": object_height_m, "height_left_m": height_left_m},
        object_pos_world=object_pos_world,
    )
