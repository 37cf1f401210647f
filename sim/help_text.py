"""Prints `--help`: the flags of a command in the groups that its settings are made of."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from sim.flags import Flag, find_flags, takes_several

# A line that is longer than this is tiring to read.
_MAX_WIDTH = 100
_INDENT = 26
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def format_help(config_type: Any, name: str) -> str:
    """Return the help of a command, ready to be printed.

    Args:
        config_type: a dataclass. Its docstring describes the command and, in `Attributes:`, every
            field, also of the classes that it inherits from. A field that is a dataclass is a group
            of flags: its description is the group's title, and its own docstring describes the
            flags. The class variable `help_groups`, where there is one, sorts the command's own
            fields into groups: title → names of fields.
    """
    width = _find_width()
    summary, *notes = _split_docstring(config_type)[0].strip().split("\n\n")
    positional = [
        f" [{flag.name.upper()}{' ...' if takes_several(flag) else ''}]"
        for flag in find_flags(config_type)
        if flag.is_positional
    ]
    lines = [f"usage: {name}{''.join(positional)} [--flag value ...]", ""]
    lines += textwrap.wrap(" ".join(summary.split()), width)
    for title, flags in _sort_into_groups(config_type).items():
        lines += ["", f"{title}:"]
        for flag, description in flags:
            lines += _format_flag(flag, description, width)
    for note in notes:
        paragraph = note.split("\n")
        # Examples are commands to copy, and stay as they are.
        if not any(line.startswith(" ") for line in paragraph):
            paragraph = textwrap.wrap(" ".join(paragraph), width)
        lines += ["", *paragraph]
    return "\n".join(lines)


def format_subcommands(config_types: Mapping[str, Any], name: str) -> str:
    """Return the help of a command that does nothing without a subcommand.

    Args:
        config_types: subcommand → a dataclass as for `format_help`.
    """
    width = _find_width()
    lines = [f"usage: {name} {{{','.join(config_types)}}} ...", ""]
    for subcommand, config_type in config_types.items():
        summary = _split_docstring(config_type)[0].split("\n\n")[0]
        lines += _hang(f"  {subcommand}", textwrap.wrap(" ".join(summary.split()), width - _INDENT))
    return "\n".join([*lines, "", f"`{name} <one of them> --help` shows its flags."])


type _Described = tuple[Flag, str]


def _sort_into_groups(config_type: Any) -> dict[str, list[_Described]]:
    """Return the title of each group → its flags with their descriptions."""
    described = _describe_fields(config_type)
    group_types = {field.name: field.type for field in fields(config_type)}
    own: dict[str, _Described] = {}
    of_groups: dict[str, list[_Described]] = {}
    for flag in find_flags(config_type):
        if flag.group:
            title = described[flag.group].rstrip(".")
            description = _describe_fields(group_types[flag.group])[flag.field.name]
            of_groups.setdefault(title, []).append((flag, description))
        else:
            own[flag.name] = (flag, described[flag.name])
    titles = getattr(config_type, "help_groups", {})
    groups = {title: [own.pop(name) for name in names] for title, names in titles.items()}
    return groups | of_groups | ({"more": list(own.values())} if own else {})


def _describe_fields(config_type: Any) -> dict[str, str]:
    """Return field → its description in the docstrings of the class and its bases."""
    described = {}
    for owner in reversed(config_type.__mro__):
        _, attributes = _split_docstring(owner)
        for entry in re.split(r"\n    (?=\w+: )", attributes):
            field, _, text = entry.strip().partition(": ")
            described[field] = " ".join(text.split())
    return described


def _format_flag(
    flag: Flag,
    text: str,
    width: int,
) -> list[str]:
    default = flag.field.default
    is_shown = default not in (None, MISSING, ()) and not isinstance(default, bool)
    if is_shown and "Default:" not in text:
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" Default: {shown}."
    return _hang(
        f"  {_invocation(flag)}", textwrap.wrap(text, width - _INDENT, break_on_hyphens=False)
    )


def _hang(head: str, body: list[str]) -> list[str]:
    """Return lines with the body to the right of the head, or below a head that is too long."""
    if len(head) > _INDENT - 2:
        body = ["", *body]
    first, *rest = body
    return [f"{head:{_INDENT}}{first}".rstrip(), *(" " * _INDENT + line for line in rest)]


def _find_width() -> int:
    return min(shutil.get_terminal_size().columns, _MAX_WIDTH)


def _split_docstring(config_type: Any) -> tuple[str, str]:
    """Return what the docstring of a class says before its attributes, and about them."""
    text, _, attributes = inspect.cleandoc(config_type.__doc__ or "").partition("Attributes:")
    return text, attributes


def _invocation(flag: Flag) -> str:
    """Return how the flag is written, e.g. "--episodes N"."""
    if flag.is_positional:
        return flag.name.upper()
    if flag.kind is bool:
        return flag.spelling.replace("--", "--no-", 1) if flag.field.default else flag.spelling
    return f"{flag.spelling} {_metavar(flag.kind)}"


def _metavar(annotation: Any) -> str:
    """Return a stand-in for the value of a flag, e.g. "delta|absolute", "X X" or "[TEXT ...]"."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin in (Union, UnionType):
        return " | ".join(_metavar(one) for one in arguments if one is not NoneType)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin is tuple:
        if Ellipsis in arguments:
            return f"[{_metavar(arguments[0])} ...]"
        return " ".join(map(_metavar, arguments))
    return _METAVARS.get(annotation, "VALUE")
