"""Environments by name: what is known of them without building one, and how one is made."""

import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from sim.arrays import ImageSizes
from sim.env import Env
from sim.env_names import FAMILIES as FAMILIES
from sim.env_names import (
    ResolvedName,
    built_in_families,
    family_entry_points,
    find,
    load_family,
    resolve,
    resolve_entry_point,
)
from sim.env_names import path_in as path_in
from sim.errors import UnknownNameError, WhiskerError, WhiskerWarning
from sim.families import EnvFamily, EnvRequest
from sim.gl import check_gl_library
from sim.init_grid import GridEnv
from sim.memory import check_memory
from sim.spec import ActionMode, EnvListing
from sim.user_code import source_file

# Rows, arrays and videos are kept in folders named by the task.
_TASK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")


def family_of(env_name: str) -> EnvFamily:
    """Return the family of an environment, which knows its facts.

    If no family can be found, e.g. for a run of an environment that is not installed here, the
    result has the default facts.
    """
    with suppress(WhiskerError):  # its module is missing
        resolved = find(env_name)
        if resolved is not None:
            return resolved.family
    return EnvFamily()


def name_in_family(env_name: str) -> str:
    """Return the name of an environment within its family."""
    return resolve(env_name).name


def expand_env(name: str) -> tuple[str, ...]:
    """Return the environments that a name stands for, in order.

    These are those of a suite, the single one of that name, or those of both parts of "a,b".

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: a family cannot be loaded, an environment cannot be run, or several names do
            not belong to one family whose environments can be mixed.
    """
    parts = [name] if "@" in name else [part.strip() for part in name.split(",")]
    if len(parts) == 1:
        return _expand(resolve(name))
    resolved = [resolve(part) for part in parts]
    for part, each in zip(parts, resolved, strict=True):
        if not each.family.mixes or each.source != resolved[0].source:
            mixing = [family.title for _, family in built_in_families() if family.mixes]
            raise WhiskerError(
                f"--env {name}",
                expected="names of one family whose tasks share cameras, state and action "
                f"({', '.join(mixing)})",
                got=repr(part),
                hint="Run other environments one by one.",
            )
    return tuple(env_name for each in resolved for env_name in _expand(each))


def task_of(env_name: str) -> str:
    """Return `EnvSpec.task` of one environment, without building it.

    Raises:
        WhiskerError: there is no such environment, or its task cannot be the name of a folder.
    """
    resolved = resolve(env_name)
    with resolved.attributing_errors():
        task = resolved.family.task_of(resolved.name)
    if resolved.prefix and not _TASK_NAME.fullmatch(task):
        raise WhiskerError(
            f"task of environment {env_name!r}",
            expected="letters, digits and _ . + - in its name, and / between parts, because "
            "folders are named by it",
            got=repr(task),
            hint="Have `task_of` of its family return another name.",
        )
    return task


def env_of_demonstrations(demos: Path) -> str:
    """Return the environment whose episodes start as the demonstrations of a file do.

    Raises:
        WhiskerError: the file has no demonstrations, or those of an unknown task.
    """
    for _, family in built_in_families():
        env_name = family.env_of_demonstrations(demos)
        if env_name is not None:
            return env_name
    raise WhiskerError(
        f"demonstrations {str(demos)!r}",
        expected="a file of LIBERO's or robomimic's demonstrations (HDF5)",
    )


def camera_names(env_name: str) -> tuple[str, ...]:
    """Return `EnvSpec.camera_names` of one environment.

    The environment is built for it only if its family does not know them.
    """
    resolved = resolve(env_name)
    with resolved.attributing_errors():
        known = resolved.family.camera_names(resolved.name)
    if known is not None:
        return known
    env = make_env(env_name, image_sizes={})
    names = env.spec.camera_names
    env.close()
    return names


def list_envs() -> Iterator[EnvListing]:
    """Yield every environment, family by family. Quick families come first; no simulator loads.

    Warns of an entry point whose family cannot be listed.
    """
    for _, family in built_in_families():
        yield from family.listings()
    for point in family_entry_points():
        try:
            resolved = resolve_entry_point(point, "")
            with resolved.attributing_errors():
                listings = tuple(resolved.family.listings())
        except WhiskerError as error:
            warnings.warn(f"entry point {point.name!r}: {error}", WhiskerWarning, stacklevel=2)
            continue
        for listing in listings:
            yield replace(listing, name=resolved.full_name(listing.name))


