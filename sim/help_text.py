"""Prints `--help`: the flags of a command in the groups that its settings are made of."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

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
    width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
    text = inspect.cleandoc(config_type.__doc__).partition("Attributes:")[0].strip()
    summary, *notes = text.split("\n\n")
    positional = [f" {_usage(flag)}" for flag in find_flags(config_type) if flag.is_positional]
    lines = [f"usage: {name}{''.join(positional)} [--flag value ...]", ""]
    lines += textwrap.wrap(" ".join(summary.split()), width)
    for title, flags in _sort_into_groups(config_type).items():
        lines += ["", f"{title}:"]
        for flag, description in flags:
            lines += _format_flag(flag, description, width)
    for note in notes:
        lines += ["", *_wrap_note(note, width)]
    return "\n".join(lines)


def format_subcommands(config_types: Mapping[str, Any], name: str) -> str:
    """Return the help of a command that does nothing without a subcommand.

    Args:
        config_types: subcommand → a dataclass as for `format_help`.
    """
    width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
    lines = [f"usage: {name} {{{','.join(config_types)}}} ...", ""]
    for subcommand, config_type in config_types.items():
        summary = " ".join(inspect.cleandoc(config_type.__doc__).split("\n\n")[0].split())
        body = textwrap.wrap(summary, width - _INDENT)
        lines.append(f"  {subcommand:{_INDENT - 2}}{body[0]}")
        lines += [" " * _INDENT + line for line in body[1:]]
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
    groups = {}
    for title, names in getattr(config_type, "help_groups", {}).items():
        groups[title] = [own.pop(name) for name in names]
    groups |= of_groups
    if own:
        groups["more"] = list(own.values())
    return groups


def _describe_fields(config_type: Any) -> dict[str, str]:
    """Return field → its description in the docstrings of the class and its bases."""
    described = {}
    for owner in reversed(config_type.__mro__):
        _, _, attributes = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:")
        for entry in re.split(r"\n    (?=\w+: )", attributes):
            field, _, text = entry.strip().partition(": ")
            described[field] = " ".join(text.split())
    return described


def _format_flag(flag: Flag, text: str, width: int) -> Iterator[str]:
    if _shows_default(flag) and "Default:" not in text:
        default = flag.field.default
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" Default: {shown}."
    head = f"  {_invocation(flag)}"
    body = textwrap.wrap(text, width - _INDENT, break_on_hyphens=False)
    if len(head) > _INDENT - 2:
        yield head
    else:
        yield f"{head:{_INDENT}}{body.pop(0)}"
    yield from (" " * _INDENT + line for line in body)


def _shows_default(flag: Flag) -> bool:
    default = flag.field.default
    return default not in (None, MISSING, ()) and not isinstance(default, bool)


def _invocation(flag: Flag) -> str:
    """Return how the flag is written, e.g. "--episodes N"."""
    if flag.is_positional:
        return flag.name.upper()
    if flag.kind is bool:
        return flag.spelling.replace("--", "--no-", 1) if flag.field.default else flag.spelling
    return f"{flag.spelling} {_metavar(flag.kind)}"


def _usage(flag: Flag) -> str:
    """Return a positional argument as the first line shows it, e.g. "[BANKS ...]"."""
    return f"[{flag.name.upper()}{' ...' if takes_several(flag) else ''}]"


def _metavar(annotation: Any) -> str:
    """Return a stand-in for the value of a flag, e.g. "delta|absolute", "X X" or "[TEXT ...]"."""
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is UnionType or NoneType in arguments:
        return " | ".join(_metavar(one) for one in arguments if one is not NoneType)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin is tuple:
        if Ellipsis in arguments:
            return f"[{_metavar(arguments[0])} ...]"
        return " ".join(map(_metavar, arguments))
    return _METAVARS.get(annotation, "VALUE")


def _wrap_note(note: str, width: int) -> list[str]:
    """Return a paragraph at that width. Examples are commands to copy, and stay as they are."""
    lines = note.split("\n")
    is_listing = any(line.startswith(" ") for line in lines)
    return lines if is_listing else textwrap.wrap(" ".join(lines), width)
