"""Environments by name: asks the family that a name belongs to.

Families are imported when they are asked.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from sim.env import Env
from sim.errors import UnknownNameError, WhiskerError, WhiskerWarning
from sim.families import EnvFamily, EnvRequest
from sim.gl import check_gl_library
from sim.memory import check_memory
from sim.spec import ActionMode, EnvListing
from sim.user_code import describe_error, import_attribute, look_in_current_directory, source_file

# Families that come with the package, by import strings, in the order in which a name is looked up.
# Those of a user are named in the environment's name, `my_package.my_module:family/task`, or by an
# entry point of the group: `family/task`.
FAMILIES: dict[str, str] = {
    "so101": "sim.so101.family:FAMILY",
    "libero": "sim.libero_bench.family:FAMILY",
}
ENTRY_POINT_GROUP = "whisker.envs"
# Rows, arrays and videos are kept in folders that have the task's name.
_TASK_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")


@dataclass(frozen=True)
class _Place:
    """Says where a name leads.

    Attributes:
        source: import string of the family.
        prefix: what a name begins with before the part that the family knows; "" for the package's
            own families.
        name: within the family, without what follows an @.
        path: what follows it; None without.
    """

    family: EnvFamily
    source: str
    prefix: str
    name: str
    path: str | None

    def full_name(self, name: str) -> str:
        """Return the registry's name of the family's environment."""
        return f"{self.prefix}{name}" + (f"@{self.path}" if self.path is not None else "")


def family_of(env_name: str) -> EnvFamily:
    """Return the family of an environment, which knows its facts.

    One that no family can be found for, as in a run of an environment that is not installed here,
    has the facts that every family has by default.
    """
    try:
        place = _look_up(env_name)
    except WhiskerError:  # its module is not here
        place = None
    return place.family if place is not None else EnvFamily()


def name_in_family(env_name: str) -> str:
    """Return the name by which the family of an environment knows it."""
    return _find(env_name).name


def path_in(env_name: str) -> str | None:
    """Return what follows an @ in the name of an environment; None without one."""
    _, at, path = env_name.partition("@")
    return path if at else None


def expand_env(name: str) -> tuple[str, ...]:
    """Return the environments that a name stands for, in order: a suite's, the one of that name, or of "a,b" both's.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: a family that cannot be loaded, an environment that cannot be run, or several
            names that are not of one family whose environments can be mixed.
    """
    parts = [part.strip() for part in name.split(",")] if "@" not in name else [name]
    if len(parts) == 1:
        return _expand(_find(name))
    places = [_find(part) for part in parts]
    for part, place in zip(parts, places, strict=True):
        if not place.family.mixes or place.source != places[0].source:
            mixing = [family.title for _, family in _built_in() if family.mixes]
            raise WhiskerError(
                f"--env {name}",
                expected=f"names of one family whose tasks share cameras, state and action ({', '.join(mixing)})",
                got=repr(part),
                hint="Run other environments one by one.",
            )
    return tuple(env_name for place in places for env_name in _expand(place))


def task_of(env_name: str) -> str:
    """Return `EnvSpec.task` of one environment, without building it.

    Raises:
        WhiskerError: no such environment, or a task whose name cannot be that of a folder.
    """
    place = _find(env_name)
    with _blaming(place):
        task = place.family.task_of(place.name)
    if place.prefix and not _TASK_NAME.fullmatch(task):
        raise WhiskerError(
            f"task of environment {env_name!r}",
            expected="letters, digits and _ . + - in its name, and / between parts: folders are named by it",
            got=repr(task),
            hint="Have `task_of` of its family return another name.",
        )
    return task


def env_of_demonstrations(demos: Path) -> str:
    """Return the environment whose episodes begin as the demonstrations of a file do.

    Raises:
        WhiskerError: not a file of demonstrations, or of a task that is not here.
    """
    for _, family in _built_in():
        env_name = family.env_of_demonstrations(demos)
        if env_name is not None:
            return env_name
    raise WhiskerError(
        f"demonstrations {str(demos)!r}",
        expected="a file of LIBERO demonstrations (HDF5)",
    )


def camera_names(env_name: str) -> tuple[str, ...]:
    """Return `EnvSpec.camera_names` of one environment, which is built for it only if its family does not know them."""
    place = _find(env_name)
    with _blaming(place):
        known = place.family.camera_names(place.name)
    if known is not None:
        return known
    blind = make_env(env_name, image_sizes={})
    names = blind.spec.camera_names
    blind.close()
    return names


def list_envs() -> Iterator[EnvListing]:
    """Yield everything that can be evaluated, family by family, what is quick to list first. Imports no simulator.

    Warns of an entry point whose family cannot be listed.
    """
    for source in FAMILIES.values():
        yield from load_family(source).listings()
    for point in _entry_points():
        try:
            place = _place_of(point, "")
            with _blaming(place):
                listings = tuple(place.family.listings())
        except WhiskerError as error:
            warnings.warn(
                f"entry point {point.name!r}: {error}",
                WhiskerWarning,
                stacklevel=2,
            )
            continue
        yield from (replace(listing, name=place.full_name(listing.name)) for listing in listings)


def source_of(env_name: str) -> Path | None:
    """Return the file of a user's family, whose content can change a number; None for the package's own families."""
    place = _find(env_name)
    return source_file(place.source) if place.prefix else None


def packages_of(env_name: str) -> tuple[str, ...]:
    """Return the distributions whose versions can change a number in an environment.

    Those of the package's own families are among them wherever a run takes place, so that runs can
    be compared.
    """
    families = [family for _, family in _built_in()] + [family_of(env_name)]
    return tuple(dict.fromkeys(package for family in families for package in family.packages))


def check_control(env_name: str, control: ActionMode | None) -> None:
    """Raise where there is nothing to choose: most environments' actions can be read in one way only."""
    family = family_of(env_name)
    if control is not None and not family.has_control:
        choosing = [family.title for _, family in _built_in() if family.has_control]
        raise WhiskerError(
            f"--control {control} in {env_name!r}",
            expected=f"an environment of {' or '.join(choosing)}",
            hint=family.advice_on_control,
        )


