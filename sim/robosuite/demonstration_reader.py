"""Reads HDF5 files of demonstrations, as robomimic and LIBERO lay them out.

data            attributes: env_args (JSON), and others
data/demo_<i>   attributes: model_file (MJCF), and others
  actions       (T, 7) float64
  states        (T, state_dim) float64: time [s], qpos, qvel before the action of that row
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sim.errors import WhiskerError

ACTION_DIM = 7
_REMOVE = "Remove this demonstration from the file."


@dataclass(frozen=True)
class DemonstrationReader:
    """Reads the parts of a file, and names what is wrong with it.

    Attributes:
        name_hint: what to do if there is no file of that name.
        remake_hint: what to do if the file has another layout or is damaged.
    """

    name_hint: str
    remake_hint: str

    @contextmanager
    def open(self, path: Path) -> Iterator[h5py.Group]:
        """Open the group `data`; every error of HDF5 becomes one error with a hint."""
        subject = f"demonstration file {path}"
        if not path.is_file():
            raise WhiskerError(
                subject,
                expected="a file",
                got="a folder" if path.is_dir() else "none",
                hint=self.name_hint,
            )
        if not h5py.is_hdf5(path):
            raise WhiskerError(
                subject,
                expected="an HDF5 file",
                got=f"{path.stat().st_size} bytes in another format",
                hint=f"{self.remake_hint} A few lines of text are a Git LFS pointer.",
            )
        try:
            with h5py.File(path, "r") as file:
                if not isinstance(file.get("data"), h5py.Group):
                    raise self.unreadable(
                        subject,
                        "a group 'data'",
                        f"{sorted(file)}",
                    )
                yield file["data"]
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise self.unreadable(
                subject,
                "a whole HDF5 file",
                f"a damaged one ({error})",
            ) from error

    def read_array(
        self,
        demo: h5py.Group,
        key: str,
        subject: str,
    ) -> np.ndarray:
        """Return a dataset of a demonstration."""
        dataset = demo.get(key)
        if not isinstance(dataset, h5py.Dataset):
            found: list[str] = []
            demo.visit(found.append)
            raise self.unreadable(
                subject,
                f"a dataset {key!r}",
                ", ".join(sorted(found)) or "none",
            )
        return dataset[()]

    def read_attribute(
        self,
        group: h5py.Group,
        name: str,
        subject: str,
    ) -> Any:
        """Return an attribute of a group."""
        if name not in group.attrs:
            raise self.unreadable(
                subject,
                f"an attribute {name!r}",
                ", ".join(group.attrs) or "none",
            )
        return group.attrs[name]

    def read_json(
        self,
        data: h5py.Group,
        name: str,
        path: Path,
    ) -> dict[str, Any]:
        """Return an attribute of the group `data` that holds a JSON object."""
        text = as_text(self.read_attribute(data, name, f"'data' of {path}"))
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

    def check_steps(
        self,
        subject: str,
        actions: np.ndarray,
        states: np.ndarray,
    ) -> None:
        """Raise unless actions are `(T, 7)`, states `(T, state_dim)`, and all are finite."""
        if not actions.size:
            raise WhiskerError(
                subject,
                expected="actions",
                got="none",
                hint=_REMOVE,
            )
        if actions.ndim != 2 or actions.shape[1] != ACTION_DIM:
            raise self.unreadable(
                f"actions of {subject}",
                f"(T, {ACTION_DIM}): 3 position, 3 axis-angle, 1 gripper",
                f"{actions.shape}",
            )
        n_steps = len(actions)
        if states.ndim != 2 or len(states) != n_steps:
            raise self.unreadable(
                f"states of {subject}",
                f"one before each of {n_steps} actions, ({n_steps}, state_dim)",
                f"{states.shape}",
            )
        check_finite(f"actions of {subject}", actions)
        check_finite(f"states of {subject}", states)

    def unreadable(
        self,
        subject: str,
        expected: str,
        got: str,
    ) -> WhiskerError:
        """Return the error for a file in another layout."""
        return WhiskerError(
            subject,
            expected=expected,
            got=got,
            hint=self.remake_hint,
        )


def list_names(data: h5py.Group, path: Path) -> list[str]:
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


def check_finite(subject: str, array: np.ndarray) -> None:
    """Raise at the first number that is nan or infinite."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        step, column = bad[0]
        raise WhiskerError(
            subject,
            expected="finite numbers",
            got=f"{array[step, column]} at step {step}, column {column}",
            hint=_REMOVE,
        )


def as_float(array: Any) -> np.ndarray:
    """Return the array as float64."""
    return np.asarray(array, dtype=np.float64)


def as_text(value: str | bytes) -> str:
    """Return a string of HDF5, which older files store as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def as_dict(value: Any) -> dict[str, Any]:
    """Return the value if it is a dictionary, and else an empty one."""
    return value if isinstance(value, dict) else {}
