"""Servers of GR00T's protocol over ZMQ, in a thread of a test, written from its description.

They pack arrays with numpy's own `np.save` and read them with `np.load`, as GR00T did at first, or
pack and read them as msgpack-numpy 0.4.8 does, as later servers of GR00T do. Each reads arrays of
its own form alone: those of the other remain maps.
"""

import io
import os
import sys
from contextlib import contextmanager
from threading import Event, Thread

import msgpack
import numpy as np
import zmq

HORIZON = 16
_VIDEO = {"modality_keys": ["front", "wrist"], "delta_indices": [0]}
CONFIG = {"video": {"__ModalityConfig_class__": True, "as_json": _VIDEO}}
LATER_CONFIG = {"video": {"__ModalityConfig__": True, "as_json": _VIDEO}}
_LOOK_EVERY_MS = 20


def pack(message):
    return msgpack.packb(message, default=_encode)


def unpack(frame):
    return msgpack.unpackb(frame, object_hook=_decode)


def _encode(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def _decode(content):
    if "__ndarray_class__" in content:
        return np.load(io.BytesIO(content["as_npy"]), allow_pickle=False)
    return content


def pack_later(message):
    return msgpack.packb(message, default=encode_later)


def unpack_later(frame):
    return msgpack.unpackb(frame, object_hook=_decode_later)


def encode_later(array):
    """Return the map that stands for an array."""
    content = {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape}
    return content | {b"data": array.tobytes()}


def _decode_later(content):
    if b"nd" in content:
        assert content[b"nd"] is True
        assert content[b"kind"] == b""
        return np.ndarray(content[b"shape"], content[b"type"], content[b"data"])
    return content


def hold(observation):
    """Return a plan for the wire `gr00t-so101` that depends on all of an observation."""
    video, state = observation["video"], observation["state"]
    ((text,),) = observation["language"]["annotation.human.task_description"]
    for image in video.values():
        assert isinstance(image, np.ndarray), f"a {type(image).__name__} in place of an image"
        assert image.dtype == np.uint8
        assert image.shape[:2] == (1, 1)
    drift = (video["front"].mean() - video["wrist"].mean() + len(text)) / 1000
    steps = drift * np.arange(HORIZON)[None, :, None]
    plan = {name: (part + steps).astype(np.float32) for name, part in state.items()}
    return [plan, {}]


def answer(plan, request, config):
    """Return what GR00T's server replies to a request."""
    match request["endpoint"]:
        case "get_modality_config":
            return config
        case "get_action":
            assert set(request["data"]) == {"observation", "options"}
            return plan(request["data"]["observation"])
    raise ValueError(f"Unknown endpoint: {request['endpoint']}")


@contextmanager
def zmq_server(reply, port=None):
    """Run a reply socket; yield its address.

    Args:
        reply: returns the bytes that answer a request, or a list of them: one for each part.
        port: None: any.
    """
    context = zmq.Context()
    socket = context.socket(zmq.REP)
    socket.setsockopt(zmq.LINGER, 0)
    if port is None:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
    else:
        socket.bind(f"tcp://127.0.0.1:{port}")
    ended = Event()

    def serve():
        with socket:
            while not ended.is_set():
                if socket.poll(_LOOK_EVERY_MS):
                    parts = reply(socket.recv())
                    socket.send_multipart(parts if isinstance(parts, list) else [parts])

    thread = Thread(target=serve)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        ended.set()
        thread.join()
        context.term()


@contextmanager
def gr00t_server(plan, port=None, config=CONFIG, codec=(pack, unpack)):
    """Run a server of GR00T's protocol; yield its address and the observations so far."""
    seen = []
    write, read = codec

    def reply(frame):
        request = read(frame)
        if request["endpoint"] == "get_action":
            seen.append(request["data"]["observation"])
        try:
            return write(answer(plan, request, config))
        except Exception as error:
            return write({"error": str(error)})

    with zmq_server(reply, port) as address:
        yield address, seen


def later_gr00t_server(plan):
    """Run a server of GR00T's protocol as it is since May 2026."""
    return gr00t_server(plan, config=LATER_CONFIG, codec=(pack_later, unpack_later))


def serve_until_call(port, n_calls):
    """Serve `hold` in this process, and let the process die in the n-th call."""
    n_plans = 0

    def plan(observation):
        nonlocal n_plans
        n_plans += 1
        if n_plans == n_calls:
            os._exit(1)
        return hold(observation)

    with gr00t_server(plan, port):
        Event().wait()


if __name__ == "__main__":
    serve_until_call(*map(int, sys.argv[1:]))
