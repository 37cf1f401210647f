"""Defines robomimic's conventions for robosuite's tasks, each with its source.

Sources: robomimic, `envs/env_robosuite.py` (observations) and `scripts/generate_paper_configs.py`
(keys and horizon); robosuite 1.4.0, `controllers/config/osc_pose.json` (controller).
"""

from collections.abc import Mapping
from math import pi
from typing import Any

from sim.spec import ActionMode, ActionSpec

# env_kwargs of robomimic's datasets.
CONTROL_FREQ_HZ = 20
IMAGE_SIZE_PX = (84, 84)
# `experiment.rollout.horizon` of the tasks that robomimic has: Lift, Can and Square. The other
# tasks have the same number here, which is this project's choice.
MAX_STEPS = 400

# The keys `agentview_image` and `robot0_eye_in_hand_image` of the image policies.
POLICY_CAMERAS = ("agentview", "robot0_eye_in_hand")
TABLE_CAMERAS = (*POLICY_CAMERAS, "frontview", "birdview", "sideview", "robot0_robotview")
# The bins have no `sideview`.
BIN_CAMERAS = (*POLICY_CAMERAS, "frontview", "birdview", "robot0_robotview")

# The keys `robot0_eef_pos`, `robot0_eef_quat` and `robot0_gripper_qpos`, in this order.
STATE_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper_left", "gripper_right")
STATE_UNITS = ("m",) * 3 + ("1",) * 4 + ("m",) * 2

ACTION_NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
# Units of a relative action: its 1 is `output_max` of the controller.
POSITION_UNIT_M = 0.05
ROTATION_UNIT_RAD = 0.5
GRIPPER_OPEN = -1.0
GRIPPER_CLOSED = 1.0
# Bounds of absolute targets: the space that the arm can reach on its tables and bins.
_REACH_LOW_M = (-0.8, -0.8, 0.6)
_REACH_HIGH_M = (0.6, 0.8, 1.6)

CONTROLLER: Mapping[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [POSITION_UNIT_M] * 3 + [ROTATION_UNIT_RAD] * 3,
    "output_min": [-POSITION_UNIT_M] * 3 + [-ROTATION_UNIT_RAD] * 3,
    "kp": 150,
    "damping_ratio": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_ratio_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "control_delta": True,
    "interpolation": None,
    "ramp_ratio": 0.2,
}


def make_action_spec(control: ActionMode) -> ActionSpec:
    """Return the meaning of an action.

    Args:
        control: "absolute" is robosuite's `control_delta=False`, which diffusion policy uses.
    """
    if control == "delta":
        units = (f"{POSITION_UNIT_M} m",) * 3 + (f"{ROTATION_UNIT_RAD} rad",) * 3
        low = (-1.0,) * 6
        high = (1.0,) * 6
    else:
        units = ("m",) * 3 + ("rad",) * 3
        low = (*_REACH_LOW_M, *(-pi,) * 3)
        high = (*_REACH_HIGH_M, *(pi,) * 3)
    return ActionSpec(
        names=ACTION_NAMES,
        units=(*units, "-1 open, 1 closed"),
        low=(*low, GRIPPER_OPEN),
        high=(*high, GRIPPER_CLOSED),
        mode=control,
        rotation="axis_angle",
        rotation_frame="base",
        gripper_index=6,
        gripper_closed=GRIPPER_CLOSED,
        gripper_open=GRIPPER_OPEN,
        # robosuite's PandaGripper moves by the sign of the command.
        gripper_closes_below=0.5,
    )
