"""Environments by name, imported when asked for."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from sim.env import Env
from sim.errors import UnknownNameError, WhiskerError
from sim.gl import check_gl_library
from sim.memory import check_memory
from sim.spec import Control, EnvListing


@dataclass(frozen=True)
class Entry:
    """One environment of the table.

    Attributes:
        factory: "module:function" of `name`, `image_sizes` and `scene_path`.
        scene: "module:constant" with the task's `name`, `instruction` and `max_steps`, which imports no simulator.
    """

    factory: str
    scene: str


_DEFAULT_SCENE, _BRICK_SCENE = "sim.so101.scene_config:DEFAULT_SCENE", "sim.so101.scene_config:BRICK_SCENE"
ENVIRONMENTS: dict[str, Entry] = {
    "so101/pick_place": Entry("sim.so101.pick_place:make_pick_place", _DEFAULT_SCENE),
    "so101/pick_place_range": Entry("sim.so101.pick_place:make_pick_place_range", _DEFAULT_SCENE),
    "so101/pick_place_brick": Entry("sim.so101.pick_place:make_pick_place_brick", _BRICK_SCENE),
    "so101/pick_place_ee": Entry("sim.so101.end_effector:make_pick_place_ee", _DEFAULT_SCENE),
    "so101/pick_place_ee_delta": Entry("sim.so101.end_effector:make_pick_place_ee_delta", _DEFAULT_SCENE),
    "so101/pick_place_words": Entry(
        "sim.so101.pick_place_words:make_pick_place_words", "sim.so101.scene_config:WORDS_SCENE"
    ),
    "so101/pick_place_either": Entry(
        "sim.so101.pick_place_either:make_pick_place_either", "sim.so101.scene_config:EITHER_SCENE"
    ),
}
# One name for several of the above, in order; each must have a task of its own. LIBERO's suites and tasks are in a
# table of their own, `sim.libero_bench.tasks`, which is asked about every name that is not here.
SUITES: dict[str, tuple[str, ...]] = {}
_LIBERO_FACTORY = "sim.libero_bench.env:make_libero"
# Resident memory of one of its processes, measured: up to 2.0 GB, and 1.2 where nothing is drawn.
_LIBERO_GB, _LIBERO_BLIND_GB = 2.0, 1.3


def expand_env(name: str) -> tuple[str, ...]:
    """The environments that a name stands for, in order: a suite's, the one of that name, or "a,b" those of both.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: a suite or task of LIBERO that cannot be run, or several names that are not all LIBERO's.
    """
    parts = [part.strip() for part in name.split(",")] if "@" not in name else [name]
    if len(parts) > 1:
        others = [part for part in parts if part in ENVIRONMENTS or part in SUITES]
        if others:
            # LIBERO's tasks share cameras, state and action, so that what runs in the first runs in all.
            expected, do = "names of LIBERO's suites or tasks", "Run other environments one by one."
            raise WhiskerError(f"--env {name}", expected=expected, got=repr(others[0]), do=do)
        return tuple(env_name for part in parts for env_name in expand_env(part))
    if name in SUITES:
        return SUITES[name]
    base = _base(name)
    if base in ENVIRONMENTS:
        return (name,)
    from sim.libero_bench import tasks

    if not tasks.is_libero(base):
        raise UnknownNameError("environment", base, (*ENVIRONMENTS, *SUITES, *tasks.complete_suites()))
    at_path = name.removeprefix(base)
    return tuple(env_name + at_path for env_name in tasks.expand(base))


def task_of(env_name: str) -> str:
    """`EnvSpec.task` of one environment, without building it."""
    if _base(env_name) in ENVIRONMENTS:
        return _load(ENVIRONMENTS[_base(env_name)].scene).name
    from sim.libero_bench import tasks

    return tasks.find_task(_base(env_name)).task_name


def demonstrated_env(demos: Path) -> str:
    """The environment whose episodes begin as the demonstrations of a file do.

    Raises:
        WhiskerError: not a file of demonstrations, or of a task that is not here.
    """
    from sim.libero_bench.demonstrations import load_demonstration
    from sim.libero_bench.tasks import find_task

    bddl_path = PurePosixPath(load_demonstration(demos, 0).bddl_file_name)
    in_suite = bddl_path.parent.name.startswith("libero_")
    task = find_task(f"{bddl_path.parent.name}/{bddl_path.stem}" if in_suite else bddl_path.stem)
    return f"{task.env_name}@{demos.resolve()}"


def camera_names(env_name: str) -> tuple[str, ...]:
    """`EnvSpec.camera_names` of one environment; only the SO-101, whose model may be the user's, is built for it."""
    if is_in_own_process(env_name):
        from sim.libero_bench.conventions import CAMERA_NAMES

        return CAMERA_NAMES
    blind = make_env(env_name, image_sizes={})
    names = blind.spec.camera_names
    blind.close()
    return names


def list_envs() -> Iterator[EnvListing]:
    """Everything that can be evaluated, group by group, what is quick to list first. Imports no simulator."""
    for name, entry in ENVIRONMENTS.items():
        scene = _load(entry.scene)
        yield EnvListing(name, scene.instruction, scene.max_steps)
    from sim.libero_bench import tasks

    for task in tasks.list_tasks():
        yield EnvListing(task.env_name, task.instruction, task.max_steps)


def is_in_own_process(env_name: str) -> bool:
    """Whether the environment runs beside this process, not in it: all of LIBERO, for its memory and its globals."""
    return _base(env_name) not in ENVIRONMENTS


def check_control(env_name: str, control: Control | None) -> None:
    """Raise where there is nothing to choose: only LIBERO's actions can be read in two ways."""
    if control is not None and not is_in_own_process(env_name):
        raise WhiskerError(
            f"--control {control} in {env_name!r}",
            expected="an environment of LIBERO",
            do="Leave it out; the SO-101 has environments of other names for that (so101/pick_place_ee_delta).",
        )


def make_env(
    name: str, image_sizes: Mapping[str, tuple[int, int]] | None = None, control: Control | None = None
) -> Env:
    """Build one environment.

    Args:
        name: a registry name; `<name>@scene.xml` takes a MuJoCo model of the user's own, `<LIBERO task>@demos.hdf5`
            begins episode k where the k-th demonstration began.
        image_sizes: camera → (height_px, width_px): exactly these are observed. None: the environment's
            own cameras at their own size.
        control: how LIBERO's actions are read; None: relative.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: a suite of several, no OpenGL, no such camera, a model that does not fit, a `control`
            elsewhere, no memory.
    """
    names = expand_env(name)
    if len(names) > 1:
        got, do = f"a suite of {len(names)}", f"Name one of its tasks: {names[0]} to {names[-1]}."
        raise WhiskerError(f"environment {name!r}", expected="a single one", got=got, do=do)
    (name,) = names
    check_control(name, control)
    check_gl_library()
    base, _, scene_path = name.partition("@")
    arguments = {"name": name, "image_sizes": image_sizes, "scene_path": scene_path or None}
    if not is_in_own_process(name):
        return build(ENVIRONMENTS[base].factory, **arguments)
    check_memory(f"environment {name!r}", _LIBERO_BLIND_GB if image_sizes == {} else _LIBERO_GB)
    make = partial(build, _LIBERO_FACTORY, control=control or "relative", **arguments)
    return _load("sim.process:EnvProcess")(make)


def build(factory: str, **arguments: Any) -> Env:
    """By a name, so that what another process gets to make is a few strings, and this one imports nothing for it."""
    return _load(factory)(**arguments)


def _load(target: str) -> Any:
    """What "module:attribute" names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _base(name: str) -> str:
    return name.partition("@")[0]
