"""Resolves the name of an environment to the family that it belongs to.

A family is imported only when it is asked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points

from sim.errors import UnknownNameError, WhiskerError
from sim.families import EnvFamily
from sim.user_code import describe_error, import_attribute, look_in_current_directory

# Import strings of the built-in families, in the order in which they are asked for a name. A user's
# family is part of the environment's name, `my_package.my_module:family/task`, or has an entry
# point of the group: `family/task`.
FAMILIES: dict[str, str] = {
    "so101": "sim.so101.family:FAMILY",
    "robosuite": "sim.robosuite_tasks.family:FAMILY",
    "simpler": "sim.simpler_bench.family:FAMILY",
    "libero": "sim.libero_bench.family:FAMILY",
}
ENTRY_POINT_GROUP = "whisker.envs"


@dataclass(frozen=True)
class ResolvedName:
    """The parts of an environment's name, and its family.

    Attributes:
        source: import string of the family.
        prefix: first part of the name, which selects a user's family; "" for built-in families.
        name: within the family, without the part after an @.
        path: the part after the @; None if there is none.
    """

    family: EnvFamily
    source: str
    prefix: str
    name: str
    path: str | None

    def full_name(self, name: str) -> str:
        """Return the registry name of another environment of the family, with the same path."""
        path = "" if self.path is None else f"@{self.path}"
        return f"{self.prefix}{name}{path}"

    @contextmanager
    def attributing_errors(self) -> Iterator[None]:
        """Turn errors that a user's family raises into `WhiskerError`s with its import string."""
        try:
            yield
        except WhiskerError:
            raise
        except Exception as error:
            if not self.prefix:
                raise
            raise WhiskerError(
                f"environment {self.full_name(self.name)!r}",
                expected=f"a family {self.source!r} that lists and makes its environments",
                got=describe_error(error),
            ) from error


def resolve(env_name: str) -> ResolvedName:
    """Resolve the name of a single environment. A user's family need not know its last part.

    Raises:
        UnknownNameError: no family has it; the message has the closest names.
        WhiskerError: a family cannot be loaded.
    """
    resolved = find(env_name)
    if resolved is None:
        raise UnknownNameError("environment", env_name.partition("@")[0], _all_names())
    return resolved


def find(env_name: str) -> ResolvedName | None:
    """Return the same as `resolve`, or None if no family has the name."""
    path = path_in(env_name)
    base = env_name.partition("@")[0]
    head, _, name = base.partition("/")
    if ":" in head:
        look_in_current_directory()
        return ResolvedName(
            load_family(head),
            head,
            f"{head}/",
            name,
            path,
        )
    for source, family in built_in_families():
        if family.owns(base):
            return ResolvedName(family, source, "", base, path)
    points = {point.value: point for point in family_entry_points() if point.name == head}
    if not points:
        return None
    if len(points) > 1:
        raise WhiskerError(
            f"entry point {head!r} of {ENTRY_POINT_GROUP!r}",
            expected="one family of that name",
            got=" and ".join(sorted(points)),
            hint=f"Name the one that is meant by its import string: {min(points)}/{name}",
        )
    (point,) = points.values()
    return replace(resolve_entry_point(point, name), path=path)


def path_in(env_name: str) -> str | None:
    """Return the part of an environment's name after an @; None if there is none."""
    _, at, path = env_name.partition("@")
    return path if at else None


def load_family(source: str) -> EnvFamily:
    """Return the family that an import string names.

    Raises:
        WhiskerError: it cannot be imported, or is not a family.
    """
    subject = f"import of {source!r}"
    family = import_attribute(subject, source)
    if not isinstance(family, EnvFamily):
        is_class = isinstance(family, type)
        raise WhiskerError(
            subject,
            expected="an instance of sim.families.EnvFamily",
            got=f"the class {family.__name__}" if is_class else f"a {type(family).__name__}",
        )
    return family


def built_in_families() -> Iterator[tuple[str, EnvFamily]]:
    """Yield import string and family of the built-in ones, each imported when it is reached."""
    for source in FAMILIES.values():
        yield source, load_family(source)


def family_entry_points() -> tuple[EntryPoint, ...]:
    """Return the entry points by which installed packages offer families."""
    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def resolve_entry_point(point: EntryPoint, name: str) -> ResolvedName:
    """Return the environment `name` of an entry point's family."""
    source = f"{point.module}:{point.attr}"
    return ResolvedName(
        load_family(source),
        source,
        f"{point.name}/",
        name,
        None,
    )


def _all_names() -> Iterator[str]:
    """Yield the names to suggest for an unknown one. A family that cannot be loaded has none."""
    for _, family in built_in_families():
        yield from family.known_names()
    for point in family_entry_points():
        try:
            resolved = resolve_entry_point(point, "")
            with resolved.attributing_errors():
                names = [resolved.full_name(name) for name in resolved.family.known_names()]
        except WhiskerError:
            continue
        yield from names
