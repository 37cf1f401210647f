"""Converts the actions of policies trained on Bridge and Fractal to those of an environment.

Such a policy plans seven numbers: a difference of position [m], a difference of rotation as roll,
pitch and yaw [rad] about fixed axes, and the share by which the gripper is open.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy.spatial.transform import Rotation

from policies.native.native_checkpoint import NativeCheckpoint
from sim.errors import WhiskerError
from sim.spec import EnvSpec

ACTION_DIM = 7
_GRIPPER_OPENS_ABOVE = 0.5
# The camera of the training, where the environment does not say which one it is.
_CAMERA = "image"
_CAMERA_SIZE_PX = (480, 640)
# Values for closed and open where there is no environment: those of SimplerEnv's Bridge tasks.
_GRIPPER_RANGE = (-1.0, 1.0)

type Bounds = tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dim"]]


def normalise(
    values: Float[np.ndarray, "*row dim"], bounds: Bounds
) -> Float32[np.ndarray, "*row dim"]:
    """Map values between the bounds to -1 … 1. Where both bounds are equal, the result is -1."""
    low, high = bounds
    span = np.where(high > low, high - low, 1)
    return (2 * (values - low) / span - 1).astype(np.float32)


def unnormalise(
    values: Float[np.ndarray, "*row dim"], bounds: Bounds
) -> Float32[np.ndarray, "*row dim"]:
    """Map -1 … 1 to the values between the bounds."""
    low, high = bounds
    return ((values + 1) / 2 * (high - low) + low).astype(np.float32)


def join_action(
    pose: Float[np.ndarray, "*row 6"],
    is_open: Bool[np.ndarray, "*row"],
    gripper_range: tuple[float, float],
) -> Float32[np.ndarray, "*row 7"]:
    """Return position, axis times angle, and the environment's value for the gripper.

    Args:
        pose: differences of position and of roll, pitch and yaw: R = R_z(yaw) R_y(pitch) R_x(roll).
        gripper_range: the environment's values for closed and for open.
    """
    rotation = Rotation.from_euler("xyz", pose[..., 3:].reshape(-1, 3)).as_rotvec()
    closed, opened = gripper_range
    gripper = np.where(is_open, opened, closed)[..., None]
    parts = [pose[..., :3], rotation.reshape(*pose.shape[:-1], 3), gripper]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def opens(gripper: Float[np.ndarray, "*row"]) -> Bool[np.ndarray, "*row"]:
    """Return whether the share by which the gripper is to be open opens it."""
    return gripper > _GRIPPER_OPENS_ABOVE


def gripper_range_of(env: EnvSpec | None) -> tuple[float, float]:
    """Return the values for closed and open in an environment."""
    if env is None:
        return _GRIPPER_RANGE
    return env.action.gripper_closed, env.action.gripper_open


def camera_of(env: EnvSpec | None) -> dict[str, tuple[int, int]]:
    """Return the one camera that the policy looks through → (height_px, width_px).

    It is the environment's only camera. If there are several, the user pairs one of them with
    "image" (`--camera-map`).
    """
    if env is None or len(env.cameras) != 1:
        return {_CAMERA: _CAMERA_SIZE_PX}
    (camera,) = env.cameras
    return {camera.name: (camera.height_px, camera.width_px)}


def check_action(checkpoint: NativeCheckpoint, env: EnvSpec | None) -> None:
    """Raise unless the environment takes differences of the end effector's pose, and a gripper."""
    if env is None:
        return
    action = env.action
    is_pose = action.dim == ACTION_DIM and action.rotation == "axis_angle"
    if is_pose and action.mode == "delta" and action.gripper_index == ACTION_DIM - 1:
        return
    names = ", ".join(action.names)
    raise WhiskerError(
        f"checkpoint {checkpoint.name!r} in {env.name!r}",
        expected="an environment that takes 3 differences of position, 3 of rotation and a gripper",
        got=f"one that takes {action.mode} actions of {action.dim} numbers ({names})",
        hint="The checkpoint was trained for another robot.",
    )
