"""What published LIBERO policies were trained and measured with, each convention once, with its source."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Float64

from sim.spec import ActionMode, ActionSpec

# An episode is (init state, seed of the fixtures' poses): init state k with lerobot-eval's default
# seeds, 1000 + k, so that its numbers and ours are of the same episodes.
FIRST_SEED = 1000
# Objects settle first, as in every published evaluation (lerobot/envs/libero.py: num_steps_wait,
# dummy action).
N_SETTLE_STEPS = 10
SETTLE_ACTION = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
IMAGE_SIZE_PX = (256, 256)  # of the published datasets

STATE_NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper_left", "gripper_right")
STATE_UNITS = ("m",) * 3 + ("rad",) * 3 + ("m",) * 2
ACTION_NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
_GRIPPER_OPEN, _GRIPPER_CLOSED = -1.0, 1.0
# Absolute targets: the world around the tables that the arm can reach.
_REACH_M = ((-0.8, -0.8, 0.0), (0.6, 0.8, 2.0))

# The published protocol: lerobot/envs/libero.py, TASK_SUITE_MAX_STEPS (the longest training
# demonstrations have 193, 254, 270, 505 and 373 steps). A perturbed suite of LIBERO-PRO has the
# horizon of the suite that it perturbs.
MAX_STEPS: Mapping[str, int] = {
    "libero_spatial": 280,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}
OTHER_MAX_STEPS = 500  # of any other suite, by the same source

# lerobot's datasets and checkpoints know LIBERO's two cameras by these names; the others keep
# robosuite's.
LEROBOT_CAMERAS: Mapping[str, str] = {"image": "agentview", "image2": "robot0_eye_in_hand"}
CAMERA_NAMES = (*LEROBOT_CAMERAS, "frontview", "birdview", "sideview")


def make_action_spec(control: ActionMode) -> ActionSpec:
    """What an action means; see `LiberoEnv`."""
    relative = control == "delta"
    low, high = ((-1.0,) * 3, (1.0,) * 3) if relative else _REACH_M
    turn = 1.0 if relative else float(np.pi)
    return ActionSpec(
        names=ACTION_NAMES,
        units=(("0.05 m",) * 3 + ("0.5 rad",) * 3 if relative else ("m",) * 3 + ("rad",) * 3)
        + ("-1 open, 1 closed",),
        low=(*low, *(-turn,) * 3, _GRIPPER_OPEN),
        high=(*high, *(turn,) * 3, _GRIPPER_CLOSED),
        mode="delta" if relative else "absolute",
        rotation="axis_angle",
        rotation_frame="base",
        gripper_index=6,
        gripper_closed=_GRIPPER_CLOSED,
        gripper_open=_GRIPPER_OPEN,
        gripper_closes_below=0.5,  # robosuite's PandaGripper moves by the sign of the command
    )


def axis_angle_of(quat_xyzw: Float64[np.ndarray, "4"]) -> Float32[np.ndarray, "3"]:
    """Rotation vector [rad] with an angle in [0, 2 pi], in float32.

    2 acos(w) (x, y, z) / sqrt(1 - w²), zero for no rotation: as the published datasets and
    lerobot's `LiberoProcessorStep` have it. That it is not cut to pi matters: the Panda's hand
    points down, near there.
    """
    *axis, w = quat_xyzw.astype(np.float32)
    w = np.clip(w, np.float32(-1), np.float32(1))
    length = np.sqrt(np.maximum(np.float32(1) - w * w, np.float32(0)))
    if length <= 1e-10:
        return np.zeros(3, np.float32)
    # numpy's float32 arc cosine has other bits on other processors.
    angle = np.float32(np.arccos(np.float64(w)))
    return np.array(axis, np.float32) / length * (np.float32(2) * angle)
