"""The kind of goal in which a door with a handle is opened."""

from sim.goals.goal import GoalKind

DOOR = GoalKind(
    name="door",
    stages={
        "reached": "the gripper touches the handle",
        "unlatched": "the handle is turned so far that the door can swing, or the door is ajar",
        "opened": "the door is as far open as the task asks for",
    },
    measures={
        "handle_rad": "angle by which the handle is turned",
        "hinge_rad": "angle by which the door is open",
        "opening_left_rad": "angle by which the door is not open enough; negative beyond the goal",
    },
    nears="opening_left_rad",
    thresholds={
        "stalled": "an opening by less than this [rad] is no progress",
        "stalled_steps": "control steps without progress at the end that distinguish a stalled "
        "episode from a short one",
    },
)
