"""Defines robomimic's conventions for robosuite's tasks, each with its source.

Sources: robomimic, `envs/env_robosuite.py` (observations) and `scripts/generate_paper_configs.py`
(keys and horizon). `sim.robosuite.osc_pose` has the controller and its actions.
"""

# env_kwargs of robomimic's datasets.
IMAGE_SIZE_PX = (84, 84)
# `experiment.rollout.horizon` of the tasks that robomimic has: Lift, Can and Square. The other
# tasks have the same number here, which is this project's choice.
MAX_STEPS = 400

# The keys `agentview_image` and `robot0_eye_in_hand_image` of the image policies.
POLICY_CAMERAS = ("agentview", "robot0_eye_in_hand")
TABLE_CAMERAS = (*POLICY_CAMERAS, "frontview", "birdview", "sideview", "robot0_robotview")
TWO_ARM_CAMERAS = (
    "agentview",
    "robot0_eye_in_hand",
    "robot1_eye_in_hand",
    "frontview",
    "birdview",
    "sideview",
    "robot0_robotview",
    "robot1_robotview",
)
# The bins have no `sideview`.
BIN_CAMERAS = (*POLICY_CAMERAS, "frontview", "birdview", "robot0_robotview")

# The keys `robot0_eef_pos`, `robot0_eef_quat` and `robot0_gripper_qpos`, in this order. Those of
# `robot1` follow in tasks with two arms.
STATE_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper_left", "gripper_right")
STATE_UNITS = ("m",) * 3 + ("1",) * 4 + ("m",) * 2

# Bounds of absolute targets: the space that the arm can reach on its tables and bins.
REACH_LOW_M = (-0.8, -0.8, 0.6)
REACH_HIGH_M = (0.6, 0.8, 1.6)
