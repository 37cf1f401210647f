"""LIBERO's published demonstrations: the one reader and writer of their HDF5 layout, `<task's name>_demo.hdf5`.

    data                  attributes: problem_info, env_args (JSON), env_name, bddl_file_name, num_demos, total (steps),
                          macros_image_convention "opengl", tag "libero-v1"
    data/demo_<i>         attributes: model_file (MJCF), init_state (state_dim,) = states[0], num_samples = T
      actions             (T, 7) float64 in [-1, 1]: OSC_POSE relative to the end effector, 3 position (1 = 0.05 m),
                          3 axis-angle (1 = 0.5 rad), gripper -1 open, +1 close; 20 a second
      states              (T, state_dim) float64: time [s], qpos, qvel, before the action of that row
      robot_states        (T, 9) float64: gripper_states, ee position, ee quat_xyzw
      rewards, dones      (T,) uint8: 0, and 1 in the last row, whenever the task was in truth done
      obs/agentview_rgb, obs/eye_in_hand_rgb   (T, H, W, 3) uint8, as OpenGL has them: the bottom row first
      obs/ee_states       (T, 6) float64: ee_pos [m], ee_ori (axis-angle [rad]); both are there on their own, too
      obs/gripper_states (T, 2), obs/joint_states (T, 7)   float64: finger positions [m], arm joints [rad]

`obs` of a row (and `robot_states`) is seen *after* its action, `states` holds *before* it. The
first five steps of the recording are cut off, so the first state is one in motion. The attribute
`bddl_file_name` has the task's name of today, while the one inside `env_args` may be from before
LIBERO's release. Images turned both ways, `raw[::-1, ::-1]`, are those that policies are given
here.

Sources: LIBERO 8f1084e, scripts/create_dataset.py (keys, dtypes, order, `cap_index`),
collect_demonstration.py (alignment), notebooks/quick_walkthrough.ipynb (flips to show) and its
issue 11; robosuite 1.4.0 macros.py (IMAGE_CONVENTION), binding_utils.py (MjSimState.flatten),
osc_pose.json. What tools ask for: robomimic d309eae, utils/dataset.py (`num_samples`, `actions`,
`obs`) and file_utils.py (`env_args`).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from sim.errors import UnknownNameError, WhiskerError
from sim.files import atomic_write
from sim.libero_bench.fixture_poses import BodyPose, read_fixture_poses

ACTION_DIM = 7
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

_IMAGE_CONVENTION, _TAG = "opengl", "libero-v1"
_CONTROL_FREQ_HZ = 20
_CONTROLLER: Mapping[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
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
_REMAKE = "Download it again, or write it with LIBERO's scripts/create_dataset.py."


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode.

    Attributes:
        name: of its group, "demo_<i>".
        bddl_file_name: as it was on the machine of the recording.
        actions: relative, in [-1, 1]; see the head of this file.
        states: time [s], qpos, qvel before each action.
        init_state: the first of `states`, as the file has it.
        fixture_poses: name → pose of the bodies that stand on the world and have no free joint:
            these are part of the model and not of `states`. MuJoCo wrote them with six digits.
        obs: those that were asked for, as they are stored.
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
        """Of the task that was recorded, as LIBERO calls it: the stem of its BDDL file."""
        return PurePosixPath(self.bddl_file_name).stem


def load_demonstrations(path: Path, *, obs_keys: Collection[str] = ()) -> list[Demonstration]:
    """Every demonstration of a file, demo_2 before demo_10. What is not asked for is not read.

    Args:
        obs_keys: some of `OBS_KEYS`. Images of a published file fill half a gigabyte and more: for
            them, rather ask `load_demonstration` one by one.

    Raises:
        WhiskerError: no such file, none of this layout, damaged, or values that cannot be replayed.
    """
    with _open(path) as data:
        return [_read(data, name, path, obs_keys) for name in _names(data, path)]


def load_demonstration(path: Path, index: int, *, obs_keys: Collection[str] = ()) -> Demonstration:
    """The one at `index` of `load_demonstrations(path)`, without reading the others.

    Raises:
        WhiskerError: as there, or there is no such index.
    """
    with _open(path) as data:
        names = _names(data, path)
        if not 0 <= index < len(names):
            raise WhiskerError(
                f"demonstration {index} of {path}", expected=f"an index from 0 to {len(names) - 1}"
            )
        return _read(data, names[index], path, obs_keys)


class DemonstrationFile:
    """Collects the demonstrations of one task; made by `write_demonstrations`."""

    def __init__(self, data: h5py.Group, subject: str) -> None:
        self._data, self._subject = data, subject
        self.n_demonstrations, self.n_steps = 0, 0
        self.image_size_px = PUBLISHED_IMAGE_SIZE_PX  # height, width
        self._shapes: dict[str, tuple[int, ...]] = {}

    def add(
        self,
        *,
        actions: np.ndarray,
        states: np.ndarray,
        model_xml: str,
        obs: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Append one successful episode; every one of a file has the same observations and shapes.

        Args:
            actions: `(T, 7)` in [-1, 1].
            states: `(T, state_dim)`, before each action.
            model_xml: as MuJoCo saves the model after reset; it carries the fixtures' poses.
            obs: some of `OBS_KEYS`, after each action, images with the bottom row first. `ee_pos`
                and `ee_ori` are cut from `ee_states`. Without `gripper_states` and `ee_states` the
                file has no `robot_states`.

        Raises:
            WhiskerError: what the reader or LIBERO's tools would refuse. The file stays as it was.
        """
        subject = f"'demo_{self.n_demonstrations}' for {self._subject}"
        actions, states = _as_float(actions), _as_float(states)
        _check_steps(subject, actions, states)
        if np.abs(actions).max() > 1:
            hint = "Clip them, as the controller does: LIBERO's tools refuse a file with others."
            raise WhiskerError(
                f"actions of {subject}",
                expected="[-1, 1]",
                got=f"{np.abs(actions).max()}",
                hint=hint,
            )
        read_fixture_poses(model_xml, f"model_xml of {subject}")
        obs = _complete_obs(obs or {}, subject, len(actions))
        self._check_shapes(
            subject, {"states": states, **{f"obs/{key}": array for key, array in obs.items()}}
        )

        demo = self._data.create_group(f"demo_{self.n_demonstrations}")
        for key, array in obs.items():
            demo.create_dataset(f"obs/{key}", data=array)
        demo.create_dataset("actions", data=actions)
        demo.create_dataset("states", data=states)
        if {"gripper_states", "ee_states"} <= obs.keys():
            quat_xyzw = Rotation.from_rotvec(obs["ee_states"][:, 3:]).as_quat()
            robot_states = np.concatenate(
                [obs["gripper_states"], obs["ee_states"][:, :3], quat_xyzw], axis=1
            )
            demo.create_dataset("robot_states", data=robot_states)
        last = np.zeros(len(actions), dtype=np.uint8)
        last[-1] = 1
        demo.create_dataset("rewards", data=last)
        demo.create_dataset("dones", data=last)
        demo.attrs["num_samples"] = len(actions)
        demo.attrs["model_file"] = model_xml
        demo.attrs["init_state"] = states[0]
        self.n_demonstrations += 1
        self.n_steps += len(actions)

    def _check_shapes(self, subject: str, arrays: Mapping[str, np.ndarray]) -> None:
        shapes = {name: array.shape[1:] for name, array in arrays.items()}
        if self._shapes and shapes != self._shapes:
            raise WhiskerError(
                subject, expected=f"what the first one has, {self._shapes}", got=str(shapes)
            )
        images = [shapes[f"obs/{key}"] for key in IMAGE_KEYS if f"obs/{key}" in shapes]
        sizes = [(height_px, width_px) for height_px, width_px, _ in images]
        if len(set(sizes)) > 1:
            raise WhiskerError(f"images of {subject}", expected="one size", got=str(sizes))
        self._shapes, self.image_size_px = shapes, next(iter(sizes), PUBLISHED_IMAGE_SIZE_PX)


