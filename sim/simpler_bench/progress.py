"""Measures the progress of an object that is put on its target."""

from typing import Any

import numpy as np

from sim.env import Progress
from sim.goals.goal import Goal
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.goals.stack import STACK
from sim.simpler_bench.goal_thresholds import LIFTED_M, NEAR_M, THRESHOLDS
from sim.simpler_bench.success import PublishedSuccess
from sim.simpler_bench.tasks import SimplerTask

_TOUCH_N = 1e-3


def declare_goal(task: SimplerTask) -> Goal:
    """Return the goal of a task."""
    kind = STACK if task.name == "stack_cube" else PICK_AND_PLACE
    return kind.goal(task.goal, THRESHOLDS)


class ObjectProgress:
    """Tracks the object of a task through one episode."""

    def __init__(self, scene: Any, task: SimplerTask) -> None:
        """Note where the objects are; call it after each reset."""
        self._scene = scene
        self._source = scene.objs[scene.source_obj_name]
        self._target = scene.objs[scene.target_obj_name]
        self._is_stack = task.name == "stack_cube"
        self._is_done = PublishedSuccess(scene, task)
        self._start = _position(self._source)
        self._target_start = _position(self._target)

    def measure(self, ee_pos: np.ndarray) -> Progress:
        """Return the progress now.

        Args:
            ee_pos: position of the tool centre point, m, world.
        """
        position = _position(self._source)
        target = _position(self._target)
        height_m = float(position[2] - self._start[2])
        is_grasped = bool(self._scene.agent.is_grasping(self._source)[0])
        is_done = self._is_done()
        measures = {
            "object_height_m": height_m,
            "goal_distance_m": float(np.hypot(*(position - target)[:2])),
        }
        if self._is_stack:
            measures["base_shift_m"] = float(np.hypot(*(target - self._target_start)[:2]))
        return Progress(
            met=is_done,
            stages={
                "reached": bool(np.linalg.norm(position - ee_pos) < NEAR_M),
                "grasped": is_grasped,
                "lifted": is_grasped and height_m > LIFTED_M,
                "over_goal": is_done or self._is_done.is_over(),
                "released": not self._is_touched(),
                "placed": is_done,
            },
            measures=measures,
            object_pos_world=position,
        )

    def _is_touched(self) -> bool:
        agent = self._scene.agent
        return any(
            float(self._scene.scene.get_pairwise_contact_forces(finger, self._source)[0].norm())
            > _TOUCH_N
            for finger in (agent.finger1_link, agent.finger2_link)
        )


def _position(actor: Any) -> np.ndarray:
    """Return the position of an actor's origin, m, world."""
    return actor.pose.p[0].numpy().astype(np.float64)
