"""openpi's own policy server, in a thread of a test, and servers that break its protocol."""

import asyncio
import os
import socket
import sys
from contextlib import contextmanager
from threading import Event, Thread

import numpy as np
from openpi_client.base_policy import BasePolicy
from openpi_server.websocket_policy_server import WebsocketPolicyServer
from websockets.sync.server import serve

HORIZON = 10


class FakePolicy(BasePolicy):
    """Answers openpi's server with what a function makes of an observation.

    Attributes:
        seen: the observations so far.
    """

    def __init__(self, plan):
        self._plan = plan
        self.seen = []

    def infer(self, obs):
        self.seen.append(obs)
        return {"actions": self._plan(obs), "state": obs.get("observation/state")}


def hold(obs):
    """Return a plan that depends on all of an observation of the wire `so101`: float64, as JAX."""
    state = np.asarray(obs["observation/state"], np.float64)
    brightness = obs["observation/image"].mean() - obs["observation/wrist_image"].mean()
    drift = (brightness + len(obs["prompt"])) / 1000
    return state + drift * np.arange(HORIZON)[:, None]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def openpi_server(plan, metadata=None, port=None):
    """Run openpi's server; yield its address and its policy."""
    port = port or free_port()
    policy = FakePolicy(plan)
    server = WebsocketPolicyServer(policy, "127.0.0.1", port, metadata or {})
    loop = asyncio.new_event_loop()
    task = loop.create_task(server.run())
    thread = Thread(target=_run_until_cancelled, args=(loop, task))
    thread.start()
    try:
        yield f"ws://127.0.0.1:{port}", policy
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _run_until_cancelled(loop, task):
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        pass
    finally:
        loop.close()


@contextmanager
def websocket_server(converse):
    """Run a websocket server whose connections are handled by a function; yield its address."""
    with serve(converse, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def raw_server(answer):
    """Run a TCP server that is no websocket server; yield its address.

    Args:
        answer: handles one connection.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    ended = Event()

    def accept():
        while not ended.is_set():
            connection, _ = listener.accept()
            with connection:
                if not ended.is_set():
                    answer(connection)

    thread = Thread(target=accept)
    thread.start()
    port = listener.getsockname()[1]
    try:
        yield f"ws://127.0.0.1:{port}"
    finally:
        ended.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()
        listener.close()


@contextmanager
def ending_server():
    """Run a server that closes the first connection, and then listens no more; yield its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def end():
        with listener:
            connection, _ = listener.accept()
            connection.close()

    thread = Thread(target=end)
    thread.start()
    yield listener.getsockname()[1]
    thread.join()


def serve_until_call(port, n_calls):
    """Serve `hold` in this process, and let the process die in the n-th call."""

    def plan(obs):
        if len(policy.seen) == n_calls:
            os._exit(1)
        return hold(obs)

    policy = FakePolicy(plan)
    WebsocketPolicyServer(policy, "127.0.0.1", port).serve_forever()


if __name__ == "__main__":
    serve_until_call(*map(int, sys.argv[1:]))
