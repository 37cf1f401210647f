"""What an environment declares about itself: pure data, compared with a checkpoint before anything runs."""

from dataclasses import dataclass
from typing import Literal

from sim.errors import WhiskerError
from sim.goals.goal import Goal

# How end-effector actions are read, where there is a choice.
# Whether an action is a difference from the present or a target.
ActionMode = Literal["delta", "absolute"]


@dataclass(frozen=True)
class CameraSpec:
    """One image stream.

    Attributes:
        depth_range_m: distances shown as 0 and 255 in a depth image; None for colour.
    """

    name: str
    height_px: int
    width_px: int
    fovy_deg: float
    depth_range_m: tuple[float, float] | None = None


@dataclass(frozen=True)
class ActionSpec:
    """Describes what one row of an action chunk means.

    Attributes:
        names: one a dimension, in order.
        units: one a dimension.
        low: smallest value the actuators accept, one a dimension.
        high: largest value the actuators accept, one a dimension.
        mode: whether a value is a target or a difference from the present; the gripper's is always
            a target.
        rotation: how rotations are written; "none" for joint space.
        rotation_frame: where a rotation vector w is written: in the robot's base, or (deltas alone)
            in the tool. A delta turns R into exp(w) R in the first case and into R exp(w) in the
            second. Positions and their deltas are always along the base's axes.
        gripper_index: the dimension that is the gripper.
        gripper_closed: value at which the gripper is closed.
        gripper_open: value at which it is wide open.
        gripper_closes_below: share of the way from closed (0) to open (1) below which a command
            closes the gripper on an object. 0.15 is just above the SO-101's opening with its block
            between the jaws (0.14).
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    mode: ActionMode
    rotation: Literal["none", "axis_angle"]
    gripper_index: int
    gripper_closed: float
    gripper_open: float
    rotation_frame: Literal["none", "base", "tool"] = "none"
    gripper_closes_below: float = 0.15

    @property
    def dim(self) -> int:
        return len(self.names)

    @property
    def gripper_is_binary(self) -> bool:
        """Return whether a command only opens or closes the gripper, by its side of the middle."""
        return self.gripper_closes_below == 0.5


@dataclass(frozen=True)
class EnvSpec:
    """The environment's side of the contract.

    Attributes:
        name: registry name, e.g. "so101/pick_place".
        task: what the initial states are a function of, together with the episode index.
        cameras: those that are observed.
        instruction: what the robot is told to do; of a task with several `instructions`, all of
            them in one pattern.
        max_steps: control steps after which an episode is over, unless somebody asks for another number.
        camera_names: every camera that could be observed.
        goals: what has to hold for success, all of it. Specs from before there were several have
            none.
        n_episodes: how many there are; None: one for every index.
        instructions: those of which each episode has one. The list is symmetric: the k-th from the
            end names none of what the k-th names. Empty: every episode has `instruction`.
    """

    name: str
    task: str
    instruction: str
    cameras: tuple[CameraSpec, ...]
    state_names: tuple[str, ...]
    state_units: tuple[str, ...]
    action: ActionSpec
    control_dt_s: float
    physics_dt_s: float
    max_steps: int
    camera_names: tuple[str, ...] = ()
    goals: tuple[Goal, ...] = ()
    n_episodes: int | None = None
    instructions: tuple[str, ...] = ()

    def opposite_instruction(self, instruction: str) -> str:
        """Return the one of `instructions` that names none of what this one names; an unknown one as it is."""
        return dict(zip(self.instructions, reversed(self.instructions), strict=True)).get(
            instruction, instruction
        )

    def camera(self, name: str) -> CameraSpec:
        """The observed camera of that name.

        Raises:
            WhiskerError: it is not observed.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        observed = ", ".join(camera.name for camera in self.cameras) or "none"
        raise WhiskerError(
            f"camera {name!r}",
            expected=f"one that is observed: {observed}",
        )


@dataclass(frozen=True)
class EnvListing:
    """An environment as `eval --list-envs` shows it.

    Attributes:
        max_steps: as in `EnvSpec`.
        suite: that lists it, where there are too many to list them all; "" for one that is listed
            by itself.
    """

    name: str
    instruction: str
    max_steps: int
    suite: str = ""
