"""What `--help` prints: the flags of a command in groups, those that are used most in front."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

# A line that is longer than this is tiring to read.
_MAX_WIDTH = 100
_INDENT = 26
_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def format_help(config_type: Any, name: str) -> str:
    """Return the help of a command, ready to be printed.

    Args:
        config_type: a dataclass. Its docstring describes the command, and in `Attributes:` every
            field, also of the classes that it inherits from. Its class variable `help_groups` maps
            the title of a group to names of fields, in the order of the page. A field that is in no
            group comes last.
    """
    width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
    summary, *notes = (
        inspect.cleandoc(config_type.__doc__).partition("Attributes:")[0].strip().split("\n\n")
    )
    by_name = {field.name: field for field in fields(config_type)}
    groups = {
        title: [by_name.pop(name) for name in names]
        for title, names in config_type.help_groups.items()
    }
    described = _describe_fields(config_type)
    positional = "".join(
        f" {_usage(field)}" for field in fields(config_type) if _is_positional(field)
    )
    lines = [
        f"usage: {name}{positional} [--flag value ...]",
        "",
        *textwrap.wrap(" ".join(summary.split()), width),
    ]
    for title, members in (groups | ({"more": list(by_name.values())} if by_name else {})).items():
        lines += ["", f"{title}:"]
        for field in members:
            lines += _format_flag(field, described[field.name], width)
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
        lines += [
            f"  {subcommand:{_INDENT - 2}}{body[0]}",
            *(" " * _INDENT + line for line in body[1:]),
        ]
    return "\n".join([*lines, "", f"`{name} <one of them> --help` shows its flags."])


def _describe_fields(config_type: Any) -> dict[str, str]:
    """Return field → its sentence in the docstrings of the class and those that it inherits from."""
    described = {}
    for owner in reversed(config_type.__mro__):
        _, _, attributes = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:")
        for entry in re.split(r"\n    (?=\w+: )", attributes):
            field, _, text = entry.strip().partition(": ")
            described[field] = " ".join(text.split())
    return described


def _format_flag(field: Field, text: str, width: int) -> Iterator[str]:
    needs_default = not (
        field.default is None or field.default in (MISSING, ()) or isinstance(field.default, bool)
    )
    shown = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    text += f" Default: {shown}." if needs_default and "Default:" not in text else ""
    head = f"  {_invocation(field)}"
    body = textwrap.wrap(text, width - _INDENT, break_on_hyphens=False)
    if len(head) > _INDENT - 2:
        yield head
    else:
        yield f"{head:{_INDENT}}{body.pop(0)}"
    yield from (" " * _INDENT + line for line in body)


def _invocation(field: Field) -> str:
    """Return how the flag is written, e.g. "--episodes N"."""
    if _is_positional(field):
        return field.name.upper()
    flag = "--" + field.name.replace("_", "-")
    if field.type is bool:
        return f"--no-{flag[2:]}" if field.default is True else flag
    return f"{flag} {_metavar(field.type)}"


def _usage(field: Field) -> str:
    """Return a positional argument as the first line shows it, e.g. "[BANKS ...]"."""
    is_several = get_origin(field.type.__origin__) is tuple  # type: ignore[union-attr]
    return f"[{field.name.upper()}{' ...' if is_several else ''}]"


def _metavar(annotation: Any) -> str:
    """Return a stand-in for the value of a flag, e.g.

    "relative|absolute", "X X" or "[TEXT ...]".
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is UnionType or type(None) in arguments:
        return " | ".join(_metavar(one) for one in arguments if one is not NoneType)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin is tuple:
        return (
            f"[{_metavar(arguments[0])} ...]"
            if Ellipsis in arguments
            else " ".join(map(_metavar, arguments))
        )
    return _METAVARS.get(annotation, "VALUE")


def _is_positional(field: Field) -> bool:
    """Return whether the field is annotated as tyro's `Positional`, the one annotation of that kind here."""
    return hasattr(field.type, "__metadata__")


def _wrap_note(note: str, width: int) -> list[str]:
    """Return a paragraph at that width. Examples are commands to copy, and stay as they are."""
    lines = note.split("\n")
    is_listing = any(line.startswith(" ") for line in lines)
    return lines if is_listing else textwrap.wrap(" ".join(lines), width)
