"""Measures how far a block is on its way into a receptacle."""

from math import hypot

import mujoco
import numpy as np

from sim.arrays import Vector3
from sim.env import Progress
from sim.goals.pick_and_place import pick_and_place_progress
from sim.so101.goals import LIFTED_M
from sim.so101.scene import GRIPPER_BODY, MOVING_JAW_BODY

REACHED_M = 0.03
AT_REST_M_S = 0.05

# Each geom has the code of its body, or 0. The code of a contact is the sum of its two geoms'
# codes, and only block and jaw together have the sums that matter.
_BLOCK = 1
_GRIPPER = 2
_JAW = 4


class BlockGoal:
    """One block and the goal site inside one receptacle.

    Attributes:
        height_qpos: index of the block's height in `qpos`.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        block: str,
        goal_site: str,
    ) -> None:
        self._body = model.body(block).id
        joint = model.body(block).jntadr[0]
        self.height_qpos = int(model.jnt_qposadr[joint]) + 2
        self._first_dof = int(model.jnt_dofadr[joint])
        self._contact_code = np.zeros(model.ngeom, dtype=np.int64)
        for body, code in ((block, _BLOCK), (GRIPPER_BODY, _GRIPPER), (MOVING_JAW_BODY, _JAW)):
            self._contact_code[model.geom_bodyid == model.body(body).id] = code
        self._tcp_site = model.site("tcp").id
        self._site = model.site(goal_site).id
        size = model.site_size[self._site]
        self._is_box = int(model.site_type[self._site]) == int(mujoco.mjtGeom.mjGEOM_BOX)
        self._half_size_m = size[:2].tolist()
        self._half_height_m = float(size[2] if self._is_box else size[1])

    def pos_world(self, data: mujoco.MjData) -> Vector3:
        """Return the middle of the goal, m."""
        return data.site_xpos[self._site].copy()

    def progress(
        self,
        data: mujoco.MjData,
        rest_height_m: float,
    ) -> Progress:
        """Return the progress of the goal.

        Args:
            rest_height_m: height of the block at rest, from which it is lifted.
        """
        block_pos = data.xpos[self._body].copy()
        height_m = float(block_pos[2]) - rest_height_m
        offset = block_pos - data.site_xpos[self._site]
        x, y = map(abs, offset[:2].tolist())
        half_x, half_y = self._half_size_m
        is_inside_rim = x < half_x and y < half_y if self._is_box else hypot(x, y) < half_x
        is_below_rim = float(offset[2]) < self._half_height_m
        contact_codes = self._contact_code[data.contact.geom].sum(axis=1).tolist()
        touches_gripper = _BLOCK + _GRIPPER in contact_codes
        touches_jaw = _BLOCK + _JAW in contact_codes
        grasped = touches_gripper and touches_jaw
        released = not (touches_gripper or touches_jaw)
        velocity = data.qvel[self._first_dof : self._first_dof + 3]
        is_at_rest = float(velocity @ velocity) < AT_REST_M_S**2
        reach = data.site_xpos[self._tcp_site] - block_pos
        return pick_and_place_progress(
            reached=float(reach @ reach) < REACHED_M**2,
            grasped=grasped,
            lifted=grasped and height_m > LIFTED_M,
            over_goal=is_inside_rim,
            released=released,
            placed=is_inside_rim and is_below_rim and released and is_at_rest,
            object_height_m=height_m,
            goal_distance_m=hypot(x, y),
            object_pos_world=block_pos,
        )