@contextmanager
def write_demonstrations(
    path: Path, suite: str, bddl_path: Path, instruction: str
) -> Iterator[DemonstrationFile]:
    """Write the demonstrations of one task; the file appears whole when the block ends well, or not at all.

    Args:
        path: LIBERO's tools look for `<suite>/<task's name>_demo.hdf5`.
        bddl_path: the task's BDDL file on this machine, which says what kind of scene it is.

    Raises:
        WhiskerError: that is no BDDL file, there is no instruction, or nothing was added.
    """
    if not instruction:
        raise WhiskerError(f"demonstration file {path}", expected="an instruction", got="none")
    problem = _problem_in(bddl_path)
    env_name = problem.replace("LIBERO", "Libero", 1)  # the class that robosuite registers
    bddl_file_name = f"libero/libero/bddl_files/{suite}/{bddl_path.name}"
    problem_info = {
        "problem_name": problem.lower(),
        "domain_name": "robosuite",
        "language_instruction": instruction,
    }
    with atomic_write(path) as unfinished, h5py.File(unfinished, "w") as hdf5:
        data = hdf5.create_group("data")
        file = DemonstrationFile(data, str(path))
        yield file
        if not file.n_demonstrations:
            raise WhiskerError(
                f"demonstration file {path}", expected="at least one demonstration", got="none"
            )
        env_args = {
            "type": 1,  # robomimic's number for robosuite
            "env_name": env_name,
            "problem_name": problem.lower(),
            "bddl_file": bddl_file_name,
            "env_kwargs": _env_kwargs(bddl_file_name, file.image_size_px),
        }
        attributes = {
            "env_name": env_name,
            "problem_info": json.dumps(problem_info),
            "macros_image_convention": _IMAGE_CONVENTION,
            "bddl_file_name": bddl_file_name,
            "env_args": json.dumps(env_args),
            "num_demos": file.n_demonstrations,
            "total": file.n_steps,
            "tag": _TAG,
        }
        data.attrs.update(attributes)


