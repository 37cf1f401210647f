"""Decides whether a task is done as SimplerEnv does.

ManiSkill 3 has another predicate: where SimplerEnv forbids contact with anything but the target and
the robot, ManiSkill asks for a contact force with the target.
"""

from typing import Any

import numpy as np

from sim.arrays import Vector3
from sim.simpler_bench.tasks import SimplerTask

# ManiSkill2_real2sim, PutOnInSceneEnv.evaluate.
_MARGIN_M = 0.003
_IMPULSE_N_S = 1e-6


class PublishedSuccess:
    """SimplerEnv's predicate in one episode.

    Attributes:
        target_half_m: half of the target's bounding box at the start of the episode, turned as the
            target was then. Its components can be negative, as in SimplerEnv.
        object_half_m: the same for the object.
    """

    def __init__(self, scene: Any, task: SimplerTask) -> None:
        """Measure the bounding boxes, once the objects are at rest."""
        self._task = task
        self._source = scene.objs[scene.source_obj_name]._bodies[0]
        self._target = scene.objs[scene.target_obj_name]._bodies[0]
        links = {link.entity for link in scene.agent.robot._objs[0].links}
        self._allowed = links | {self._target.entity}
        self._physics = scene.scene.px
        self.target_half_m = scene.episode_target_obj_bbox_world.numpy().astype(float) / 2
        self.object_half_m = scene.episode_source_obj_bbox_world.numpy().astype(float) / 2

    def offset(self) -> Vector3:
        """Return the vector from the target's center of mass to the object's, m, world."""
        return _center_of_mass(self._source) - _center_of_mass(self._target)

    def is_over(self) -> bool:
        """Return whether the object is above its target, at any height."""
        offset = self.offset()
        reach_m = np.linalg.norm(self.target_half_m[:2]) + _MARGIN_M
        return bool(np.linalg.norm(offset[:2]) <= reach_m and offset[2] > 0)

    def __call__(self) -> bool:
        """Return whether the task is done now."""
        gap_m = self.offset()[2] - self.target_half_m[2] - self.object_half_m[2]
        is_on = self.is_over() and bool(gap_m <= self._task.height_m)
        return is_on and not (self._task.needs_clearance and self._touches_anything_else())

    def _touches_anything_else(self) -> bool:
        """Return whether something other than the target and the robot pushes the object."""
        source = self._source.entity
        for contact in self._physics.get_contacts():
            entities = [body.entity for body in contact.bodies]
            if source not in entities:
                continue
            (other,) = (entity for entity in entities if entity != source)
            impulse = np.sum([point.impulse for point in contact.points], axis=0)
            if other not in self._allowed and np.linalg.norm(impulse) > _IMPULSE_N_S:
                return True
        return False


def _center_of_mass(body: Any) -> np.ndarray:
    return np.array((body.entity.pose * body.cmass_local_pose).p, np.float64)
