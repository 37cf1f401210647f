"""Defines the HDF5 layout of LIBERO's published demonstrations, `<task's name>_demo.hdf5`.

    data                  attributes: problem_info, env_args (JSON), env_name, bddl_file_name,
                          num_demos, total (steps), macros_image_convention "opengl",
                          tag "libero-v1"
    data/demo_<i>         attributes: model_file (MJCF), init_state (state_dim,) = states[0],
                          num_samples = T
      actions             (T, 7) float64 in [-1, 1]: OSC_POSE relative to the end effector,
                          3 position (1 = 0.05 m), 3 axis-angle (1 = 0.5 rad),
                          gripper -1 open, +1 close; 20 a second
      states              (T, state_dim) float64: time [s], qpos, qvel, before the action of
                          that row
      robot_states        (T, 9) float64: gripper_states, ee position, ee quat_xyzw
      rewards, dones      (T,) uint8: 1 in the last row and 0 before, whenever the task was
                          really done
      obs/agentview_rgb   (T, H, W, 3) uint8, as OpenGL stores it: the bottom row first
      obs/eye_in_hand_rgb (T, H, W, 3) uint8, likewise
      obs/ee_states       (T, 6) float64: ee_pos [m], ee_ori (axis-angle [rad]); both are also
                          stored on their own
      obs/gripper_states  (T, 2) float64: finger positions [m]
      obs/joint_states    (T, 7) float64: arm joints [rad]

`obs` and `robot_states` of a row are measured *after* its action, `states` *before* it. The first
five steps of the recording are cut off, so the robot is moving in the first state. The attribute
`bddl_file_name` has the task's present name, while the name inside `env_args` may be older than
LIBERO's release. `raw[::-1, ::-1]` turns the images into those that policies get here.

Sources: LIBERO 8f1084e, scripts/create_dataset.py (keys, dtypes, order, `cap_index`),
collect_demonstration.py (alignment), notebooks/quick_walkthrough.ipynb (flips to show) and its
issue 11; robosuite 1.4.0 macros.py (IMAGE_CONVENTION), binding_utils.py (MjSimState.flatten),
osc_pose.json. Fields that tools need: robomimic d309eae, utils/dataset.py (`num_samples`,
`actions`, `obs`) and file_utils.py (`env_args`).
"""

from collections.abc import Collection, Mapping

import numpy as np

from sim.errors import UnknownNameError, WhiskerError
from sim.robosuite.demonstration_reader import DemonstrationReader, as_float, check_finite

PUBLISHED_IMAGE_SIZE_PX = (128, 128)
IMAGE_KEYS = ("agentview_rgb", "eye_in_hand_rgb")
_WIDTHS: Mapping[str, int] = {
    "ee_states": 6,
    "ee_pos": 3,
    "ee_ori": 3,
    "gripper_states": 2,
    "joint_states": 7,
}
OBS_KEYS = (*IMAGE_KEYS, *_WIDTHS)

IMAGE_CONVENTION = "opengl"
TAG = "libero-v1"
READER = DemonstrationReader(
    name_hint="Name a file of LIBERO's dataset, <task's name>_demo.hdf5.",
    remake_hint="Download it again, or write it with LIBERO's scripts/create_dataset.py.",
)


def check_obs_keys(obs_keys: Collection[str], subject: str) -> None:
    """Raise `UnknownNameError` for a key that is not one of `OBS_KEYS`."""
    for key in obs_keys:
        if key not in OBS_KEYS:
            raise UnknownNameError(f"observation of {subject}", key, OBS_KEYS)


def check_obs(
    key: str,
    array: np.ndarray,
    subject: str,
    n_steps: int,
) -> np.ndarray:
    """Return one observation as it is stored: images as uint8, the rest as float64.

    Raises:
        WhiskerError: it has another shape or type, or is not finite.
    """
    name = f"obs/{key} of {subject}"
    if key in IMAGE_KEYS:
        is_rgb = array.ndim == 4 and array.shape[::3] == (n_steps, 3)
        if not is_rgb or array.dtype != np.uint8:
            raise WhiskerError(
                name,
                expected=f"uint8 ({n_steps}, H, W, 3)",
                got=f"{array.dtype} {array.shape}",
            )
        return array
    shape = (n_steps, _WIDTHS[key])
    if array.shape != shape:
        raise WhiskerError(
            name,
            expected=f"{shape}",
            got=f"{array.shape}",
        )
    array = as_float(array)
    check_finite(name, array)
    return array