def _env_kwargs(bddl_file_name: str, image_size_px: tuple[int, int]) -> dict[str, Any]:
    height_px, width_px = image_size_px
    return {
        "robots": ["Panda"],
        "controller_configs": dict(_CONTROLLER),
        "bddl_file_name": bddl_file_name,
        "has_renderer": False,
        "has_offscreen_renderer": True,
        "ignore_done": True,
        "use_camera_obs": True,
        "camera_depths": False,
        "camera_names": ["robot0_eye_in_hand", "agentview"],
        "reward_shaping": True,
        "control_freq": _CONTROL_FREQ_HZ,
        "camera_heights": height_px,
        "camera_widths": width_px,
        "camera_segmentations": None,
    }


def _problem_in(bddl_path: Path) -> str:
    """The kind of scene, like LIBERO_Tabletop_Manipulation."""
    try:
        found = re.search(r"\(\s*problem\s+(LIBERO_\w+)", bddl_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WhiskerError(
            f"BDDL file {bddl_path}", expected="a file to read", got=str(error)
        ) from error
    if not found:
        raise WhiskerError(
            f"BDDL file {bddl_path}", expected="(define (problem LIBERO_...", got="no such line"
        )
    return found.group(1)


@contextmanager
def _open(path: Path) -> Iterator[h5py.Group]:
    """The group `data`; what HDF5 itself finds wrong on the way becomes one error."""
    subject = f"demonstration file {path}"
    if not path.is_file():
        hint = "Name a file of LIBERO's dataset, <task's name>_demo.hdf5."
        raise WhiskerError(
            subject, expected="a file", got="a folder" if path.is_dir() else "none", hint=hint
        )
    if not h5py.is_hdf5(path):
        got = f"{path.stat().st_size} bytes that are none"
        hint = f"{_REMAKE} A few lines of text are a Git LFS pointer."
        raise WhiskerError(subject, expected="an HDF5 file", got=got, hint=hint)
    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get("data"), h5py.Group):
                raise WhiskerError(
                    subject, expected="a group 'data'", got=f"{sorted(file)}", hint=_REMAKE
                )
            yield file["data"]
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise WhiskerError(
            subject, expected="a whole HDF5 file", got=f"a damaged one ({error})", hint=_REMAKE
        ) from error


