"""A scripted expert for the Bridge tasks: grasp the object, carry it over its target, let go."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from sim.arrays import Action, Vector3
from sim.errors import UnknownNameError

FAILURE_MODES = ("never_close", "open_half_way", "release_beside", "stop_over_goal")

# Per control step of 0.2 s.
_STEP_M = 0.04
_TURN_RAD = 0.35
_NEAR_M = 0.006
_MOST_STEPS = 14
_ABOVE_M = 0.10
# The fingertips are this far below the tool centre point.
_FINGERTIP_M = 0.016
# They stay clear of the table, whose friction would hold them apart.
_CLEARANCE_M = 0.004
# The object is let go this far above where it will lie.
_RELEASE_M = 0.01
# The part of the way to the target after which `open_half_way` opens the gripper. The target is
# then more than `near_goal_m` away in all tasks but `stack_cube`.
_HALF_WAY = 0.15
_BESIDE_M = 0.10
_UP = np.array([0.0, 0.0, 1.0])
_OPEN = 1.0
_CLOSED = -1.0


class SimplerExpert:
    """Solves an episode of one environment, from the true poses of the objects.

    A `failure_mode` spoils one action. The episode then fails in a known way:

        never_close      never_picked_up
        open_half_way    dropped_during_transport (if blocks are 10 cm apart: missed_goal)
        release_beside   missed_goal (at the basket: often dropped, since the eggplant rolls off)
        stop_over_goal   timeout, since the object is still held
    """

    def __init__(self, scene: Any, failure_mode: str | None = None) -> None:
        """Args:
        scene: of `SimplerEnv`, ManiSkill's environment.
        failure_mode: the name of a mistake that it makes in every episode.

        Raises:
            UnknownNameError: there is no such failure mode.
        """
        if failure_mode is not None and failure_mode not in FAILURE_MODES:
            raise UnknownNameError("failure mode of the expert", failure_mode, FAILURE_MODES)
        self._scene = scene
        self._failure_mode = failure_mode
        self.reset()

    def reset(self) -> None:
        self._gripper = _OPEN
        self._actions = self._solve()

    def action(self) -> Action:
        return next(self._actions)

    @property
    def _source(self) -> Any:
        # Each episode has objects of its own.
        return self._scene.objs[self._scene.source_obj_name]

    def _solve(self) -> Iterator[Action]:
        yield from self._pick()
        yield from self._place()
        while True:
            yield self._make_action(np.zeros(3), 0.0)

    def _pick(self) -> Iterator[Action]:
        grasp = _center(self._source)
        grasp[2] = max(grasp[2], _lowest_z(self._source) + _FINGERTIP_M + _CLEARANCE_M)
        above = grasp + _ABOVE_M * _UP
        yield from self._go(above, self._turn_across(self._source))
        yield from self._go(grasp)
        yield from self._move_gripper(_OPEN if self._failure_mode == "never_close" else _CLOSED)
        yield from self._go(above)

    def _place(self) -> Iterator[Action]:
        # What counts from now on is where the object is, not where the gripper is.
        held = _center(self._source) - self._ee_pos()
        goal = self._find_goal()
        above = goal + _ABOVE_M / 2 * _UP - held
        if self._failure_mode == "open_half_way":
            yield from self._go(self._ee_pos() + _HALF_WAY * (above - self._ee_pos()))
            yield from self._move_gripper(_OPEN)
            return
        yield from self._go(above)
        if self._failure_mode == "stop_over_goal":
            return
        yield from self._go(goal - held)
        yield from self._move_gripper(_OPEN)
        yield from self._go(self._ee_pos() + _ABOVE_M * _UP)

    def _find_goal(self) -> Vector3:
        """Return where to let go of the object's center, m, world."""
        scene = self._scene
        goal = _center(scene.objs[scene.target_obj_name])
        goal[2] += scene.episode_source_obj_bbox_world.abs()[2].item() / 2
        goal[2] += scene.episode_target_obj_bbox_world.abs()[2].item() / 2 + _RELEASE_M
        if self._failure_mode == "release_beside":
            # On the side that the object comes from, where the arm surely reaches.
            back = (_center(self._source) - goal)[:2]
            goal[:2] += _BESIDE_M * back / np.linalg.norm(back)
        return goal

    def _go(self, position: Vector3, turn_rad: float = 0.0) -> Iterator[Action]:
        """Move the gripper to a position [m, world], and turn it about the vertical on the way."""
        for _ in range(_MOST_STEPS):
            left = position - self._target_pos()
            is_there = np.linalg.norm(position - self._ee_pos()) < _NEAR_M
            if is_there and not turn_rad:
                return
            length_m = float(np.linalg.norm(left))
            turn = float(np.clip(turn_rad, -_TURN_RAD, _TURN_RAD))
            turn_rad -= turn
            yield self._make_action(left * min(1, _STEP_M / max(length_m, 1e-9)), turn)

    def _move_gripper(self, command: float) -> Iterator[Action]:
        self._gripper = command
        for _ in range(3):
            yield self._make_action(np.zeros(3), 0.0)

    def _make_action(self, shift: Vector3, turn_rad: float) -> Action:
        """Return an action.

        Args:
            shift: of the target, m, world. The base of the robot is turned by half a turn.
        """
        dx, dy, dz = shift
        return np.array([-dx, -dy, dz, 0, 0, turn_rad, self._gripper], np.float32)

    def _turn_across(self, actor: Any) -> float:
        """Return the angle [rad] by which to turn the gripper, so that it closes across an object.

        Objects are longest along one of their axes; cubes are not turned.
        """
        box = np.abs(self._scene.episode_model_bbox_sizes[actor.name].numpy())
        if np.ptp(box) < 1e-6:
            return 0.0
        long = _rotation(actor)[:, int(box.argmax())]
        fingers = _rotation(self._scene.agent.finger1_link)[:, 1]
        across = np.arctan2(long[1], long[0]) + np.pi / 2
        now = np.arctan2(fingers[1], fingers[0])
        return float((across - now + np.pi / 2) % np.pi - np.pi / 2)

    def _ee_pos(self) -> Vector3:
        return _position(self._scene.agent.robot.links_map["ee_gripper_link"])

    def _target_pos(self) -> Vector3:
        """Return the position that the controller moves the gripper to, m, world."""
        controller = self._scene.agent.controller.controllers["arm"]
        return (self._scene.agent.robot.pose * controller._target_pose).p[0].numpy().astype(float)


def _position(body: Any) -> np.ndarray:
    return body.pose.p[0].numpy().astype(float)


def _rotation(body: Any) -> np.ndarray:
    return body.pose.to_transformation_matrix()[0, :3, :3].numpy().astype(float)


def _center(actor: Any) -> np.ndarray:
    """Return the center of mass, m, world."""
    body = actor._bodies[0]
    return np.array((body.entity.pose * body.cmass_local_pose).p, float)


def _lowest_z(actor: Any) -> float:
    """Return the height of an object's lowest point, m, world."""
    corners = np.concatenate(
        [shape.vertices * shape.scale for shape in actor._bodies[0].collision_shapes]
    )
    return float(_position(actor)[2] + (corners @ _rotation(actor)[2]).min())
