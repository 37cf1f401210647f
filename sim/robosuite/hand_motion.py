"""Moves the hand of a scripted expert: each motion is a generator of control steps."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from sim.robosuite.expert_scene import ExpertScene
from sim.robosuite.grasping import PALM_U_M
from sim.robosuite.height_map import COARSE_CELL_M, GeomMask, HeightMap, Matrix, Position

# A generator that sets the target of each control step and yields once a control step.
Motion = Iterator[None]

OPEN = -1.0
CLOSED = 1.0
UP = np.array([0.0, 0.0, 1.0])

# Units of an action, and the gain of the position controller.
POSITION_UNIT_M = 0.05
ROTATION_UNIT_RAD = 0.5
GAIN = 1.5

OVER_OBSTACLES_M = 0.03
RETREAT_M = 0.12
N_GRIPPER_STEPS = 10
# A motion ends when it has not come this much nearer for so many steps.
_STALLED_M = 0.001
_STALLED_STEPS = 8
_TURNED_RAD = 0.05
_M_PER_RAD = 0.05


def pointing_down(yaw_rad: float) -> Matrix:
    """Return the columns u, v, w of a hand that points down and opens along the yaw."""
    cos = np.cos(yaw_rad)
    sin = np.sin(yaw_rad)
    return np.array(
        [
            [cos, sin, 0.0],
            [sin, -cos, 0.0],
            [0.0, 0.0, -1.0],
        ]
    )


class StallCounter:
    """Counts the steps since a value last fell by more than a tolerance."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._lowest = np.inf
        self.n_steps = 0

    def update(self, value: float) -> None:
        if value < self._lowest - self._tolerance:
            self._lowest = value
            self.n_steps = 0
        else:
            self.n_steps += 1


class HandMotion:
    """Controls the hand proportionally towards a target pose.

    Attributes:
        target: position of the grip site, m, world.
        rotation: columns u, v, w of the hand.
        gripper: command, `OPEN` or `CLOSED`.
    """

    def __init__(self, scene: ExpertScene) -> None:
        self._scene = scene
        self.reset()

    def reset(self) -> None:
        """Set the pose that the hand has in every init state."""
        self.gripper = OPEN
        self.rotation = pointing_down(np.pi / 2)
        self.target = np.zeros(3)

    def action(self) -> Float64[np.ndarray, " action_dim"]:
        """Return the action towards the target.

        Under absolute control it is the pose that the relative action asks for.
        """
        position = self._scene.hand_position()
        step = GAIN * (self.target - position) / POSITION_UNIT_M
        step = step / max(1.0, np.abs(step).max())
        turn = np.clip(self._remaining_turn() / ROTATION_UNIT_RAD, -1.0, 1.0)
        if self._scene.env.spec.action.mode == "absolute":
            step = position + POSITION_UNIT_M * step
            turn = (
                Rotation.from_rotvec(ROTATION_UNIT_RAD * turn)
                * Rotation.from_matrix(self._scene.hand_rotation())
            ).as_rotvec()
        has_gripper = self._scene.env.spec.action.gripper_index is not None
        return np.concatenate([step, turn, [self.gripper] if has_gripper else []])

    def travel(
        self,
        target: Position,
        hang_m: float,
    ) -> Motion:
        """Go up, across and down to the target.

        Args:
            hang_m: how far the hand reaches below the grip site.
        """
        yield from self.cross(target, hang_m, self._scene.is_robot)
        yield from self.go(target, 0.01)

    def cross(
        self,
        target: Position,
        hang_m: float,
        ignored: GeomMask,
    ) -> Motion:
        """Go to the target or above it, over every obstacle within the palm's reach of the way.

        Args:
            hang_m: how far hand and load reach below the grip site.
            ignored: geoms that are no obstacles.
        """
        start = self._scene.hand_position()
        model = self._scene.model
        data = self._scene.data
        # LIBERO drops some objects from high above at the start of an episode. The hand does not
        # avoid these.
        is_overhead = data.geom_xpos[:, 2] - model.geom_rbound > max(start[2], target[2])
        heights = HeightMap(
            model,
            data,
            np.minimum(start, target)[:2] - PALM_U_M,
            np.maximum(start, target)[:2] + PALM_U_M,
            COARSE_CELL_M,
            ignored | is_overhead,
        )
        way = target[:2] - start[:2]
        offset = heights.xy - start[:2]
        along = np.clip(offset @ way / max(way @ way, 1e-9), 0.0, 1.0)
        from_way_m = np.linalg.norm(offset - along[..., None] * way, axis=-1)
        obstacle_m = heights.height_m[from_way_m < PALM_U_M].max()
        z = max(target[2], float(obstacle_m) + hang_m + OVER_OBSTACLES_M)
        yield from self.go(np.append(start[:2], max(z, start[2])), 0.02, turning=False)
        yield from self.go(np.append(target[:2], z), 0.01)

    def go(
        self,
        target: Position,
        tolerance_m: float,
        turning: bool = True,
    ) -> Motion:
        """Go straight until the target is reached, or the hand no longer comes nearer."""
        self.target = target
        stall = StallCounter(_STALLED_M)
        while stall.n_steps < _STALLED_STEPS:
            left_m = float(np.linalg.norm(target - self._scene.hand_position()))
            left_rad = float(np.linalg.norm(self._remaining_turn())) if turning else 0.0
            if left_m < tolerance_m and left_rad < _TURNED_RAD:
                return
            stall.update(left_m + _M_PER_RAD * left_rad)
            yield

    def use_gripper(self, command: float) -> Motion:
        """Open or close the gripper while the hand stands still."""
        self.gripper = command
        self.target = self._scene.hand_position()
        for _ in range(N_GRIPPER_STEPS):
            yield

    def stay(self) -> Motion:
        """Stand still for ever."""
        self.target = self._scene.hand_position()
        while True:
            yield

    def _remaining_turn(self) -> Position:
        """Return the rotation vector from the hand to its target rotation, rad."""
        return Rotation.from_matrix(self.rotation @ self._scene.hand_rotation().T).as_rotvec()