def _names(data: h5py.Group, path: Path) -> list[str]:
    """Of the demonstrations, in the order of their numbers; HDF5 itself lists them by the alphabet."""
    names = [
        name
        for name in data
        if re.fullmatch(r"demo_\d+", name) and isinstance(data[name], h5py.Group)
    ]
    if not names:
        raise WhiskerError(
            f"demonstration file {path}", expected="groups 'data/demo_<i>'", got=f"{sorted(data)}"
        )
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _read_task(data: h5py.Group, path: Path) -> tuple[str, str]:
    """Instruction and BDDL file's name, once it is sure that the actions mean what LIBERO's mean."""
    if not {"env_args", "problem_info", "bddl_file_name"} & data.attrs.keys():
        raise WhiskerError(
            f"demonstration file {path}",
            expected="the attributes of LIBERO's own files: task, controller, and each episode's model",
            got="none: it was regenerated without them, as OpenVLA's scripts do",
            hint="Give LIBERO's own file of that task, or record one: eval-demos --env <task> --output <file>.",
        )
    _check_control(_read_json(data, "env_args", path), path)
    words = _read_json(data, "problem_info", path).get("language_instruction")
    if not words or not isinstance(words, str | list):
        raise WhiskerError(
            f"problem_info of {path}", expected="a language_instruction", got="none", hint=_REMAKE
        )
    # LIBERO's own tools allow for a list of strings and for quotation marks.
    return "".join(words).strip('"'), _text(_attribute(data, "bddl_file_name", f"'data' of {path}"))


def _read(data: h5py.Group, name: str, path: Path, obs_keys: Collection[str]) -> Demonstration:
    subject, demo = f"{name!r} of {path}", data[name]
    instruction, bddl_file_name = _read_task(data, path)
    actions, states = (_as_float(_array(demo, key, subject)) for key in ("actions", "states"))
    _check_steps(subject, actions, states)
    init_state = _as_float(_attribute(demo, "init_state", subject))
    if init_state.shape != states.shape[1:]:
        expected = f"a row of states, {states.shape[1:]}"
        raise WhiskerError(
            f"init_state of {subject}", expected=expected, got=f"{init_state.shape}", hint=_REMAKE
        )
    model_xml = _text(_attribute(demo, "model_file", subject))
    fixture_poses = read_fixture_poses(model_xml, f"model_file of {subject}")
    obs = _read_obs(data, demo, subject, obs_keys, len(actions))
    return Demonstration(
        name, instruction, bddl_file_name, actions, states, init_state, fixture_poses, obs
    )


def _read_obs(
    data: h5py.Group, demo: h5py.Group, subject: str, obs_keys: Collection[str], n_steps: int
) -> dict[str, np.ndarray]:
    convention = _text(data.attrs.get("macros_image_convention", _IMAGE_CONVENTION))
    if convention != _IMAGE_CONVENTION and set(obs_keys) & set(IMAGE_KEYS):
        raise WhiskerError(
            f"macros_image_convention of {subject}", expected=_IMAGE_CONVENTION, got=convention
        )
    _check_known(obs_keys, subject)
    return {
        key: _checked_obs(key, _array(demo, f"obs/{key}", subject), subject, n_steps)
        for key in obs_keys
    }


def _check_control(env_args: Mapping[str, Any], path: Path) -> None:
    """Other controllers give the same seven numbers another meaning."""
    kwargs = _as_dict(env_args.get("env_kwargs"))
    found = {
        **_as_dict(kwargs.get("controller_configs")),
        "control_freq": kwargs.get("control_freq"),
    }
    wanted = {k: _CONTROLLER[k] for k in ("type", "control_delta", "output_max", "output_min")}
    for key, value in {**wanted, "control_freq": _CONTROL_FREQ_HZ}.items():
        if found.get(key) != value:
            hint = "Its actions mean something else: collect them again with LIBERO's controller."
            raise WhiskerError(
                f"env_args of {path}", expected=f"{key} {value}", got=f"{found.get(key)}", hint=hint
            )


