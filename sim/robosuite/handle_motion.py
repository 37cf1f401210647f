"""Grasps handles from the front, for scripted experts."""

import numpy as np

from sim.robosuite.expert_scene import ExpertScene
from sim.robosuite.grasping import PALM_U_M
from sim.robosuite.hand_motion import CLOSED, OPEN, RETREAT_M, UP, HandMotion, Motion
from sim.robosuite.height_map import Matrix, Position

# A handle is approached from the front, and this steeply from above.
HANDLE_TILT_RAD = np.deg2rad(18)


def grasp_handle(
    scene: ExpertScene,
    motion: HandMotion,
    handle: Position,
    outwards: Position,
) -> Motion:
    """Reach for a horizontal handle and close the gripper.

    Args:
        handle: middle of the grasp, m, world.
        outwards: unit vector from the handle's fixture to the room.
    """
    motion.rotation = reaching_for_handle(outwards, scene.hand_rotation())
    motion.gripper = OPEN
    yield from motion.travel(handle - RETREAT_M * motion.rotation[:, 2], PALM_U_M)
    yield from motion.go(handle, 0.005)
    yield from motion.use_gripper(CLOSED)


def reaching_for_handle(outwards: Position, hand: Matrix) -> Matrix:
    """Return the columns u, v, w of a hand that reaches for a handle.

    It reaches against `outwards`, and opens up and down. Of the two such rotations, this is the one
    nearer to the present rotation `hand`.
    """
    w = -np.cos(HANDLE_TILT_RAD) * outwards - np.sin(HANDLE_TILT_RAD) * UP
    upwards = UP - (UP @ w) * w
    u = upwards / np.linalg.norm(upwards)
    candidates = [np.stack([side, np.cross(w, side), w], axis=1) for side in (-u, u)]
    return max(candidates, key=lambda rotation: float(np.trace(rotation @ hand.T)))
