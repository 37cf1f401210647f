"""A connection to a policy server: one websocket, which is opened again when it breaks."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from policies.remote.codec import CodecError, pack, unpack
from sim.errors import WhiskerError

_N_RECONNECTIONS = 3
_RETRY_EVERY_S = 0.2
_MOST_CHARACTERS = 300
# Scheme of an address → why Whisker does not speak the protocol behind it.
_OTHER_PROTOCOLS = {
    "grpc": "lerobot's policy server sends pickles, with which either side can run code on the "
    "other: serve the checkpoint with `whisker-serve`.",
    "tcp": "GR00T's server speaks a protocol of its own over ZMQ, which Whisker does not know.",
}
_WHICH_PROTOCOL = "Is it a server of openpi's protocol?"


class ServerError(WhiskerError):
    """A policy server is not there, does not answer in time, or answers something else.

    At the start of a command it ends the command. Within an episode it becomes the episode's error.
    """


@dataclass(frozen=True)
class Limits:
    """How long a server may take [s], and how much it may send.

    Attributes:
        connect_s: until it listens. A server that is still loading refuses connections.
        greeting_s: for the handshake, and then for the message that it begins with. openpi's server
            does neither while it plans for another client.
        first_reply_s: for the first plan, for which some servers compile their model.
        reply_s: for each further plan.
        reconnect_s: until it listens again after the connection broke.
        frame_bytes: the largest message.
    """

    connect_s: float = 30.0
    greeting_s: float = 60.0
    first_reply_s: float = 600.0
    reply_s: float = 60.0
    reconnect_s: float = 5.0
    frame_bytes: int = 256 * 2**20


DEFAULT_LIMITS = Limits()


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
        for _ in range(1 + _N_RECONNECTIONS):
            try:
                return self._exchange(frame, limit_s)
            except (ConnectionClosed, OSError) as error:
                broken: Exception = error
        raise self._error(
            "a reply",
            f"a connection that broke {1 + _N_RECONNECTIONS} times ({_describe(broken)})",
            "Its own log says why.",
        ) from broken

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
            got = f"a connection that broke ({_describe(error)})"
            raise self._error("a first message", got, _WHICH_PROTOCOL) from error
        if self._is_known and metadata != self.metadata:
            socket.close()
            raise self._error(
                "the server that the run began with",
                "another one: it says other things of itself",
                "Rows of two servers are not one result: start a new run.",
            )
        self.metadata = metadata
        self._is_known = True
        return socket

    def _connect(self, limit_s: float) -> ClientConnection:
        end_s = time.monotonic() + limit_s
        has_failed = False
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
                if time.monotonic() < end_s:
                    time.sleep(_RETRY_EVERY_S)
                    continue
                got = f"no process that listens there, for {limit_s:g} s"
                hint = "Start the server first, and check host and port."
                raise self._error("a server", got, hint) from error
            # websockets fails an assertion of its own if the server closes while it sends.
            except (WebSocketException, OSError, AssertionError) as error:
                if not has_failed:
                    has_failed = True  # at a server that ends just now, or one of another kind
                    time.sleep(_RETRY_EVERY_S)
                    continue
                hint = "Check host and port: it may be a server of another protocol."
                raise self._error("a websocket", _describe(error), hint) from error

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
            raise self._error(what, f"an error of the server: {lines[-1][:_MOST_CHARACTERS]}")
        try:
            message = unpack(frame)
        except CodecError as error:
            raise self._error(f"{what} in msgpack", str(error), _WHICH_PROTOCOL) from error
        if not isinstance(message, dict):
            raise self._error(f"{what} that is a map", f"a {type(message).__name__}")
        return message

    def _error(self, expected: str, got: str, hint: str = "") -> ServerError:
        return ServerError(f"policy server {self.address}", expected=expected, got=got, hint=hint)


def check_address(address: str) -> None:
    """Raise unless an address names a websocket, as in ws://127.0.0.1:8000."""
    scheme = ""
    try:
        parts = urlsplit(address)
        scheme = parts.scheme
        is_address = scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_address = False
    if not is_address:
        raise WhiskerError(
            f"--server {address}",
            expected="ws://HOST:PORT or wss://HOST:PORT, e.g. ws://127.0.0.1:8000",
            got="another kind of address",
            hint=_OTHER_PROTOCOLS.get(scheme, ""),
        )


def _describe(error: Exception) -> str:
    """Return an error in one line."""
    return " ".join(str(error).split()).rstrip(".")[:_MOST_CHARACTERS] or type(error).__name__
