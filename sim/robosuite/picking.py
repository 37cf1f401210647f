"""Picks objects from above and puts them down, for scripted experts."""

from collections.abc import Callable

import numpy as np

from sim.robosuite.expert_scene import ExpertScene, PositionXY
from sim.robosuite.grasping import TIP_W_M, Grasp
from sim.robosuite.hand_motion import (
    CLOSED,
    OPEN,
    RETREAT_M,
    UP,
    HandMotion,
    Motion,
    StallCounter,
    pointing_down,
)
from sim.robosuite.height_map import GeomMask, Position

PLACE_FAILURE_MODES = ("never_close", "open_half_way", "release_beside", "stop_over_goal")

N_ATTEMPTS = 3
_HOVER_M = 0.06
_LIFT_M = 0.10
_BESIDE_M = 0.10
_LOWER_M = 0.03

# Returns where to put the object down: the position of its origin, m, world. The argument, if not
# None, is how far beside the goal this should be, m.
FindSpot = Callable[[float | None], PositionXY]


class Picking:
    """Picks and places objects, perhaps with one planted mistake."""

    def __init__(
        self,
        scene: ExpertScene,
        motion: HandMotion,
        failure_mode: str | None,
    ) -> None:
        """Remember the scene and the hand.

        Args:
            failure_mode: one of `PLACE_FAILURE_MODES` has an effect here.
        """
        self._scene = scene
        self._motion = motion
        self._failure_mode = failure_mode

    def pick_and_place(
        self,
        body: int,
        is_target: GeomMask,
        find_spot: FindSpot,
    ) -> Motion:
        """Grasp an object and place it, unless the grasp fails.

        Args:
            body: of the object.
            is_target: geoms of the object.
            find_spot: called when the object is held.
        """
        yield from self.pick(body, is_target)
        if self.has_picked:
            yield from self.place(body, is_target, find_spot)

    @property
    def has_picked(self) -> bool:
        """Return whether `pick` succeeded, or failed as it was meant to."""
        return self._motion.gripper == CLOSED or self._failure_mode == "never_close"

    def place(
        self,
        body: int,
        is_target: GeomMask,
        find_spot: FindSpot,
    ) -> Motion:
        """Carry the held object over every obstacle, lower it, let go and retreat."""
        scene = self._scene
        motion = self._motion
        spot = find_spot(_BESIDE_M if self._failure_mode == "release_beside" else None)
        if self._failure_mode == "open_half_way":
            # Nearer to the lift than to the goal, so that the object falls far from the goal.
            spot = 0.65 * scene.data.xpos[body, :2] + 0.35 * spot
        # Carry the object to above the spot, over every obstacle on the way.
        hand_z = scene.hand_position()[2]
        lowest, _ = scene.bounds_of(is_target)
        yield from motion.cross(
            self._hand_above(spot, body, hand_z), hand_z - lowest[2], scene.is_robot | is_target
        )
        if self._failure_mode == "open_half_way":
            yield from motion.use_gripper(OPEN)
            yield from motion.stay()
        if self._failure_mode == "stop_over_goal":
            z = scene.hand_position()[2]
            while True:
                motion.target = self._hand_above(spot, body, z)
                yield
        yield from self._lower(spot, body, is_target)
        yield from motion.use_gripper(OPEN)
        yield from motion.go(scene.hand_position() + RETREAT_M * UP, 0.02)

    def pick(
        self,
        body: int,
        is_target: GeomMask,
    ) -> Motion:
        """Grasp and lift an object. The gripper is left open if this failed."""
        data = self._scene.data
        for _ in range(N_ATTEMPTS):
            grasp = self._scene.find_grasp(is_target, data.xipos[body])
            if grasp is None:
                return
            yield from self.grasp(grasp)
            height_m = data.xpos[body, 2]
            yield from self._motion.go(grasp.pos_world + _LIFT_M * UP, 0.02)
            if data.xpos[body, 2] - height_m > _LIFT_M / 2 or self._failure_mode == "never_close":
                return
            yield from self._motion.use_gripper(OPEN)

    def grasp(self, grasp: Grasp) -> Motion:
        """Go to a grasp from above and close the gripper."""
        motion = self._motion
        motion.rotation = pointing_down(grasp.yaw_rad)
        motion.gripper = OPEN
        yield from motion.travel(grasp.pos_world + _HOVER_M * UP, TIP_W_M)
        yield from motion.go(grasp.pos_world, 0.004)
        yield from motion.use_gripper(OPEN if self._failure_mode == "never_close" else CLOSED)

    def _lower(
        self,
        spot: PositionXY,
        body: int,
        is_target: GeomMask,
    ) -> Motion:
        """Lower the object until it touches something, or the hand sinks no further."""
        stall = StallCounter(0.001)
        while stall.n_steps < 5 and not self._scene.is_touched(is_target):
            z = self._scene.hand_position()[2]
            stall.update(z)
            self._motion.target = self._hand_above(spot, body, z - _LOWER_M)
            yield

    def _hand_above(
        self,
        spot: PositionXY,
        body: int,
        z: float,
    ) -> Position:
        """Return the hand's position when the held body is above the spot."""
        hand_xy = self._scene.hand_position()[:2]
        return np.append(spot + hand_xy - self._scene.data.xpos[body, :2], z)
