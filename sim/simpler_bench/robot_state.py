"""Reads the state that the published policies of Bridge observe."""

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from sim.arrays import StateVector
from sim.simpler_bench.conventions import BRIDGE_ROTATION


def read_state(robot: Any, has_padding: bool) -> StateVector:
    """Return position [m], roll, pitch and yaw [rad], and opening of the gripper (0 to 1).

    Args:
        robot: ManiSkill's articulation of the WidowX.
        has_padding: whether a 0 stands before the opening.
    """
    gripper = robot.links_map["ee_gripper_link"]
    pose = (robot.pose.inv() * gripper.pose).raw_pose[0].numpy()
    rotation = Rotation.from_quat(pose[3:], scalar_first=True).as_matrix() @ BRIDGE_ROTATION.T
    roll_pitch_yaw = Rotation.from_matrix(rotation).as_euler("xyz")
    fingers = robot.qpos[0, -2:].numpy()
    low, high = robot.qlimits[0, -2:].numpy().T
    opening = np.clip(np.mean((fingers - low) / (high - low)), 0, 1)
    padding = [0.0] if has_padding else []
    return np.concatenate([pose[:3], roll_pitch_yaw, padding, [opening]]).astype(np.float32)
