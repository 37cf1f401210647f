"""The kind of goal in which a door, drawer or knob is moved. It has no stages."""

from sim.arrays import Vector3
from sim.env import Progress
from sim.goals.goal import GoalKind

# Names of such goals begin with one of these.
VERBS = ("open", "close", "turnon", "turnoff")

ARTICULATED = GoalKind(
    name="articulated",
    measures={"joint_progress": "0 where the joint was at reset, 1 where the goal begins to hold"},
    thresholds={
        "begun_joint_progress": "a goal whose joint was ever further than this was begun",
        "stalled_steps": "control steps without progress at the end that distinguish a stalled "
        "episode from a short one",
        "stalled_m": "an approach of the gripper to the part by less than this is no progress",
        "stalled_joint_progress": "a joint movement by less than this is no progress",
    },
)


def articulated_progress(
    met: bool,
    joint_progress: float,
    part_pos_world: Vector3,
) -> Progress:
    """Return the progress of a goal of this kind.

    Args:
        part_pos_world: position of the moving part, m.
    """
    return Progress(
        met,
        measures={"joint_progress": joint_progress},
        object_pos_world=part_pos_world,
    )
