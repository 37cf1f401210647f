"""Lists robosuite's tasks: those that can be run, and those that are refused with the reason.

The import is light: no simulator is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sim.errors import UnknownNameError, WhiskerError
from sim.robosuite_tasks.conventions import BIN_CAMERAS, TABLE_CAMERAS, TWO_ARM_CAMERAS

PREFIX = "robosuite/"
LOW_DIM = "_low_dim"


@dataclass(frozen=True)
class RobosuiteTask:
    """One task.

    Attributes:
        name: name of robosuite's environment.
        instruction: robosuite has none, so this is Whisker's wording.
        camera_names: cameras of the scene.
        has_gripper: whether the tool has fingers. The one of Wipe has none.
        n_arms: number of Pandas. Two of them face each other.
    """

    name: str
    instruction: str
    camera_names: tuple[str, ...] = TABLE_CAMERAS
    has_gripper: bool = True
    n_arms: int = 1

    @property
    def task_name(self) -> str:
        """Return the name in rows and seeds."""
        return f"{PREFIX}{self.name}"

    @property
    def policy_cameras(self) -> tuple[str, ...]:
        """Return the cameras that are observed if none are named."""
        return self.camera_names[: 1 + self.n_arms]


TASKS: Mapping[str, RobosuiteTask] = {
    task.name: task
    for task in (
        RobosuiteTask("Lift", "Lift the cube."),
        RobosuiteTask("Stack", "Stack the red cube on the green cube."),
        RobosuiteTask("PickPlaceCan", "Put the can into its bin.", BIN_CAMERAS),
        RobosuiteTask("PickPlaceMilk", "Put the milk carton into its bin.", BIN_CAMERAS),
        RobosuiteTask("PickPlaceBread", "Put the bread into its bin.", BIN_CAMERAS),
        RobosuiteTask("PickPlaceCereal", "Put the cereal box into its bin.", BIN_CAMERAS),
        RobosuiteTask("NutAssemblySquare", "Put the square nut on the square peg."),
        RobosuiteTask("NutAssemblyRound", "Put the round nut on the round peg."),
        RobosuiteTask("Door", "Open the door."),
        RobosuiteTask("Wipe", "Wipe the table.", has_gripper=False),
        RobosuiteTask("TwoArmLift", "Lift the pot by its handles.", TWO_ARM_CAMERAS, n_arms=2),
    )
}

_SEVERAL = "several objects, each with a goal of its own, which is not implemented"
_DRAWN = "an object that is drawn by Python's own generator, which no seed of an episode reaches"
REFUSED: Mapping[str, str] = {
    "PickPlace": _SEVERAL,
    "PickPlaceSingle": _DRAWN,
    "NutAssembly": _SEVERAL,
    "NutAssemblySingle": _DRAWN,
    "TwoArmHandover": "a hammer that goes from hand to hand, a kind of goal that is not defined",
    "TwoArmPegInHole": "two arms without grippers that hold a peg and a hole, a kind of goal that "
    "is not defined",
}


def find_task(name: str) -> RobosuiteTask:
    """Return the task of an environment.

    Args:
        name: "robosuite/<robosuite's name>", perhaps with `LOW_DIM` at its end.

    Raises:
        WhiskerError: robosuite has the task, but it cannot be run here.
        UnknownNameError: there is no such task.
    """
    base = name.removeprefix(PREFIX).removesuffix(LOW_DIM)
    if base in REFUSED:
        raise WhiskerError(
            f"environment {name!r}",
            expected=f"a task that runs here: {', '.join(TASKS)}",
            got=f"one with {REFUSED[base]}",
        )
    if base not in TASKS:
        raise UnknownNameError("environment", name, [PREFIX + known for known in TASKS])
    return TASKS[base]
