"""Reads robomimic's datasets of demonstrations, and begins episodes as they began.

The layout is robomimic's (robomimic, docs/datasets/overview): the attribute `env_args` of the group
`data` names robosuite's environment and its controller. Each demonstration has its own model.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from sim.errors import WhiskerError
from sim.robosuite.demonstration_reader import (
    DemonstrationReader,
    as_dict,
    as_float,
    as_text,
    list_names,
)
from sim.robosuite.demonstration_replay import DemonstrationReplay
from sim.robosuite.osc_pose import CONTROL_FREQ_HZ, CONTROLLER
from sim.robosuite_tasks.tasks import PREFIX, RobosuiteTask, find_task
from sim.spec import ActionMode

READER = DemonstrationReader(
    name_hint="Name a file of robomimic's datasets, e.g. lift/ph/low_dim_v141.hdf5.",
    remake_hint="Download it again with robomimic's download_datasets.py.",
)


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode.

    Attributes:
        actions: as they were recorded; the controller of the file says what they mean.
        init_state: time [s], qpos and qvel before the first action.
        model_xml: the model of the episode, as MJCF.
    """

    actions: Float64[np.ndarray, "step action_dim"]
    init_state: Float64[np.ndarray, " state_dim"]
    model_xml: str


class DemonstratedStarts:
    """Provides the first states of a file's demonstrations, and replays their actions."""

    def __init__(
        self,
        path: Path,
        task: RobosuiteTask,
        control: ActionMode,
    ) -> None:
        """Load the demonstrations.

        Raises:
            WhiskerError: the file is not a file of demonstrations, or is of another task, robot or
                controller.
        """
        with READER.open(path) as data:
            env_args = READER.read_json(data, "env_args", path)
            if env_args.get("env_name") != task.name:
                raise WhiskerError(
                    f"demonstrations {str(path)!r} in '{task.task_name}'",
                    expected=f"the task {task.name!r}",
                    got=repr(env_args.get("env_name")),
                )
            _check_setup(as_dict(env_args.get("env_kwargs")), path, control, task.n_arms)
            names = list_names(data, path)
            self._demonstrations = [_read(data[name], f"{name!r} of {path}") for name in names]
        self._is_absolute = control == "absolute"

    def __len__(self) -> int:
        return len(self._demonstrations)

    def __getitem__(self, episode_index: int) -> Demonstration:
        return self._demonstrations[episode_index]

    def make_expert(self, episode_index: Callable[[], int]) -> DemonstrationReplay:
        """Return the expert that replays a demonstration.

        Args:
            episode_index: returns the index of the running episode.
        """
        return DemonstrationReplay(
            lambda: self._demonstrations[episode_index()].actions, is_absolute=self._is_absolute
        )


def find_demonstrated_env(path: Path) -> str | None:
    """Return the environment of a file of robomimic; None if the file is not one.

    Raises:
        WhiskerError: it is one, but its task does not run here.
    """
    # A file that cannot be read could be of any family. LIBERO's says what is wrong with it.
    name = None
    with suppress(WhiskerError), READER.open(path) as data:
        # LIBERO's files have the same layout, and these attributes besides.
        if not {"bddl_file_name", "problem_info"} & data.attrs.keys():
            name = READER.read_json(data, "env_args", path).get("env_name")
    if name is None:
        return None
    return f"{find_task(f'{PREFIX}{name}').task_name}@{path.resolve()}"


def _check_setup(
    env_kwargs: Mapping[str, Any],
    path: Path,
    control: ActionMode,
    n_arms: int,
) -> None:
    """Raise if the file was recorded with another robot or controller.

    The same numbers would mean something else.
    """
    controller = as_dict(env_kwargs.get("controller_configs"))
    robots = env_kwargs.get("robots")
    found = {
        "robots": robots[0] if isinstance(robots, list) and len(robots) == 1 else robots,
        "control_freq": env_kwargs.get("control_freq"),
        **{key: controller.get(key) for key in ("type", "output_max", "control_delta")},
    }
    expected = {
        "robots": "Panda" if n_arms == 1 else ["Panda"] * n_arms,
        "control_freq": CONTROL_FREQ_HZ,
        "type": CONTROLLER["type"],
        "output_max": CONTROLLER["output_max"],
        "control_delta": control == "delta",
    }
    for key, value in expected.items():
        if found[key] != value:
            raise WhiskerError(
                f"env_args of {path}",
                expected=f"{key} {value}",
                got=f"{found[key]}",
                hint="Its actions are absolute poses: add --control absolute."
                if key == "control_delta" and control == "delta"
                else "Its actions mean something else.",
            )


def _read(demo, subject: str) -> Demonstration:
    read = partial(READER.read_array, demo, subject=subject)
    actions = as_float(read("actions"))
    states = as_float(read("states"))
    READER.check_steps(subject, actions, states)
    model_xml = as_text(READER.read_attribute(demo, "model_file", subject))
    return Demonstration(actions, states[0], model_xml)
