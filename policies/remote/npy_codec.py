"""Packs and unpacks messages of GR00T's policy server: msgpack, with arrays in one of two forms.

    npy             .npy files: N1.6, and N1.7 as it was released
    msgpack_numpy   as the package msgpack-numpy packs them: N1.7 since May 2026

A server reads and writes one of them, and takes an array of the other for a map. As in
`policies.remote.codec`, nothing is unpickled: the elements of an array are plain numbers, and its
bytes must be as many as its shape says.

Sources: Isaac-GR00T 4e62473, 23ace64 and 49d40d2, gr00t/policy/server_client.py; msgpack-numpy
0.4.8.
"""

import io
import math
from typing import Any, Literal

import msgpack
import numpy as np

from policies.remote.codec import (
    MOST_DIMENSIONS,
    CodecError,
    check_dtype,
    make_array,
    unpack_msgpack,
)

ArrayForm = Literal["npy", "msgpack_numpy"]
# Keys of the map that stands for an array.
_IS_ARRAY = "__ndarray_class__"
_FILE = "as_npy"
# Key of msgpack-numpy's map for an array (True) or a single number (False).
_IS_ND = b"nd"


def pack(message: object, form: ArrayForm = "npy") -> bytes:
    """Return a message as bytes.

    Args:
        form: how the server reads arrays.

    Raises:
        CodecError: an array has another kind of elements than numbers.
        TypeError: a value is of a type that msgpack does not know.
    """
    encode = _encode_file if form == "npy" else _encode_nd
    return msgpack.packb(message, default=encode)


def unpack(frame: bytes) -> Any:
    """Return the message that the bytes hold; its arrays are read-only.

    Raises:
        CodecError: the bytes are not such a message.
    """
    return unpack_msgpack(frame, _decode)


def _encode_file(value: object) -> dict[str, object]:
    array = _check_array(value)
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return {_IS_ARRAY: True, _FILE: file.getvalue()}


def _encode_nd(value: object) -> dict[bytes, object]:
    array = _check_array(value)
    return {
        _IS_ND: True,
        b"type": array.dtype.str,
        b"kind": b"",
        b"shape": array.shape,
        b"data": array.tobytes(),
    }


def _check_array(value: object) -> np.ndarray:
    """Return a value that is an array of numbers."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__!r} cannot be sent")
    check_dtype(value.dtype.str)
    return value


def _decode(content: dict) -> Any:
    if _IS_ND in content:
        shape = content.get(b"shape") if content[_IS_ND] else []
        return make_array(content.get(b"data"), content.get(b"type"), shape)
    if _IS_ARRAY not in content:
        return content
    raw = content.get(_FILE)
    if not isinstance(raw, bytes):
        raise CodecError("an array without bytes")
    try:
        return _read_array(raw)
    except CodecError:
        raise
    except Exception as error:  # numpy evaluates the header, which can fail in many ways
        raise CodecError(f"an array that is no .npy file ({error})") from error


def _read_array(raw: bytes) -> np.ndarray:
    """Return the array of a .npy file.

    `np.load` would make room for as many numbers as the header claims before it looks for them.
    """
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise CodecError(f"an array of version {version} of the .npy format")
    check_dtype(dtype.str)
    if len(shape) > MOST_DIMENSIONS or any(length < 0 for length in shape):
        raise CodecError(f"an array of shape {shape}")
    numbers = raw[file.tell() :]
    if math.prod(shape) * dtype.itemsize != len(numbers):
        raise CodecError(f"an array of shape {shape} and {dtype} with {len(numbers)} bytes")
    return np.frombuffer(numbers, dtype).reshape(shape, order="F" if is_fortran else "C")