def make_env(
    name: str,
    image_sizes: Mapping[str, tuple[int, int]] | None = None,
    control: ActionMode | None = None,
) -> Env:
    """Build one environment.

    Args:
        name: a registry name; `so101/pick_place@scene.xml` takes a MuJoCo model of the user's own,
            `<LIBERO task>@demos.hdf5` begins episode k where the k-th demonstration began.
        image_sizes: camera → (height_px, width_px): exactly these are observed. None: the
            environment's own cameras at their own size.
        control: how LIBERO's actions are read; None: as differences.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: a suite of several, no OpenGL, no such camera, a model that does not fit, a
            `control` elsewhere, no memory, or a user's family that raises or makes another
            environment than it says.
    """
    names = expand_env(name)
    if len(names) > 1:
        got = f"a suite of {len(names)}"
        hint = f"Name one of its tasks: {names[0]} to {names[-1]}."
        raise WhiskerError(
            f"environment {name!r}",
            expected="a single one",
            got=got,
            hint=hint,
        )
    (name,) = names
    check_control(name, control)
    check_gl_library()
    place = _find(name)
    check_memory(f"environment {name!r}", place.family.memory_gb(renders=image_sizes != {}))
    request = EnvRequest(place.name, name, image_sizes, place.path, control)
    with _blaming(place):
        env = _make(place, request)
    if place.prefix:
        _check_made(env, place, request)
    return env


def load_family(source: str) -> EnvFamily:
    """Return the family that an import string names.

    Raises:
        WhiskerError: it cannot be imported, or is none.
    """
    subject = f"import of {source!r}"
    family = import_attribute(subject, source)
    if not isinstance(family, EnvFamily):
        raise WhiskerError(
            subject,
            expected="an instance of sim.families.EnvFamily",
            got=f"the class {family.__name__}"
            if isinstance(family, type)
            else f"a {type(family).__name__}",
        )
    return family


