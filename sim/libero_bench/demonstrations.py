"""Reads LIBERO's published demonstrations; `demonstration_layout` describes the files."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float64

from sim.errors import WhiskerError
from sim.libero_bench.demonstration_layout import (
    CONTROL_FREQ_HZ,
    CONTROLLER,
    IMAGE_CONVENTION,
    IMAGE_KEYS,
    REMAKE,
    as_float,
    check_obs,
    check_obs_keys,
    check_steps,
    unreadable,
)
from sim.libero_bench.fixture_poses import BodyPose, read_fixture_poses


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
    with _open(path) as data:
        return [_read(data, name, path, obs_keys) for name in _list_names(data, path)]


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
    with _open(path) as data:
        names = _list_names(data, path)
        if not 0 <= index < len(names):
            raise WhiskerError(
                f"demonstration {index} of {path}",
                expected=f"an index from 0 to {len(names) - 1}",
            )
        return _read(data, names[index], path, obs_keys)


@contextmanager
def _open(path: Path) -> Iterator[h5py.Group]:
    """Open the group `data`; every error of HDF5 becomes one error with a hint."""
    subject = f"demonstration file {path}"
    if not path.is_file():
        raise WhiskerError(
            subject,
            expected="a file",
            got="a folder" if path.is_dir() else "none",
            hint="Name a file of LIBERO's dataset, <task's name>_demo.hdf5.",
        )
    if not h5py.is_hdf5(path):
        raise WhiskerError(
            subject,
            expected="an HDF5 file",
            got=f"{path.stat().st_size} bytes in another format",
            hint=f"{REMAKE} A few lines of text are a Git LFS pointer.",
        )
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("data"), h5py.Group):
                raise unreadable(
                    subject,
                    "a group 'data'",
                    f"{sorted(file)}",
                )
            yield file["data"]
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise unreadable(
            subject,
            "a whole HDF5 file",
            f"a damaged one ({error})",
        ) from error


def _list_names(data: h5py.Group, path: Path) -> list[str]:
    """Return the demonstrations' names by number; HDF5 itself lists them alphabetically."""
    names = [
        name
        for name in data
        if re.fullmatch(r"demo_\d+", name) and isinstance(data[name], h5py.Group)
    ]
    if not names:
        raise WhiskerError(
            f"demonstration file {path}",
            expected="groups 'data/demo_<i>'",
            got=f"{sorted(data)}",
        )
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _read(
    data: h5py.Group,
    name: str,
    path: Path,
    obs_keys: Collection[str],
) -> Demonstration:
    subject = f"{name!r} of {path}"
    demo = data[name]
    instruction, bddl_file_name = _read_task(data, path)
    actions = as_float(_read_array(demo, "actions", subject))
    states = as_float(_read_array(demo, "states", subject))
    check_steps(subject, actions, states)
    init_state = as_float(_read_attribute(demo, "init_state", subject))
    if init_state.shape != states.shape[1:]:
        raise unreadable(
            f"init_state of {subject}",
            f"a row of states, {states.shape[1:]}",
            f"{init_state.shape}",
        )
    convention = _as_text(data.attrs.get("macros_image_convention", IMAGE_CONVENTION))
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
            _as_text(_read_attribute(demo, "model_file", subject)), f"model_file of {subject}"
        ),
        obs={
            key: check_obs(key, _read_array(demo, f"obs/{key}", subject), subject, len(actions))
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
    _check_control(_read_json(data, "env_args", path), path)
    words = _read_json(data, "problem_info", path).get("language_instruction")
    if not words or not isinstance(words, str | list):
        raise unreadable(
            f"problem_info of {path}",
            "a language_instruction",
            "none",
        )
    # LIBERO's own tools accept a list of strings, and quotation marks.
    instruction = "".join(words).strip('"')
    return instruction, _as_text(_read_attribute(data, "bddl_file_name", f"'data' of {path}"))


def _check_control(env_args: Mapping[str, Any], path: Path) -> None:
    """Raise if the file was recorded with another controller.

    The same seven numbers would mean something else.
    """
    kwargs = _as_dict(env_args.get("env_kwargs"))
    found = {
        **_as_dict(kwargs.get("controller_configs")),
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


def _read_array(
    demo: h5py.Group,
    key: str,
    subject: str,
) -> np.ndarray:
    dataset = demo.get(key)
    if not isinstance(dataset, h5py.Dataset):
        found: list[str] = []
        demo.visit(found.append)
        raise unreadable(
            subject,
            f"a dataset {key!r}",
            ", ".join(sorted(found)) or "none",
        )
    return dataset[()]


def _read_attribute(
    group: h5py.Group,
    name: str,
    subject: str,
) -> Any:
    if name not in group.attrs:
        raise unreadable(
            subject,
            f"an attribute {name!r}",
            ", ".join(group.attrs) or "none",
        )
    return group.attrs[name]


def _read_json(
    data: h5py.Group,
    name: str,
    path: Path,
) -> dict[str, Any]:
    text = _as_text(_read_attribute(data, name, f"'data' of {path}"))
    value = None
    with suppress(ValueError):
        value = json.loads(text)
    if not isinstance(value, dict):
        raise WhiskerError(
            f"attribute {name!r} of {path}",
            expected="a JSON object",
            got=repr(text[:60]),
        )
    return value


def _as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
