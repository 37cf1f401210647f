"""Reads LIBERO's published demonstrations; `demonstration_layout` describes the files."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float64

from sim.errors import WhiskerError
from sim.libero_bench.demonstration_layout import (
    IMAGE_CONVENTION,
    IMAGE_KEYS,
    READER,
    check_obs,
    check_obs_keys,
)
from sim.libero_bench.fixture_poses import BodyPose, read_fixture_poses
from sim.robosuite.demonstration_reader import as_dict, as_float, as_text, list_names
from sim.robosuite.osc_pose import CONTROL_FREQ_HZ, CONTROLLER


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode.

    Attributes:
        name: name of its group, "demo_<i>".
        bddl_file_name: the path as it was on the machine of the recording.
        actions: relative, in [-1, 1]; see `demonstration_layout`.
        states: time [s], qpos, qvel before each action.
        init_state: the file's own copy of the first of `states`.
        fixture_poses: name → pose of the bodies that stand on the world and have no free joint.
            They are part of the model and not of `states`. MuJoCo wrote them with six digits.
        obs: the observations that were asked for, as they are stored.
    """

    name: str
    instruction: str
    bddl_file_name: str
    actions: Float64[np.ndarray, "step 7"]
    states: Float64[np.ndarray, "step state_dim"]
    init_state: Float64[np.ndarray, " state_dim"]
    fixture_poses: Mapping[str, BodyPose]
    obs: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def task_name(self) -> str:
        """Return LIBERO's name of the recorded task: the stem of its BDDL file."""
        return PurePosixPath(self.bddl_file_name).stem


def load_demonstrations(path: Path, *, obs_keys: Collection[str] = ()) -> list[Demonstration]:
    """Return every demonstration of a file, demo_2 before demo_10.

    Args:
        obs_keys: the observations to read, from `OBS_KEYS`. The images of a published file fill
            half a gigabyte or more: read them with `load_demonstration`, one episode at a time.

    Raises:
        WhiskerError: the file does not exist, has another layout or is damaged, or its values
            cannot be replayed.
    """
    with READER.open(path) as data:
        return [_read(data, name, path, obs_keys) for name in list_names(data, path)]


def load_demonstration(
    path: Path,
    index: int,
    *,
    obs_keys: Collection[str] = (),
) -> Demonstration:
    """Return `load_demonstrations(path)[index]` without reading the others.

    Raises:
        WhiskerError: as in `load_demonstrations`, or there is no such index.
    """
    with READER.open(path) as data:
        names = list_names(data, path)
        if not 0 <= index < len(names):
            raise WhiskerError(
                f"demonstration {index} of {path}",
                expected=f"an index from 0 to {len(names) - 1}",
            )
        return _read(data, names[index], path, obs_keys)


def _read(
    data: h5py.Group,
    name: str,
    path: Path,
    obs_keys: Collection[str],
) -> Demonstration:
    subject = f"{name!r} of {path}"
    demo = data[name]
    instruction, bddl_file_name = _read_task(data, path)
    actions = as_float(READER.read_array(demo, "actions", subject))
    states = as_float(READER.read_array(demo, "states", subject))
    READER.check_steps(subject, actions, states)
    init_state = as_float(READER.read_attribute(demo, "init_state", subject))
    if init_state.shape != states.shape[1:]:
        raise READER.unreadable(
            f"init_state of {subject}",
            f"a row of states, {states.shape[1:]}",
            f"{init_state.shape}",
        )
    convention = as_text(data.attrs.get("macros_image_convention", IMAGE_CONVENTION))
    if convention != IMAGE_CONVENTION and set(obs_keys) & set(IMAGE_KEYS):
        raise WhiskerError(
            f"macros_image_convention of {subject}",
            expected=IMAGE_CONVENTION,
            got=convention,
        )
    check_obs_keys(obs_keys, subject)
    return Demonstration(
        name=name,
        instruction=instruction,
        bddl_file_name=bddl_file_name,
        actions=actions,
        states=states,
        init_state=init_state,
        fixture_poses=read_fixture_poses(
            as_text(READER.read_attribute(demo, "model_file", subject)), f"model_file of {subject}"
        ),
        obs={
            key: check_obs(
                key, READER.read_array(demo, f"obs/{key}", subject), subject, len(actions)
            )
            for key in obs_keys
        },
    )


def _read_task(data: h5py.Group, path: Path) -> tuple[str, str]:
    """Return the instruction and the BDDL file's name.

    Raises:
        WhiskerError: attributes are missing, or the actions are those of another controller.
    """
    if not {"env_args", "problem_info", "bddl_file_name"} & data.attrs.keys():
        raise WhiskerError(
            f"demonstration file {path}",
            expected="the attributes of LIBERO's own files: "
            "task, controller, and each episode's model",
            got="none: it was regenerated without them, as OpenVLA's scripts do",
            hint="Give LIBERO's own file of that task, or record one: "
            "eval-demos --env <task> --output <file>.",
        )
    _check_control(READER.read_json(data, "env_args", path), path)
    words = READER.read_json(data, "problem_info", path).get("language_instruction")
    if not words or not isinstance(words, str | list):
        raise READER.unreadable(
            f"problem_info of {path}",
            "a language_instruction",
            "none",
        )
    # LIBERO's own tools accept a list of strings, and quotation marks.
    instruction = "".join(words).strip('"')
    return instruction, as_text(READER.read_attribute(data, "bddl_file_name", f"'data' of {path}"))


def _check_control(env_args: Mapping[str, Any], path: Path) -> None:
    """Raise if the file was recorded with another controller.

    The same seven numbers would mean something else.
    """
    kwargs = as_dict(env_args.get("env_kwargs"))
    found = {
        **as_dict(kwargs.get("controller_configs")),
        "control_freq": kwargs.get("control_freq"),
    }
    expected = {**CONTROLLER, "control_freq": CONTROL_FREQ_HZ}
    for key in ("type", "control_delta", "output_max", "output_min", "control_freq"):
        value = expected[key]
        if found.get(key) != value:
            raise WhiskerError(
                f"env_args of {path}",
                expected=f"{key} {value}",
                got=f"{found.get(key)}",
                hint="Its actions mean something else: "
                "collect them again with LIBERO's controller.",
            )
