"""A connection to GR00T's policy server: a ZMQ request socket, which is opened again if it breaks.

    request   {"endpoint": "get_action" or "get_modality_config", "data": {...}}
    reply     what the endpoint returns, or {"error": text}

Source: Isaac-GR00T, gr00t/policy/server_client.py (N1.6 and N1.7).
"""

import time
from typing import Any
from urllib.parse import urlsplit

from policies.remote.addresses import check_address
from policies.remote.codec import CodecError
from policies.remote.npy_codec import ArrayForm, pack, unpack
from policies.remote.server_link import (
    DEFAULT_LIMITS,
    N_RECONNECTIONS,
    Limits,
    ServerError,
    describe_error,
    make_another_server_error,
    make_broken_error,
)
from policies.remote.zmq_socket import (
    BrokenError,
    SilentError,
    UnreachableError,
    WrongProtocolError,
    ZmqSocket,
)

_DESCRIBE = {"endpoint": "get_modality_config"}
_METADATA = "modality_config"
# How a server that reads arrays of msgpack-numpy marks the parts of its description.
_IS_CONFIG = "__ModalityConfig__"
# GR00T's words for a key that is not there.
_MISSES_KEY = ("Observation must contain", "must be in observation")
_WHICH_KEYS = (
    "The keys of --wire must be the server's, and --use-sim-policy-wrapper changes those "
    "(docs/remote.md)."
)
_RETRY_EVERY_S = 0.2


class ZmqConnection:
    """Sends requests to GR00T's server, as `policies.remote.server_link.ServerLink` says.

    Attributes:
        metadata: what the server's policy reads and plans, as the server describes it.
    """

    def __init__(self, address: str, limits: Limits = DEFAULT_LIMITS) -> None:
        """Connect, and ask what the policy reads.

        Args:
            address: as in tcp://127.0.0.1:5555.

        Raises:
            WhiskerError: the address cannot be read.
            ServerError: there is no server of this protocol.
        """
        check_address(address)
        self.address = address
        self.limits = limits
        self.metadata: dict[str, Any] = {}
        self._form: ArrayForm = "npy"
        self._socket: ZmqSocket | None = self._open(limits.connect_s)

    def ask(self, request: dict[str, Any], limit_s: float | None = None) -> Any:
        frame = pack(request, self._form)
        limit_s = limit_s or self.limits.reply_s
        for _ in range(1 + N_RECONNECTIONS):
            socket = self._socket or self._open(self.limits.reconnect_s)
            self._socket = None
            try:
                reply = self._exchange(socket, frame, limit_s)
            except BrokenError as error:
                broken = error
                continue
            self._socket = socket
            return reply
        most = self.limits.frame_bytes / 2**20
        hint = f"Its own log says why. A reply of more than {most:g} MiB breaks it, too."
        raise make_broken_error(self.address, broken, hint) from broken

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self, limit_s: float) -> ZmqSocket:
        """Connect and ask the server what it is, which must be the same every time."""
        socket = self._connect(limit_s)
        try:
            described = self._exchange(socket, pack(_DESCRIBE), self.limits.greeting_s)
        except BrokenError as error:
            raise self._error("a first reply", f"none: {describe_error(error)}") from error
        if _is_of_n1_5(described):
            socket.close()
            raise self._error(
                "a server of GR00T N1.6 or later",
                "one of N1.5, which takes and returns all under other keys",
                "A policy of your own can ask it (docs/extending.md).",
            )
        metadata = {_METADATA: described}
        if self.metadata and metadata != self.metadata:
            socket.close()
            raise make_another_server_error(self.address)
        self.metadata = metadata
        self._form = "msgpack_numpy" if _reads_msgpack_numpy(described) else "npy"
        return socket

    def _connect(self, limit_s: float) -> ZmqSocket:
        parts = urlsplit(self.address)
        assert parts.hostname is not None
        assert parts.port is not None
        begin_s = time.monotonic()
        while True:
            try:
                socket = ZmqSocket(parts.hostname, parts.port, self.limits.frame_bytes)
                socket.wait_until_connected(self.limits.greeting_s)
                return socket
            except UnreachableError as error:
                if time.monotonic() < begin_s + limit_s:
                    time.sleep(_RETRY_EVERY_S)
                    continue
                got = f"{describe_error(error)}, for {limit_s:g} s"
                hint = "Start the server first, and check host and port."
                raise self._error("a server", got, hint) from error
            except (BrokenError, WrongProtocolError, SilentError) as error:
                # A server that ends closes connections for a moment, and then nobody listens.
                is_ending = isinstance(error, BrokenError)
                if is_ending and time.monotonic() < begin_s + self.limits.ending_s:
                    time.sleep(_RETRY_EVERY_S)
                    continue
                hint = "Check host and port: it may be a server of another protocol."
                raise self._error("a ZMQ server", describe_error(error), hint) from error

    def _exchange(self, socket: ZmqSocket, frame: bytes, limit_s: float) -> Any:
        """Send a request and return the reply. Without one, the socket is closed.

        Raises:
            BrokenError: the connection broke.
            ServerError: there is no reply in time, or none of this protocol.
        """
        is_answered = False
        try:
            reply = self._read(socket.exchange(frame, limit_s))
            is_answered = True
        except SilentError as error:
            raise self._error(f"a reply within {limit_s:g} s", "none") from error
        except WrongProtocolError as error:
            raise self._error("a reply of one part", describe_error(error)) from error
        finally:
            if not is_answered:
                socket.close()
        return reply

    def _read(self, frame: bytes) -> Any:
        try:
            reply = unpack(frame)
        except CodecError as error:
            hint = "Is it the server of GR00T N1.6 or later?"
            raise self._error("a reply in msgpack", str(error), hint) from error
        if isinstance(reply, dict) and "error" in reply:
            said = describe_error(reply["error"])
            hint = _WHICH_KEYS if any(words in said for words in _MISSES_KEY) else ""
            raise self._error("a reply", f"an error of the server: {said}", hint)
        return reply

    def _error(self, expected: str, got: str, hint: str = "") -> ServerError:
        return ServerError(f"policy server {self.address}", expected=expected, got=got, hint=hint)


def _is_of_n1_5(described: object) -> bool:
    """Return whether a server describes its cameras as N1.5 does: in JSON, as "video.<name>"."""
    video = described.get("video") if isinstance(described, dict) else None
    text = video.get("as_json") if isinstance(video, dict) else None
    return isinstance(text, str) and '"video.' in text


def _reads_msgpack_numpy(described: object) -> bool:
    """Return whether a server describes itself as those do that read arrays in that form."""
    parts = described.values() if isinstance(described, dict) else ()
    return any(isinstance(part, dict) and _IS_CONFIG in part for part in parts)
