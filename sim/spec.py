"""The specification of an environment: pure data that is compared with a checkpoint."""

from dataclasses import dataclass, replace
from typing import Literal

from sim.errors import WhiskerError
from sim.goals.goal import Goal

# Whether an action is a difference from the present or a target.
ActionMode = Literal["delta", "absolute"]
# "once": an episode ends with the first success. "at_end": it runs to its last step, and that step
# decides.
SuccessRule = Literal["once", "at_end"]


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
    """Describes the meaning of one row of an action chunk.

    Attributes:
        names: one per dimension, in order.
        units: one per dimension.
        low: smallest value that the actuators accept, one per dimension.
        high: largest value that the actuators accept, one per dimension.
        mode: whether values are targets or differences from the present state. The gripper's value
            is always a target.
        rotation: representation of rotations; "none" for joint space.
        rotation_frame: frame of a rotation vector w: the robot's base or (only for deltas) the
            tool. A delta turns R into exp(w) R in the base frame and into R exp(w) in the tool
            frame. Positions and their deltas are always along the base's axes.
        gripper_index: dimension of the gripper; None if the tool has none, such as a wiper. The
            numbers of a gripper then mean nothing.
        gripper_closed: value at which the gripper is closed.
        gripper_open: value at which it is fully open.
        gripper_closes_below: opening, as a share from closed (0) to open (1), below which a
            command closes the gripper on an object. 0.15 is just above the SO-101's opening with
            its block between the jaws (0.14).
        more_gripper_indices: dimensions of the grippers of further arms. They have the same range.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    mode: ActionMode
    rotation: Literal["none", "axis_angle"]
    gripper_index: int | None
    gripper_closed: float
    gripper_open: float
    rotation_frame: Literal["none", "base", "tool"] = "none"
    gripper_closes_below: float = 0.15
    more_gripper_indices: tuple[int, ...] = ()

    @property
    def dim(self) -> int:
        return len(self.names)

    @property
    def gripper_indices(self) -> tuple[int, ...]:
        """Return the dimensions of all grippers, one for each arm that has one."""
        if self.gripper_index is None:
            return ()
        return (self.gripper_index, *self.more_gripper_indices)

    def split_by_gripper(self) -> "tuple[ActionSpec, ...]":
        """Return this spec once for each gripper, as if that gripper were the only one."""
        return tuple(
            replace(self, gripper_index=index, more_gripper_indices=())
            for index in self.gripper_indices
        )

    @property
    def gripper_is_binary(self) -> bool:
        """Return whether a command only opens or closes the gripper, by its side of the middle."""
        return self.gripper_closes_below == 0.5


@dataclass(frozen=True)
class EnvSpec:
    """The environment's side of the contract.

    Attributes:
        name: registry name, e.g. "so101/pick_place".
        task: determines the initial states, together with the episode index.
        cameras: the observed ones.
        instruction: the task in words. If there are several `instructions`, it is a pattern that
            covers all of them.
        max_steps: default number of control steps after which an episode ends.
        camera_names: every camera that could be observed.
        goals: all of them must hold for success. Empty in specs from before there were several.
        n_episodes: number of episodes. None: there is one for every index.
        instructions: each episode has one of them. The list is symmetric: the k-th from the end
            names nothing that the k-th names. Empty: every episode has `instruction`.
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
        """Return the one of `instructions` that names nothing that this one names.

        An unknown instruction is returned unchanged.
        """
        return dict(zip(self.instructions, reversed(self.instructions), strict=True)).get(
            instruction, instruction
        )

    def camera(self, name: str) -> CameraSpec:
        """Return the observed camera of that name.

        Raises:
            WhiskerError: the camera is not observed.
        """
        cameras = {camera.name: camera for camera in self.cameras}
        if name not in cameras:
            raise WhiskerError(
                f"camera {name!r}", expected=f"one that is observed: {', '.join(cameras) or 'none'}"
            )
        return cameras[name]


@dataclass(frozen=True)
class EnvListing:
    """An environment as `eval --list-envs` shows it.

    Attributes:
        max_steps: as in `EnvSpec`.
        suite: the suite that lists it, if there are too many environments to list each; else "".
    """

    name: str
    instruction: str
    max_steps: int
    suite: str = ""
