"""The flags of a command, whose settings are dataclasses inside dataclasses: one a group of flags.

A flag has the name of its field, or the one that `tyro.conf.arg(name=...)` gives it:
`PolicyConfig.name` is `--policy`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from typing import Any, get_origin

from tyro.conf import Positional

_POSITIONAL = Positional[int].__metadata__[0]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Flag:
    """One setting of a command, as the command line names it.

    Attributes:
        name: with underscores, e.g. "max_steps".
        group: name of the field that holds its dataclass; "" for a field of the command's own.
        field: where the value is kept.
        kind: the type of the value.
        is_positional: it is given by its place in the command line.
    """

    name: str
    group: str
    field: Field
    kind: Any
    is_positional: bool

    @property
    def spelling(self) -> str:
        """Return how it is typed, e.g. "--max-steps"."""
        return "--" + self.name.replace("_", "-")

    def value_in(self, config: Any) -> Any:
        """Return its value in the settings of a command."""
        owner = getattr(config, self.group) if self.group else config
        return getattr(owner, self.field.name)


def find_flags(config_type: Any) -> Iterator[Flag]:
    """Yield the flags of a command's settings, in their order."""
    for field in fields(config_type):
        if is_dataclass(field.type):
            yield from (_make_flag(member, field.name) for member in fields(field.type))
        else:
            yield _make_flag(field, "")


def group_values(config_type: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by flag as values by field, in which those of a group are a dict of their own.

    Names that are no flags are left where they are.
    """
    flags = {flag.name: flag for flag in find_flags(config_type)}
    grouped: dict[str, Any] = {}
    for name, value in values.items():
        flag = flags.get(name)
        if flag is None or not flag.group:
            grouped[name] = value
        else:
            grouped.setdefault(flag.group, {})[flag.field.name] = value
    return grouped


def replace_flags[Config](config: Config, **values: Any) -> Config:
    """Return settings with other values of some flags: `replace_flags(config, policy="act")`.

    Raises:
        TypeError: the command has no such flag.
    """
    changed = group_values(type(config), values)
    for name, value in changed.items():
        group = getattr(config, name, None)
        if is_dataclass(group) and not isinstance(group, type):
            changed[name] = replace(group, **value)
    return replace(config, **changed)  # type: ignore[type-var]


def make_config[Config](config_type: type[Config], **values: Any) -> Config:
    """Return settings from values by flag: `make_config(EvalConfig, policy="act")`.

    Raises:
        TypeError: the command has no such flag.
    """
    return replace_flags(config_type(), **values)


def _make_flag(field: Field, group: str) -> Flag:
    notes = getattr(field.type, "__metadata__", ())
    kind = field.type.__origin__ if notes else field.type  # type: ignore[union-attr]
    names = (note.name for note in notes if getattr(note, "name", None))
    return Flag(
        name=next(names, field.name),
        group=group,
        field=field,
        kind=kind,
        is_positional=_POSITIONAL in notes,
    )


def takes_several(flag: Flag) -> bool:
    """Return whether the flag takes any number of values."""
    return get_origin(flag.kind) is tuple and Ellipsis in flag.kind.__args__
