"""The `EnvSpec` of the pick-and-place tasks with joint actions, and the cameras of their models."""

import mujoco
import numpy as np
from jaxtyping import Float64

from sim.arrays import ImageSizes
from sim.errors import WhiskerError
from sim.rendering import DEPTH_SUFFIX
from sim.so101.goals import declare_goal
from sim.so101.scene_config import VIEWER_CAMERA, SceneConfig
from sim.so101.units import JOINTS, JointUnits
from sim.spec import ActionSpec, CameraSpec, EnvSpec


def make_spec(
    name: str,
    config: SceneConfig,
    model: mujoco.MjModel,
    units: JointUnits,
    image_sizes: ImageSizes | None,
) -> EnvSpec:
    """Return the spec of a pick-and-place task.

    Args:
        image_sizes: camera → (height_px, width_px) of exactly the cameras to observe. None: both
            cameras of the robot.

    Raises:
        WhiskerError: a camera does not exist.
    """
    if image_sizes is None:
        own_size = (config.image_height_px, config.image_width_px)
        image_sizes = {"overhead_cam": own_size, "wrist_cam": own_size}
    cameras = []
    for camera, size_px in image_sizes.items():
        colour_name = camera.removesuffix(DEPTH_SUFFIX)
        index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, colour_name)
        if index < 0:
            raise WhiskerError(
                f"camera {camera!r}",
                expected=f"one of {', '.join(_camera_names(model))}",
                hint="The environment has no other cameras.",
            )
        depth_range_m = None if camera == colour_name else config.depth_range_m
        cameras.append(CameraSpec(camera, *size_px, float(model.cam_fovy[index]), depth_range_m))
    low_rad, high_rad = servo_range_rad(model)
    return EnvSpec(
        name=name,
        task=config.name,
        instruction=config.instruction,
        cameras=tuple(cameras),
        state_names=units.names,
        state_units=units.units,
        action=ActionSpec(
            names=units.names,
            units=units.units,
            low=tuple(units.from_rad(low_rad).tolist()),
            high=tuple(units.from_rad(high_rad).tolist()),
            mode="absolute",
            rotation="none",
            gripper_index=JOINTS.index("gripper"),
            gripper_closed=0.0,
            gripper_open=100.0,
        ),
        control_dt_s=config.control_dt_s,
        physics_dt_s=config.physics_dt_s,
        max_steps=config.max_steps,
        camera_names=_camera_names(model),
        goals=(declare_goal("in block bowl"),),
    )


def servo_range_rad(model: mujoco.MjModel) -> Float64[np.ndarray, "2 6"]:
    """Return the smallest and largest target of the servos of `JOINTS`."""
    return model.actuator_ctrlrange[[model.actuator(joint).id for joint in JOINTS]].T


def _camera_names(model: mujoco.MjModel) -> tuple[str, ...]:
    """Return the colour and depth cameras, without the viewer's camera."""
    names = (model.camera(index).name for index in range(model.ncam))
    robot_cameras = [name for name in names if name != VIEWER_CAMERA]
    return (*robot_cameras, *(name + DEPTH_SUFFIX for name in robot_cameras))