def source_of(env_name: str) -> Path | None:
    """Return the file of a user's family, whose content can change results.

    None for built-in families.
    """
    resolved = resolve(env_name)
    return source_file(resolved.source) if resolved.prefix else None


def packages_of(env_name: str) -> tuple[str, ...]:
    """Return the distributions whose versions can change results in an environment.

    They include those of all built-in families that every installation has, so that runs can be
    compared.
    """
    families = [family for _, family in built_in_families() if not family.extra]
    families.append(family_of(env_name))
    return tuple(dict.fromkeys(package for family in families for package in family.packages))


def check_control(env_name: str, control: ActionMode | None) -> None:
    """Raise if `control` is given for an environment whose actions have only one reading."""
    family = family_of(env_name)
    if control is not None and not family.has_control:
        choosing = [family.title for _, family in built_in_families() if family.has_control]
        raise WhiskerError(
            f"--control {control} in {env_name!r}",
            expected=f"an environment of {' or '.join(choosing)}",
            hint=family.advice_on_control,
        )


def make_env(
    name: str,
    image_sizes: ImageSizes | None = None,
    control: ActionMode | None = None,
    init_grid: str | None = None,
    *,
    in_own_process: bool = False,
) -> Env:
    """Build one environment.

    Args:
        name: a registry name. `so101/pick_place@scene.xml` uses the user's MuJoCo model.
            `<task>@demos.hdf5` of LIBERO or robosuite starts episode k where the k-th demonstration
            started.
        image_sizes: camera → (height_px, width_px) of exactly the cameras to observe. None: the
            environment's own cameras in their own size.
        control: how actions are read in LIBERO and robosuite; None: as differences.
        init_grid: the grid on which its episodes begin (`sim.init_grid`); None: they are drawn.
        in_own_process: let it live in a process of its own, which some families always do.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: the name is a suite of several, OpenGL or memory is missing, a camera does not
            exist, a model does not fit, `control` does not apply, or a user's family raises or
            makes a different environment than it announced.
    """
    first, *others = expand_env(name)
    if others:
        raise WhiskerError(
            f"environment {name!r}",
            expected="a single one",
            got=f"a suite of {len(others) + 1}",
            hint=f"Name one of its tasks: {first} to {others[-1]}.",
        )
    name = first
    check_control(name, control)
    check_gl_library()
    resolved = resolve(name)
    check_memory(f"environment {name!r}", resolved.family.memory_gb(image_sizes != {}))
    request = EnvRequest(
        resolved.name,
        name,
        image_sizes,
        resolved.path,
        control,
    )
    env = _make_announced(resolved, request, in_own_process=in_own_process)
    if init_grid is None:
        return env
    try:
        return GridEnv(env, init_grid)
    except WhiskerError:
        env.close()
        raise


def _make_announced(
    resolved: ResolvedName,
    request: EnvRequest,
    *,
    in_own_process: bool,
) -> Env:
    """Make an environment, and raise unless it is the one that its family announced."""
    with resolved.attributing_errors():
        if in_own_process or resolved.family.in_own_process:
            from sim.process import EnvProcess

            env: Env = EnvProcess(
                partial(make_here, resolved.source, request), python=resolved.family.python
            )
        else:
            env = resolved.family.make(request)
    if not resolved.prefix:
        return env
    announced = {"name": request.spec_name, "task": resolved.family.task_of(resolved.name)}
    for field, expected in announced.items():
        got = getattr(env.spec, field)
        if got != expected:
            env.close()
            raise WhiskerError(
                f"EnvSpec.{field} of environment {request.spec_name!r}",
                expected=repr(expected),
                got=repr(got),
                hint=f"It is made by {resolved.source!r}, where `EnvRequest.spec_name` and "
                "`EnvFamily.task_of` set both.",
            )
    return env


def make_here(source: str, request: EnvRequest) -> Env:
    """Make an environment of the family that an import string names, in this process.

    It takes an import string rather than the family, so that only strings are pickled for another
    process.
    """
    return load_family(source).make(request)


def _expand(resolved: ResolvedName) -> tuple[str, ...]:
    family = resolved.family
    prefix = resolved.prefix
    if resolved.path is not None and not family.takes_path:
        raise WhiskerError(
            f"environment {resolved.full_name(resolved.name)!r}",
            expected=f"a name without an @: {prefix}{resolved.name}",
        )
    with resolved.attributing_errors():
        names = family.expand(resolved.name)
        known = () if names else [prefix + name for name in family.known_names()]
    if not names:
        raise UnknownNameError("environment", f"{prefix}{resolved.name}", known)
    return tuple(map(resolved.full_name, names))
