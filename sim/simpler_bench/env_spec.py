"""Describes a Bridge task as `sim.spec.EnvSpec`. No simulator is imported."""

import math

from sim.arrays import ImageSizes
from sim.errors import UnknownNameError, WhiskerError
from sim.simpler_bench import conventions
from sim.simpler_bench.progress import declare_goal
from sim.simpler_bench.tasks import PADDED_STATE, SimplerTask
from sim.spec import CameraSpec, EnvSpec


def make_spec(
    task: SimplerTask,
    image_sizes: ImageSizes | None,
    has_padded_state: bool,
) -> EnvSpec:
    """Return the specification of a task.

    Args:
        task: the task.
        image_sizes: camera → (height_px, width_px); None: the camera in its own size.
        has_padded_state: whether a 0 stands before the gripper in the state.

    Raises:
        WhiskerError: there is no such camera, or the image would be distorted.
    """
    height_px, width_px = conventions.IMAGE_SIZE_PX
    sizes = {conventions.CAMERA: (height_px, width_px)} if image_sizes is None else image_sizes
    fovy_deg = math.degrees(2 * math.atan(height_px / 2 / conventions.FOCAL_PX))
    for name, size_px in sizes.items():
        if name != conventions.CAMERA:
            raise UnknownNameError(f"camera of {task.task_name!r}", name, [conventions.CAMERA])
        if abs(size_px[1] - size_px[0] * width_px / height_px) >= 1:
            raise WhiskerError(
                f"image size of camera {name!r}",
                expected=f"{width_px}x{height_px}, or another size of the same shape",
                got=f"{size_px[1]}x{size_px[0]}",
                hint="The photograph behind the objects has that shape.",
            )
    names, units = conventions.STATE_NAMES, conventions.STATE_UNITS
    if has_padded_state:
        names, units = conventions.PADDED_STATE_NAMES, conventions.PADDED_STATE_UNITS
    return EnvSpec(
        name=task.task_name + (PADDED_STATE if has_padded_state else ""),
        task=task.task_name,
        instruction=task.instruction,
        cameras=tuple(CameraSpec(name, *size_px, fovy_deg) for name, size_px in sizes.items()),
        state_names=names,
        state_units=units,
        action=conventions.ACTION,
        control_dt_s=1 / conventions.CONTROL_FREQ_HZ,
        physics_dt_s=1 / conventions.PHYSICS_FREQ_HZ,
        max_steps=task.max_steps,
        camera_names=(conventions.CAMERA,),
        goals=(declare_goal(task),),
        n_episodes=conventions.N_EPISODES,
    )
