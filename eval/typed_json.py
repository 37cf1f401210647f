"""Reads JSON into frozen dataclasses by their annotations, so that no field's name is written down a second time."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from itertools import repeat
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

# What JSON may have where a field is annotated so: 1.0 can be written as 1.
_SCALARS: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (int, float),
    str: (str,),
}


def decode[T](kind: type[T], value: Any, name: str) -> T:
    """Return a dataclass made from what `json.loads` returned for it.

    Keys that the dataclass does not know are left out, and a field that is absent takes its
    default. Lists become tuples, and strings the members of a `StrEnum`.

    Args:
        name: of the value, as an error is to call it; a field of it is "<name>.<field>".

    Raises:
        ValueError: a field without a default is absent, or a value is of another type than its
            annotation.
    """
    return _decode(kind, value, name)


def _decode(kind: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        others = [argument for argument in arguments if argument is not type(None)]
        # Of several types it may be any that JSON has.
        return value if value is None or len(others) > 1 else _decode(others[0], value, name)
    if is_dataclass(kind):
        return _decode_fields(kind, _checked(value, (dict,), name), name)
    if origin is tuple:
        values = _checked(value, (list,), name)
        kinds = arguments[:1] * len(values) if arguments[-1] is Ellipsis else arguments
        if len(values) != len(kinds):
            raise ValueError(f"{values!r} as {name}")
        return tuple(map(_decode, kinds, values, repeat(name)))
    if origin is Mapping:
        items = _checked(value, (dict,), name).items()
        return {key: _decode(arguments[1], each, f"{name}.{key}") for key, each in items}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    return kind(_checked(value, _SCALARS[kind], name)) if kind in _SCALARS else value


def _decode_fields(kind: Any, values: dict, name: str) -> Any:
    hints, known = _hints(kind), {}
    for field in fields(kind):
        if not field.init:
            continue
        if field.name in values:
            known[field.name] = _decode(
                hints[field.name], values[field.name], f"{name}.{field.name}".lstrip(".")
            )
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"one without {name}.{field.name}".replace(" .", " "))
    return kind(**known)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _checked(value: Any, kinds: tuple[type, ...], name: str) -> Any:
    """Return the value if it is of one of the types; True is not an integer."""
    if isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds):
        return value
    raise ValueError(f"{value!r} as {name or 'the whole'}")
