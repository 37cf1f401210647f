"""Defines robosuite's controller OSC_POSE, and the actions of a Panda under it.

Source: robosuite 1.4.0, `controllers/config/osc_pose.json`. LIBERO and robomimic use it unchanged,
at 20 Hz, and name it so in their datasets.
"""

from collections.abc import Mapping
from math import pi
from typing import Any

from sim.spec import ActionMode, ActionSpec

CONTROL_FREQ_HZ = 20
ACTION_NAMES = ("x", "y", "z", "rx", "ry", "rz", "gripper")
# Units of a relative action: its 1 is `output_max` of the controller.
POSITION_UNIT_M = 0.05
ROTATION_UNIT_RAD = 0.5
GRIPPER_OPEN = -1.0
GRIPPER_CLOSED = 1.0

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

type _Position = tuple[float, float, float]


def make_action_spec(
    control: ActionMode,
    reach_low_m: _Position,
    reach_high_m: _Position,
    *,
    has_gripper: bool = True,
    n_arms: int = 1,
) -> ActionSpec:
    """Return the meaning of an action.

    The numbers of a second arm follow those of the first, and the names then begin with robosuite's
    names of the robots ("robot0_x").

    Args:
        control: "absolute" is robosuite's `control_delta=False`, which diffusion policy uses.
        reach_low_m: lower bounds of absolute targets: of the space that the arm can reach, world.
        reach_high_m: the upper bounds.
        has_gripper: whether the last number is a gripper's command. A wiping tool has no gripper.
    """
    if control == "delta":
        units = (f"{POSITION_UNIT_M} m",) * 3 + (f"{ROTATION_UNIT_RAD} rad",) * 3
        low = (-1.0,) * 6
        high = (1.0,) * 6
    else:
        units = ("m",) * 3 + ("rad",) * 3
        low = (*reach_low_m, *(-pi,) * 3)
        high = (*reach_high_m, *(pi,) * 3)
    n = 7 if has_gripper else 6
    grippers = range(6, n * n_arms, n) if has_gripper else ()
    return ActionSpec(
        names=name_for_each_arm(ACTION_NAMES[:n], n_arms),
        units=(*units, "-1 open, 1 closed")[:n] * n_arms,
        low=(*low, GRIPPER_OPEN)[:n] * n_arms,
        high=(*high, GRIPPER_CLOSED)[:n] * n_arms,
        mode=control,
        rotation="axis_angle",
        rotation_frame="base",
        gripper_index=6 if has_gripper else None,
        more_gripper_indices=tuple(grippers[1:]),
        gripper_closed=GRIPPER_CLOSED,
        gripper_open=GRIPPER_OPEN,
        # robosuite's PandaGripper moves by the sign of the command.
        gripper_closes_below=0.5,
    )


def name_for_each_arm(names: tuple[str, ...], n_arms: int) -> tuple[str, ...]:
    """Return the names of all arms: the given ones, with the robot in front if there are two."""
    if n_arms == 1:
        return names
    return tuple(f"robot{arm}_{name}" for arm in range(n_arms) for name in names)
