"""Serves a policy over websockets, as openpi's servers do."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from policies.remote.codec import CodecError, pack, unpack
from policies.remote.policy_server import PolicyServer
from policies.remote.server_link import DEFAULT_LIMITS
from sim.errors import WhiskerError

_CLOSE_REASON = "the error is in the message before this"


@contextmanager
def open_server(server: PolicyServer, host: str, port: int) -> Iterator[Server]:
    """Yield a websocket server that has not begun to serve.

    Args:
        host: address to listen at.
        port: 0 takes a free one.

    Raises:
        WhiskerError: it is not possible to listen there.
    """

    def converse(connection: ServerConnection) -> None:
        _converse(server, connection)

    try:
        opened = serve(
            converse,
            host,
            port,
            compression=None,
            max_size=DEFAULT_LIMITS.frame_bytes,
            # A client that simulates for minutes between two plans is not dead.
            ping_interval=None,
            process_request=_answer_health_check,
        )
    except (OSError, OverflowError) as error:
        raise WhiskerError(
            f"whisker-serve at {host}:{port}",
            expected="an address of this machine and a free port",
            got=str(error),
            hint="--port 0 takes any free port.",
        ) from error
    with opened:
        yield opened


def _converse(server: PolicyServer, connection: ServerConnection) -> None:
    """Answer the requests of one client, until it goes or an error ends the connection.

    As in openpi, the client gets an error as text, and the connection is closed.
    """
    # A client of openpi sends no noise. The same requests then get the same plans.
    rng = np.random.default_rng(0)
    try:
        connection.send(pack(server.metadata))
        for frame in connection:
            try:
                request = unpack(frame) if isinstance(frame, bytes) else None
                if not isinstance(request, dict):
                    raise CodecError("a request that is no map in msgpack")
                reply = pack(server.answer(request, rng))
            except Exception:
                connection.send(traceback.format_exc())
                connection.close(CloseCode.INTERNAL_ERROR, _CLOSE_REASON)
                return
            connection.send(reply)
    except ConnectionClosed:
        return


def _answer_health_check(connection: ServerConnection, request: Request) -> Response | None:
    """Answer GET /healthz, as openpi's servers do; every other request opens a websocket."""
    if request.path == "/healthz":
        return connection.respond(HTTPStatus.OK, "OK\n")
    return None
