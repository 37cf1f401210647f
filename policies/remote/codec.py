"""Packs and unpacks the messages of openpi's websocket protocol: msgpack that holds numpy arrays.

An array is a map of its bytes, its dtype and its shape. Nothing is unpickled: a message is made of
numbers, texts, bytes, lists, maps and numeric arrays, and nothing in it can run code.

Source: openpi, packages/openpi-client/src/openpi_client/msgpack_numpy.py. Unlike there, a dtype
must be one of plain numbers, and the bytes must be as many as the shape says.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

# Keys that mark a map as an array or as a single number of numpy's.
_ARRAY = b"__ndarray__"
_NUMBER = b"__npgeneric__"
# Booleans, integers and floats, with their byte order and size.
_DTYPE = re.compile(r"[<>|=]?[biuf][1248]")
MOST_DIMENSIONS = 8


class CodecError(ValueError):
    """The bytes are not a message of this protocol, or hold what it does not allow."""


def pack(message: object) -> bytes:
    """Return a message as bytes.

    Raises:
        CodecError: an array has another kind of elements than numbers.
        TypeError: a value is of a type that msgpack does not know.
    """
    return msgpack.packb(message, default=_encode)


def unpack(frame: bytes) -> Any:
    """Return the message that the bytes hold; its arrays are read-only.

    Raises:
        CodecError: the bytes are not such a message.
    """
    return unpack_msgpack(frame, _decode)


def unpack_msgpack(frame: bytes, decode_map: Callable[[dict], Any]) -> Any:
    """Return the message that the bytes hold, with each map as `decode_map` returns it.

    Raises:
        CodecError: the bytes are not msgpack, or `decode_map` raised it.
    """
    try:
        return msgpack.unpackb(frame, object_hook=decode_map)
    except CodecError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise CodecError(f"{len(frame)} bytes that are not msgpack ({error})") from error


def _encode(value: object) -> dict[bytes, object]:
    if isinstance(value, np.ndarray):
        dtype = check_dtype(value.dtype.str)
        shape = list(value.shape)
        return {_ARRAY: True, b"data": value.tobytes(), b"dtype": dtype.str, b"shape": shape}
    if isinstance(value, np.generic):
        dtype = check_dtype(value.dtype.str)
        return {_NUMBER: True, b"data": value.item(), b"dtype": dtype.str}
    raise TypeError(f"{type(value).__name__!r} cannot be sent")


def _decode(content: dict) -> Any:
    """Return what a map of a message stands for: an array, a number, or itself."""
    if _ARRAY in content:
        return make_array(content.get(b"data"), content.get(b"dtype"), content.get(b"shape"))
    if _NUMBER in content:
        dtype = check_dtype(content.get(b"dtype"))
        number = content.get(b"data")
        if not isinstance(number, bool | int | float):
            raise CodecError(f"a number that is a {type(number).__name__}")
        return dtype.type(number)
    return content


def make_array(raw: object, dtype_name: object, shape: object) -> np.ndarray:
    """Return the array of these bytes.

    Raises:
        CodecError: they are not as many numbers as the shape says, or not plain numbers.
    """
    dtype = check_dtype(dtype_name)
    if not isinstance(raw, bytes) or not isinstance(shape, list):
        raise CodecError("an array without bytes or shape")
    is_shape = all(type(length) is int and length >= 0 for length in shape)
    if not is_shape or len(shape) > MOST_DIMENSIONS:
        raise CodecError(f"an array of shape {shape}")
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes != len(raw):
        raise CodecError(f"an array of shape {shape} and {dtype} with {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(shape)


def check_dtype(name: object) -> np.dtype:
    """Return a dtype by its name; objects, texts and structures are refused."""
    if isinstance(name, str) and _DTYPE.fullmatch(name):
        try:
            return np.dtype(name)
        except TypeError:  # such as a boolean of 8 bytes
            pass
    raise CodecError(f"an array of {name!r}, which are not numbers")