def make_here(source: str, request: EnvRequest) -> Env:
    """Make an environment of the family that an import string names, in this process.

    It takes an import string rather than the family, so that only strings are pickled for another
    process.
    """
    return load_family(source).make(request)


def _make(place: _Place, request: EnvRequest) -> Env:
    if not place.family.in_own_process:
        return place.family.make(request)
    from sim.process import EnvProcess

    return EnvProcess(partial(make_here, place.source, request), python=place.family.python)


def _find(env_name: str) -> _Place:
    """Return where a single name leads; a user's family need not know the rest of it.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: a family that cannot be loaded.
    """
    place = _look_up(env_name)
    if place is None:
        raise UnknownNameError(
            "environment",
            env_name.partition("@")[0],
            _all_names(),
        )
    return place


def _look_up(env_name: str) -> _Place | None:
    """Return the same; None if no family has the name."""
    path = path_in(env_name)
    base = env_name.partition("@")[0]
    head, _, name = base.partition("/")
    if ":" in head:
        look_in_current_directory()
        return _Place(
            load_family(head),
            head,
            f"{head}/",
            name,
            path,
        )
    for source, family in _built_in():
        if family.owns(base):
            return _Place(family, source, "", base, path)
    points = {point.value: point for point in _entry_points() if point.name == head}
    if len(points) > 1:
        raise WhiskerError(
            f"entry point {head!r} of {ENTRY_POINT_GROUP!r}",
            expected="one family of that name",
            got=" and ".join(sorted(points)),
            hint=f"Name the one that is meant by its import string: {min(points)}/{name}",
        )
    return next((replace(_place_of(point, name), path=path) for point in points.values()), None)


def _expand(place: _Place) -> tuple[str, ...]:
    if place.path is not None and not place.family.takes_path:
        expected = f"a name without an @: {place.prefix}{place.name}"
        raise WhiskerError(
            f"environment {place.full_name(place.name)!r}",
            expected=expected,
        )
    with _blaming(place):
        names = place.family.expand(place.name)
        known = () if names else tuple(place.family.known_names())
    if not names:
        raise UnknownNameError(
            "environment",
            f"{place.prefix}{place.name}",
            (place.prefix + one for one in known),
        )
    return tuple(place.full_name(one) for one in names)


def _built_in() -> Iterator[tuple[str, EnvFamily]]:
    """Yield import string and family of those that come with the package; each is imported when it is its turn."""
    for source in FAMILIES.values():
        yield source, load_family(source)


def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _place_of(point: EntryPoint, name: str) -> _Place:
    source = f"{point.module}:{point.attr}"
    return _Place(
        load_family(source),
        source,
        f"{point.name}/",
        name,
        None,
    )


def _all_names() -> Iterator[str]:
    """Yield the names to offer in place of an unknown one; a family that cannot be loaded has none."""
    for _, family in _built_in():
        yield from family.known_names()
    for point in _entry_points():
        try:
            place = _place_of(point, "")
            with _blaming(place):
                yield from [place.full_name(name) for name in place.family.known_names()]
        except WhiskerError:
            continue


@contextmanager
def _blaming(place: _Place) -> Iterator[None]:
    """Turn what a user's family raises into an error that names its import string."""
    try:
        yield
    except WhiskerError:
        raise
    except Exception as error:
        if not place.prefix:
            raise
        raise WhiskerError(
            f"environment {place.full_name(place.name)!r}",
            expected=f"a family {place.source!r} that lists and makes its environments",
            got=describe_error(error),
        ) from error


def _check_made(
    env: Env,
    place: _Place,
    request: EnvRequest,
) -> None:
    """Raise unless the environment is the one that its family said it would make."""
    said = {
        "name": request.spec_name,
        "task": place.family.task_of(place.name),
    }
    for part, expected in said.items():
        got = getattr(env.spec, part)
        if got != expected:
            env.close()
            raise WhiskerError(
                f"EnvSpec.{part} of environment {request.spec_name!r}",
                expected=repr(expected),
                got=repr(got),
                hint=f"It is made by {place.source!r}: `EnvRequest.spec_name` and `EnvFamily.task_of` say both.",
            )
