"""Our codec and our resize, beside openpi's own."""

import msgpack
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from openpi_client import image_tools, msgpack_numpy

from policies.remote.codec import CodecError, pack, unpack
from policies.remote.resizing import resize_with_pad


def make_message():
    rng = np.random.default_rng(0)
    return {
        "observation/image": rng.integers(0, 256, (5, 7, 3), dtype=np.uint8),
        "observation/state": rng.normal(size=8).astype(np.float32),
        "actions": rng.normal(size=(4, 6)),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 3), np.int16),
        "scalar": np.array(2.5),
        "single": np.float32(0.1),
        "count": np.int64(-3),
        "prompt": "put the bowl on the plate",
        "nested": {"list": [1, 2.5, None, True, b"bytes"]},
    }


def assert_same(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, np.ndarray | np.generic):
        assert type(one) is type(other)
        assert one.dtype == other.dtype
        assert_array_equal(one, other)
    else:
        assert one == other


def test_the_bytes_are_those_of_openpi():
    message = make_message()
    assert pack(message) == msgpack_numpy.packb(message)
    assert_same(message, unpack(msgpack_numpy.packb(message)))
    assert_same(message, msgpack_numpy.unpackb(pack(message)))


def array_of(**changes):
    content = {b"__ndarray__": True, b"data": bytes(8), b"dtype": "<f4", b"shape": [2]}
    return msgpack.packb(content | {key.encode(): value for key, value in changes.items()})


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"GET / HTTP/1.1", "not msgpack"),
        (pack(make_message())[:-5], "not msgpack"),
        (msgpack.packb([[]]) * 2, "not msgpack"),
        (b"\x91" * 10_000, "not msgpack"),
        (msgpack.packb({1: 2}), "not msgpack"),
        (array_of(dtype="|O"), "not numbers"),
        (array_of(dtype="<U2"), "not numbers"),
        (array_of(dtype="|V8"), "not numbers"),
        (array_of(dtype="<f4,<f4"), "not numbers"),
        (array_of(dtype="<b8"), "not numbers"),
        (array_of(dtype=["<f4"]), "not numbers"),
        (array_of(shape=[3]), "with 8 bytes"),
        (array_of(shape=[-1, -2]), "shape"),
        (array_of(shape=[2.0]), "shape"),
        (array_of(shape=[True, 2]), "shape"),
        (array_of(shape=[2**40, 2**40]), "with 8 bytes"),
        (array_of(shape=[1] * 9 + [2]), "shape"),
        (array_of(data="text"), "without bytes"),
        (msgpack.packb({b"__ndarray__": True}), "not numbers"),
        (
            msgpack.packb({b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"}),
            "a number that is a list",
        ),
        (
            msgpack.packb({b"__npgeneric__": True, b"data": 1, b"dtype": "|O"}),
            "not numbers",
        ),
    ],
)
def test_other_bytes_are_refused(frame, said):
    with pytest.raises(CodecError, match=said):
        unpack(frame)


@pytest.mark.parametrize(
    "array",
    [np.array([None]), np.array(["a"]), np.zeros(2, "<f4,<f4"), np.datetime64("now")],
)
def test_only_numbers_are_sent(array):
    with pytest.raises(CodecError, match="not numbers"):
        pack({"state": array})


def test_other_objects_are_not_sent():
    with pytest.raises(TypeError, match="'object' cannot be sent"):
        pack({"state": object()})


@pytest.mark.parametrize("size", [(224, 224), (96, 160), (225, 31), (16, 16)])
@pytest.mark.parametrize("own_size", [(256, 256), (480, 640), (720, 1280), (64, 48), (40, 333)])
def test_images_are_resized_as_by_openpi(own_size, size):
    image = np.random.default_rng(0).integers(0, 256, (*own_size, 3), dtype=np.uint8)
    assert_array_equal(resize_with_pad(image, *size), image_tools.resize_with_pad(image, *size))


def test_an_image_of_the_size_is_not_touched():
    image = np.zeros((32, 48, 3), np.uint8)
    assert resize_with_pad(image, 32, 48) is image
