"""Leads a part that the hand holds along the path of its joint, for scripted experts."""

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from sim.robosuite.expert_scene import ExpertScene
from sim.robosuite.hand_motion import HandMotion, Motion, StallCounter

# The target of the hand is this far ahead of the part.
LEAD_RAD = 0.4
LEAD_M = 0.04
_STALLED_STEPS = 15


def lead_part(
    scene: ExpertScene,
    motion: HandMotion,
    joint,
    start: float,
    end: float,
    *,
    stops_at_end: bool = False,
) -> Motion:
    """Keep the hand's target ahead of the part until the joint has moved from start to end.

    The motion also ends when the joint no longer moves.

    Args:
        joint: MuJoCo's named access to the joint.
        start: position of the joint, rad or m; `end` likewise.
        stops_at_end: the target is never beyond the end, so that the part does not follow the hand
            further.
    """
    data = scene.data
    part = int(scene.model.jnt_bodyid[joint.id])
    qpos = int(joint.qposadr[0])
    is_slide = joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE
    to_part = data.xmat[part].reshape(3, 3).T
    grip = to_part @ (scene.hand_position() - data.xpos[part])
    turn = to_part @ motion.rotation
    stall = StallCounter(1e-3)
    while stall.n_steps < _STALLED_STEPS:
        left = abs(end - start) - abs(data.qpos[qpos] - start)
        if left <= 0:
            return
        stall.update(left)
        lead = LEAD_M if is_slide else LEAD_RAD
        if stops_at_end:
            lead = min(lead, left)
        way = lead * np.sign(end - start) * data.xaxis[joint.id]
        from_part = data.xmat[part].reshape(3, 3)
        position = data.xpos[part] + from_part @ grip
        motion.rotation = from_part @ turn
        if is_slide:
            motion.target = position + way
        else:
            anchor = data.xanchor[joint.id]
            around = Rotation.from_rotvec(way).as_matrix()
            motion.target = anchor + around @ (position - anchor)
            motion.rotation = around @ motion.rotation
        yield
