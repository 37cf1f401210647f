"""Defines the conventions of published LIBERO policies and evaluations, with their sources."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Float64

# An episode is a pair (init state, seed of the fixtures' poses). Init state k gets the default seed
# of lerobot-eval, 1000 + k, so that both evaluate the same episodes.
FIRST_SEED = 1000
# Objects settle first, as in every published evaluation (lerobot/envs/libero.py: num_steps_wait,
# dummy action).
N_SETTLE_STEPS = 10
SETTLE_ACTION = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
# The size in the published datasets.
IMAGE_SIZE_PX = (256, 256)

STATE_NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper_left", "gripper_right")
STATE_UNITS = ("m",) * 3 + ("rad",) * 3 + ("m",) * 2
# Bounds of absolute targets: the space around the tables that the arm can reach.
REACH_LOW_M = (-0.8, -0.8, 0.0)
REACH_HIGH_M = (0.6, 0.8, 2.0)

# The published protocol: lerobot/envs/libero.py, TASK_SUITE_MAX_STEPS (the longest training
# demonstrations have 193, 254, 270, 505 and 373 steps). A perturbed suite of LIBERO-PRO has as many
# steps as the suite that it perturbs.
MAX_STEPS: Mapping[str, int] = {
    "libero_spatial": 280,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
# The number for any other suite, from the same source.
OTHER_MAX_STEPS = 500

# lerobot's datasets and checkpoints use these names for LIBERO's two cameras. The other cameras
# have robosuite's names.
LEROBOT_CAMERAS: Mapping[str, str] = {"image": "agentview", "image2": "robot0_eye_in_hand"}
CAMERA_NAMES = (*LEROBOT_CAMERAS, "frontview", "birdview", "sideview")


def axis_angle_of(quat_xyzw: Float64[np.ndarray, "4"]) -> Float32[np.ndarray, "3"]:
    """Return the rotation vector [rad] with an angle in [0, 2 pi], in float32.

        2 acos(w) (x, y, z) / sqrt(1 - w²), and zero for no rotation

    The published datasets and lerobot's `LiberoProcessorStep` use the same formula. Angles beyond
    pi are kept on purpose: the Panda's hand points down, which is close to pi.
    """
    *axis, w = quat_xyzw.astype(np.float32)
    w = np.clip(w, np.float32(-1), np.float32(1))
    length = np.sqrt(np.maximum(np.float32(1) - w * w, np.float32(0)))
    if length <= 1e-10:
        return np.zeros(3, np.float32)
    # numpy's float32 arc cosine differs in the last bits between processors.
    angle = np.float32(np.arccos(np.float64(w)))
    return np.array(axis, np.float32) / length * (np.float32(2) * angle)
