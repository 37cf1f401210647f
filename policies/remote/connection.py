"""A connection to a policy server: one websocket, which is opened again when it breaks."""

import time
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from policies.remote.addresses import check_address
from policies.remote.codec import CodecError, pack, unpack
from policies.remote.server_link import (
    DEFAULT_LIMITS,
    N_RECONNECTIONS,
    Limits,
    ServerError,
    describe_error,
    make_another_server_error,
    make_broken_error,
)

_RETRY_EVERY_S = 0.2
_WHICH_PROTOCOL = "Is it a server of openpi's protocol?"


class Connection:
    """Sends requests to a server and returns its replies, one at a time.

    There is no keepalive ping: a server that plans or compiles does not answer one, and would be
    taken for dead. If the connection breaks, the same request is sent again over a new one.

    Attributes:
        metadata: the message that the server began with.
    """

    def __init__(self, address: str, limits: Limits = DEFAULT_LIMITS) -> None:
        """Connect, and wait for the server's first message.

        Args:
            address: as in ws://127.0.0.1:8000.

        Raises:
            WhiskerError: the address cannot be read.
            ServerError: there is no server of this protocol.
        """
        check_address(address)
        self.address = address
        self.limits = limits
        self._is_known = False
        self.metadata: dict[str, Any] = {}
        self._socket: ClientConnection | None = self._open(limits.connect_s)

    def ask(self, request: dict[str, Any], limit_s: float | None = None) -> dict[str, Any]:
        """Return the server's reply to a request.

        Args:
            limit_s: time for the reply. Default: `Limits.reply_s`.

        Raises:
            ServerError: there is none, or the server reports an error.
        """
        frame = pack(request)
        limit_s = limit_s or self.limits.reply_s
        for _ in range(1 + N_RECONNECTIONS):
            try:
                return self._exchange(frame, limit_s)
            except (ConnectionClosed, OSError) as error:
                broken: Exception = error
        hint = "Its own log says why."
        raise make_broken_error(self.address, broken, hint) from broken

    def close(self) -> None:
        """End the connection. The next request opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, frame: bytes, limit_s: float) -> dict[str, Any]:
        """Send a request and return the reply. The connection is used again only if there is one.

        Raises:
            ConnectionClosed: the connection broke.
            ServerError: there is no reply in time, or none of this protocol.
        """
        socket = self._socket or self._open(self.limits.reconnect_s)
        self._socket = None
        socket.send(frame)
        reply = self._receive(socket, limit_s, "a reply")
        self._socket = socket
        return reply

    def _open(self, limit_s: float) -> ClientConnection:
        """Connect and read the server's first message, which must be the same every time."""
        socket = self._connect(limit_s)
        try:
            metadata = self._receive(socket, self.limits.greeting_s, "a first message")
        except (ConnectionClosed, OSError) as error:
            got = f"a connection that broke ({describe_error(error)})"
            raise self._error("a first message", got, _WHICH_PROTOCOL) from error
        if self._is_known and metadata != self.metadata:
            socket.close()
            raise make_another_server_error(self.address)
        self.metadata = metadata
        self._is_known = True
        return socket

    def _connect(self, limit_s: float) -> ClientConnection:
        begin_s = time.monotonic()
        while True:
            try:
                return connect(
                    self.address,
                    compression=None,
                    max_size=self.limits.frame_bytes,
                    ping_interval=None,
                    open_timeout=self.limits.greeting_s,
                    close_timeout=1.0,
                    proxy=None,
                )
            except ConnectionRefusedError as error:
                if time.monotonic() < begin_s + limit_s:
                    time.sleep(_RETRY_EVERY_S)
                    continue
                got = f"no process that listens there, for {limit_s:g} s"
                hint = "Start the server first, and check host and port."
                raise self._error("a server", got, hint) from error
            # websockets fails an assertion of its own if the server closes while it sends.
            except (WebSocketException, OSError, AssertionError) as error:
                if time.monotonic() < begin_s + self.limits.ending_s:
                    time.sleep(_RETRY_EVERY_S)
                    continue
                hint = "Check host and port: it may be a server of another protocol."
                raise self._error("a websocket", describe_error(error), hint) from error

    def _receive(self, socket: ClientConnection, limit_s: float, what: str) -> dict[str, Any]:
        """Return the next message of the server, or close the connection.

        Raises:
            ConnectionClosed: the connection broke.
            ServerError: there is no message in time, or none of this protocol.
        """
        with ExitStack() as on_failure:
            on_failure.callback(socket.close)
            try:
                frame = socket.recv(timeout=limit_s)
            except TimeoutError as error:
                raise self._error(f"{what} within {limit_s:g} s", "none") from error
            except ConnectionClosed as error:
                if error.sent is None or error.sent.code != CloseCode.MESSAGE_TOO_BIG:
                    raise
                most = f"{what} of at most {self.limits.frame_bytes / 2**20:g} MiB"
                raise self._error(most, "a larger one") from error
            message = self._read(frame, what)
            on_failure.pop_all()
        return message

    def _read(self, frame: str | bytes, what: str) -> dict[str, Any]:
        """Return what a message says. Servers of openpi send their errors as text."""
        if isinstance(frame, str):
            lines = frame.strip().splitlines() or ["an empty text"]
            raise self._error(what, f"an error of the server: {describe_error(lines[-1])}")
        try:
            message = unpack(frame)
        except CodecError as error:
            raise self._error(f"{what} in msgpack", str(error), _WHICH_PROTOCOL) from error
        if not isinstance(message, dict):
            raise self._error(f"{what} that is a map", f"a {type(message).__name__}")
        return message

    def _error(self, expected: str, got: str, hint: str = "") -> ServerError:
        return ServerError(f"policy server {self.address}", expected=expected, got=got, hint=hint)
