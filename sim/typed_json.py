"""Decodes JSON into frozen dataclasses by their annotations, so that no field is named twice."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

# Annotation → the JSON types that it accepts. JSON may write 1.0 as 1.
_SCALARS: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
}


_hints = cache(get_type_hints)


def decode(
    kind: Any,
    value: Any,
    name: str,
) -> Any:
    """Return the dataclass that was saved as the JSON value `value`.

    Unknown keys are left out, and an absent field takes its default. Lists become tuples, and
    strings the members of a `StrEnum`.

    Args:
        kind: the dataclass, or the annotation of one of its fields.
        value: the result of `json.loads`.
        name: name of the value in errors; its fields are "<name>.<field>".

    Raises:
        ValueError: a field without a default is absent, or a value has another type than its
            annotation.
    """
    origin = get_origin(kind)
    arguments = get_args(kind)
    if origin in (Union, UnionType):
        return _decode_union(arguments, value, name)
    if is_dataclass(kind):
        return _decode_fields(kind, _checked(value, (dict,), name), name)
    if origin is Literal:
        return _decode_choice(arguments, value, name)
    if origin is tuple:
        return _decode_tuple(arguments, _checked(value, (list,), name), name)
    if origin is Mapping:
        _, kind_of_value = arguments
        decoded = {}
        for key, each in _checked(value, (dict,), name).items():
            decoded[key] = decode(kind_of_value, each, f"{name}.{key}")
        return decoded
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    if kind in _SCALARS:
        return kind(_checked(value, _SCALARS[kind], name))
    return value


def _decode_union(
    kinds: tuple[Any, ...],
    value: Any,
    name: str,
) -> Any:
    """Decode an optional value. With several types besides None, any JSON value is accepted."""
    others = [kind for kind in kinds if kind is not type(None)]
    if value is None or len(others) > 1:
        return value
    return decode(others[0], value, name)


def _decode_choice(
    choices: tuple[Any, ...],
    value: Any,
    name: str,
) -> Any:
    if value not in choices:
        raise ValueError(f"{value!r} as {name}, not {' or '.join(map(repr, choices))}")
    return value


def _decode_tuple(
    kinds: tuple[Any, ...],
    values: list,
    name: str,
) -> tuple:
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(values)
    if len(values) != len(kinds):
        raise ValueError(f"{values!r} as {name}")
    pairs = zip(kinds, values, strict=True)
    return tuple(decode(kind, value, name) for kind, value in pairs)


def _decode_fields(
    kind: Any,
    values: dict,
    name: str,
) -> Any:
    hints = _hints(kind)
    known = {}
    for field in fields(kind):
        if not field.init:
            continue
        if field.name in values:
            field_name = f"{name}.{field.name}".lstrip(".")
            known[field.name] = decode(hints[field.name], values[field.name], field_name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"one without {name}.{field.name}".replace(" .", " "))
    return kind(**known)


def _checked(
    value: Any,
    kinds: tuple[type, ...],
    name: str,
) -> Any:
    """Return the value if it is of one of the types; True is not an integer."""
    is_forbidden_bool = isinstance(value, bool) and bool not in kinds
    if isinstance(value, kinds) and not is_forbidden_bool:
        return value
    raise ValueError(f"{value!r} as {name or 'the whole'}")
