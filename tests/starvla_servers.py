"""starVLA's policy server in a thread of a test, written from the description of its protocol.

Messages are packed by openpi's own client, whose codec starVLA has.
"""

from contextlib import contextmanager

import numpy as np
from openpi_client import msgpack_numpy

from tests.openpi_servers import websocket_server

HORIZON = 8
GREETING = {"env": "starvla_policy_server", "action_chunk_size": HORIZON}


def hold(example):
    """Return a plan that depends on all of an example of the wire `starvla-libero`."""
    scene, wrist = example["image"]
    drift = (float(scene.mean()) - float(wrist.mean()) + len(example["lang"])) / 1000
    return drift * np.arange(HORIZON)[:, None] + np.arange(7)


def answer(plan, request):
    """Return what starVLA's server replies to a request."""
    reply = {"type": "inference_result", "request_id": request.get("request_id", "default")}
    assert request["type"] == "infer"
    payload = request["payload"]
    try:
        (example,) = payload["examples"]
        data = {"actions": plan(example)[None]}
    except Exception as error:
        return reply | {"status": "error", "ok": False, "error": {"message": str(error)}}
    return reply | {"status": "ok", "ok": True, "data": data}


@contextmanager
def starvla_server(plan, change=None):
    """Run the server; yield its address and the requests so far.

    Args:
        change: returns another reply in place of the right one.
    """
    seen = []

    def converse(connection):
        connection.send(msgpack_numpy.packb(GREETING))
        for frame in connection:
            request = msgpack_numpy.unpackb(frame)
            seen.append(request)
            reply = answer(plan, request)
            connection.send(msgpack_numpy.packb(change(reply) if change else reply))

    with websocket_server(converse) as address:
        yield address, seen
