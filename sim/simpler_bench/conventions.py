"""Defines the conventions of SimplerEnv's Bridge tasks, each with its source.

Sources: SimplerEnv and ManiSkill2_real2sim (task, action and camera), open-pi-zero (state).
"""

import numpy as np

from sim.spec import ActionSpec

CAMERA = "3rd_view_camera"
IMAGE_SIZE_PX = (480, 640)
# The focal length [px] of the camera, which is a Logitech C920.
FOCAL_PX = 623.588

CONTROL_FREQ_HZ = 5
PHYSICS_FREQ_HZ = 500
N_EPISODES = 24

# The pose of `ee_gripper_link` in the base of the robot, and how far the gripper is open (0 to 1).
STATE_NAMES: tuple[str, ...] = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
STATE_UNITS: tuple[str, ...] = ("m",) * 3 + ("rad",) * 3 + ("1",)
# lerobot's Pi0 for Bridge has a 0 before the gripper.
PADDED_STATE_NAMES = (*STATE_NAMES[:6], "pad", "gripper")
PADDED_STATE_UNITS = (*STATE_UNITS[:6], "1", "1")

# The angles of the Bridge data are those of the end effector after this rotation: they are 0 if the
# gripper points straight down.
BRIDGE_ROTATION = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])

# The bounds of SimplerEnv's action space, which it does not enforce for the arm. Actions beyond
# them are clipped here: nobody commands a metre in a fifth of a second.
_STEP_M = 1.0
_TURN_RAD = np.pi / 2

ACTION = ActionSpec(
    names=("dx", "dy", "dz", "drx", "dry", "drz", "gripper"),
    units=("m",) * 3 + ("rad",) * 3 + ("1",),
    low=(-_STEP_M,) * 3 + (-_TURN_RAD,) * 3 + (-1.0,),
    high=(_STEP_M,) * 3 + (_TURN_RAD,) * 3 + (1.0,),
    mode="delta",
    rotation="axis_angle",
    rotation_frame="base",
    gripper_index=6,
    gripper_closed=-1.0,
    gripper_open=1.0,
)