def _check_steps(subject: str, actions: np.ndarray, states: np.ndarray) -> None:
    if not actions.size:
        raise WhiskerError(
            subject, expected="actions", got="none", hint="Remove this demonstration from the file."
        )
    if actions.ndim != 2 or actions.shape[1] != ACTION_DIM:
        expected = f"(T, {ACTION_DIM}): 3 position, 3 axis-angle, 1 gripper"
        raise WhiskerError(
            f"actions of {subject}", expected=expected, got=f"{actions.shape}", hint=_REMAKE
        )
    if states.ndim != 2 or len(states) != len(actions):
        expected = f"one before each of {len(actions)} actions, ({len(actions)}, state_dim)"
        raise WhiskerError(
            f"states of {subject}", expected=expected, got=f"{states.shape}", hint=_REMAKE
        )
    _check_finite(f"actions of {subject}", actions)
    _check_finite(f"states of {subject}", states)


def _check_finite(subject: str, array: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        step, column = bad[0]
        got = f"{array[step, column]} at step {step}, column {column}"
        raise WhiskerError(
            subject,
            expected="finite numbers",
            got=got,
            hint="Remove this demonstration from the file.",
        )


def _complete_obs(
    obs: Mapping[str, np.ndarray], subject: str, n_steps: int
) -> dict[str, np.ndarray]:
    _check_known(obs, subject)
    complete = {
        key: _checked_obs(key, np.asarray(array), subject, n_steps) for key, array in obs.items()
    }
    if "ee_states" in complete:
        complete |= {"ee_pos": complete["ee_states"][:, :3], "ee_ori": complete["ee_states"][:, 3:]}
    return complete


def _check_known(obs_keys: Collection[str], subject: str) -> None:
    for key in obs_keys:
        if key not in OBS_KEYS:
            raise UnknownNameError(f"observation of {subject}", key, OBS_KEYS)


def _checked_obs(key: str, array: np.ndarray, subject: str, n_steps: int) -> np.ndarray:
    """As it is stored: images uint8, the rest finite float64."""
    name = f"obs/{key} of {subject}"
    if key in IMAGE_KEYS:
        if array.ndim != 4 or array.shape[::3] != (n_steps, 3) or array.dtype != np.uint8:
            raise WhiskerError(
                name, expected=f"uint8 ({n_steps}, H, W, 3)", got=f"{array.dtype} {array.shape}"
            )
        return array
    if array.shape != (n_steps, _WIDTHS[key]):
        raise WhiskerError(name, expected=f"({n_steps}, {_WIDTHS[key]})", got=f"{array.shape}")
    array = _as_float(array)
    _check_finite(name, array)
    return array


def _array(demo: h5py.Group, key: str, subject: str) -> np.ndarray:
    if not isinstance(dataset := demo.get(key), h5py.Dataset):
        found: list[str] = []
        demo.visit(found.append)
        raise WhiskerError(
            subject,
            expected=f"a dataset {key!r}",
            got=", ".join(sorted(found)) or "none",
            hint=_REMAKE,
        )
    return dataset[()]


def _attribute(group: h5py.Group, name: str, subject: str) -> Any:
    if name not in group.attrs:
        raise WhiskerError(
            subject,
            expected=f"an attribute {name!r}",
            got=", ".join(group.attrs) or "none",
            hint=_REMAKE,
        )
    return group.attrs[name]


def _read_json(data: h5py.Group, name: str, path: Path) -> dict[str, Any]:
    text = _text(_attribute(data, name, f"'data' of {path}"))
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise WhiskerError(
            f"attribute {name!r} of {path}", expected="a JSON object", got=repr(text[:60])
        )
    return value


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_float(array: Any) -> np.ndarray:
    return np.asarray(array, dtype=np.float64)
