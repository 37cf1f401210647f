"""Writes demonstrations in LIBERO's published layout; `demonstration_layout` describes it."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from sim.errors import WhiskerError
from sim.files import atomic_write
from sim.libero_bench.demonstration_layout import (
    IMAGE_CONVENTION,
    IMAGE_KEYS,
    PUBLISHED_IMAGE_SIZE_PX,
    READER,
    TAG,
    check_obs,
    check_obs_keys,
)
from sim.libero_bench.fixture_poses import read_fixture_poses
from sim.robosuite.demonstration_reader import as_float
from sim.robosuite.osc_pose import CONTROL_FREQ_HZ, CONTROLLER

Arrays = Mapping[str, np.ndarray]


class DemonstrationFile:
    """Collects the demonstrations of one task; `write_demonstrations` makes it.

    Attributes:
        image_size_px: height and width.
    """

    def __init__(
        self,
        data: h5py.Group,
        subject: str,
    ) -> None:
        self._data = data
        self._subject = subject
        self.n_demonstrations = 0
        self.n_steps = 0
        self.image_size_px = PUBLISHED_IMAGE_SIZE_PX
        self._shapes: dict[str, tuple[int, ...]] = {}

    def add(
        self,
        *,
        actions: np.ndarray,
        states: np.ndarray,
        model_xml: str,
        obs: Arrays | None = None,
    ) -> None:
        """Append one successful episode. All episodes of a file have equal observations and shapes.

        Args:
            actions: `(T, 7)` in [-1, 1].
            states: `(T, state_dim)`, before each action.
            model_xml: the model after reset, as MuJoCo saves it; it holds the fixtures' poses.
            obs: some of `OBS_KEYS`, after each action, images with the bottom row first. `ee_pos`
                and `ee_ori` are cut from `ee_states`. Without `gripper_states` and `ee_states` the
                file has no `robot_states`.

        Raises:
            WhiskerError: the reader or LIBERO's tools would refuse the episode. The file stays
                unchanged.
        """
        subject = f"'demo_{self.n_demonstrations}' for {self._subject}"
        actions = as_float(actions)
        states = as_float(states)
        READER.check_steps(subject, actions, states)
        largest = np.abs(actions).max()
        if largest > 1:
            raise WhiskerError(
                f"actions of {subject}",
                expected="[-1, 1]",
                got=f"{largest}",
                hint="Clip them, as the controller does: LIBERO's tools refuse a file with others.",
            )
        read_fixture_poses(model_xml, f"model_xml of {subject}")
        given = obs or {}
        check_obs_keys(given, subject)
        complete_obs = {
            key: check_obs(key, np.asarray(array), subject, len(actions))
            for key, array in given.items()
        }
        if "ee_states" in complete_obs:
            complete_obs["ee_pos"] = complete_obs["ee_states"][:, :3]
            complete_obs["ee_ori"] = complete_obs["ee_states"][:, 3:]
        arrays = {f"obs/{key}": array for key, array in complete_obs.items()}
        self._check_shapes(subject, {"states": states, **arrays})

        is_last = np.zeros(len(actions), dtype=np.uint8)
        is_last[-1] = 1
        arrays |= {"actions": actions, "states": states}
        if {"gripper_states", "ee_states"} <= complete_obs.keys():
            # Finger positions, and position and quat_xyzw of the end effector.
            quat_xyzw = Rotation.from_rotvec(complete_obs["ee_ori"]).as_quat()
            arrays["robot_states"] = np.concatenate(
                [complete_obs["gripper_states"], complete_obs["ee_pos"], quat_xyzw], axis=1
            )
        arrays |= {"rewards": is_last, "dones": is_last}
        demo = self._data.create_group(f"demo_{self.n_demonstrations}")
        for name, array in arrays.items():
            demo.create_dataset(name, data=array)
        demo.attrs["num_samples"] = len(actions)
        demo.attrs["model_file"] = model_xml
        demo.attrs["init_state"] = states[0]
        self.n_demonstrations += 1
        self.n_steps += len(actions)

    def _check_shapes(
        self,
        subject: str,
        arrays: Arrays,
    ) -> None:
        shapes = {name: array.shape[1:] for name, array in arrays.items()}
        if self._shapes and shapes != self._shapes:
            raise WhiskerError(
                subject,
                expected=f"what the first one has, {self._shapes}",
                got=str(shapes),
            )
        keys = [f"obs/{key}" for key in IMAGE_KEYS]
        sizes = [shapes[key][:2] for key in keys if key in shapes]
        if len(set(sizes)) > 1:
            raise WhiskerError(
                f"images of {subject}",
                expected="one size",
                got=str(sizes),
            )
        self._shapes = shapes
        self.image_size_px = sizes[0] if sizes else PUBLISHED_IMAGE_SIZE_PX


@contextmanager
def write_demonstrations(
    path: Path,
    suite: str,
    bddl_path: Path,
    instruction: str,
) -> Iterator[DemonstrationFile]:
    """Write the demonstrations of one task.

    The file appears complete when the block ends without an error, or not at all.

    Args:
        path: LIBERO's tools look for `<suite>/<task's name>_demo.hdf5`.
        bddl_path: the task's BDDL file on this machine, which names the kind of scene.

    Raises:
        WhiskerError: `bddl_path` is not a BDDL file, there is no instruction, or nothing was added.
    """
    if not instruction:
        raise WhiskerError(
            f"demonstration file {path}",
            expected="an instruction",
            got="none",
        )
    subject = f"BDDL file {bddl_path}"
    try:
        text = bddl_path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise WhiskerError(
            subject,
            expected="a file to read",
            got=str(error),
        ) from error
    # The kind of scene, like LIBERO_Tabletop_Manipulation.
    found = re.search(r"\(\s*problem\s+(LIBERO_\w+)", text)
    if not found:
        raise WhiskerError(
            subject,
            expected="(define (problem LIBERO_...",
            got="no such line",
        )
    bddl_file_name = f"libero/libero/bddl_files/{suite}/{bddl_path.name}"
    with atomic_write(path) as unfinished, h5py.File(unfinished, "w") as hdf5:
        data = hdf5.create_group("data")
        file = DemonstrationFile(data, str(path))
        yield file
        if not file.n_demonstrations:
            raise WhiskerError(
                f"demonstration file {path}",
                expected="at least one demonstration",
                got="none",
            )
        data.attrs.update(_make_attributes(file, found.group(1), bddl_file_name, instruction))


def _make_attributes(
    file: DemonstrationFile,
    problem: str,
    bddl_file_name: str,
    instruction: str,
) -> dict[str, Any]:
    problem_info = {
        "problem_name": problem.lower(),
        "domain_name": "robosuite",
        "language_instruction": instruction,
    }
    height_px, width_px = file.image_size_px
    # The name of the class that robosuite registers.
    env_name = problem.replace("LIBERO", "Libero", 1)
    env_args = {
        "type": 1,  # robomimic's number for robosuite
        "env_name": env_name,
        "problem_name": problem.lower(),
        "bddl_file": bddl_file_name,
        "env_kwargs": {
            "robots": ["Panda"],
            "controller_configs": dict(CONTROLLER),
            "bddl_file_name": bddl_file_name,
            "has_renderer": False,
            "has_offscreen_renderer": True,
            "ignore_done": True,
            "use_camera_obs": True,
            "camera_depths": False,
            "camera_names": ["robot0_eye_in_hand", "agentview"],
            "reward_shaping": True,
            "control_freq": CONTROL_FREQ_HZ,
            "camera_heights": height_px,
            "camera_widths": width_px,
            "camera_segmentations": None,
        },
    }
    return {
        "env_name": env_name,
        "problem_info": json.dumps(problem_info),
        "macros_image_convention": IMAGE_CONVENTION,
        "bddl_file_name": bddl_file_name,
        "env_args": json.dumps(env_args),
        "num_demos": file.n_demonstrations,
        "total": file.n_steps,
        "tag": TAG,
    }
