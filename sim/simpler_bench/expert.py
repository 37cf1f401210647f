"""A scripted expert for the Bridge tasks: grasp the object, carry it over its target, let go."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from sim.arrays import Action, Vector3

# Per control step of 0.2 s.
_STEP_M = 0.04
_TURN_RAD = 0.35
_NEAR_M = 0.006
_MOST_STEPS = 14
_ABOVE_M = 0.10
# The object is let go this far above where it will lie.
_RELEASE_M = 0.01
_OPEN = 1.0
_CLOSED = -1.0


class SimplerExpert:
    """Solves an episode of one environment, from the true poses of the objects."""

    def __init__(self, scene: Any) -> None:
        """Args:
        scene: of `SimplerEnv`, ManiSkill's environment.
        """
        self._scene = scene
        self.reset()

    def reset(self) -> None:
        self._gripper = _OPEN
        self._actions = self._solve()

    def action(self) -> Action:
        return next(self._actions)

    def _solve(self) -> Iterator[Action]:
        scene = self._scene
        source = scene.objs[scene.source_obj_name]
        target = scene.objs[scene.target_obj_name]
        grasp = _center(source)
        turn_rad = self._turn_across(source)
        above = np.array([0, 0, _ABOVE_M])
        yield from self._go(grasp + above, turn_rad)
        yield from self._go(grasp)
        yield from self._move_gripper(_CLOSED)
        yield from self._go(grasp + above)
        # What counts from now on is where the object is, not where the gripper is.
        held = _center(source) - self._ee_pos()
        goal = _center(target)
        goal[2] += scene.episode_source_obj_bbox_world.abs()[2].item() / 2
        goal[2] += scene.episode_target_obj_bbox_world.abs()[2].item() / 2 + _RELEASE_M
        yield from self._go(goal + above / 2 - held)
        yield from self._go(goal - held)
        yield from self._move_gripper(_OPEN)
        yield from self._go(self._ee_pos() + above)
        while True:
            yield self._make_action(np.zeros(3), 0.0)

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
