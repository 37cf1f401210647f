"""A ZMQ request socket that tells whether its server is there.

ZMQ itself would connect whenever a server appears, also to another one than before, and let a
request wait for its reply for ever. So it may connect once, and its events are watched.
"""

import socket
import time

import zmq
from zmq.utils.monitor import recv_monitor_message

_NOT_OF_ZMQ = (zmq.Event.HANDSHAKE_FAILED_PROTOCOL, zmq.Event.HANDSHAKE_FAILED_AUTH)
# The peer closed the connection within the handshake; events of both names tell it.
_CLOSED_EARLY = (zmq.Event.HANDSHAKE_FAILED_NO_DETAIL, zmq.Event.DISCONNECTED)
_NEVER_AGAIN = -1
# Sockets that nobody has closed yet. The garbage collector must not end their contexts: that waits
# for the sockets of the context, which it would end later.
_OPEN: set["ZmqSocket"] = set()


class UnreachableError(Exception):
    """Nobody listens at the address."""


class BrokenError(Exception):
    """The server ended the connection."""


class WrongProtocolError(Exception):
    """The server is no ZMQ server, or replies otherwise than GR00T's."""


class SilentError(Exception):
    """The server said nothing in time."""


class ZmqSocket:
    """One request and its reply at a time, with one server."""

    def __init__(self, host: str, port: int, most_bytes: int) -> None:
        """Begin to connect.

        Args:
            most_bytes: a larger message, or part of one, ends the connection.

        Raises:
            UnreachableError: there is no host of that name.
        """
        try:
            socket.getaddrinfo(host, port)
        except OSError as error:
            raise UnreachableError(f"no host of that name ({error})") from error
        self._context = zmq.Context()
        _OPEN.add(self)
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, most_bytes)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _NEVER_AGAIN)
        self._events = self._socket.get_monitor_socket()
        name = f"[{host}]" if ":" in host else host
        self._socket.connect(f"tcp://{name}:{port}")

    def wait_until_connected(self, limit_s: float) -> None:
        """Wait for the server's handshake, or close the socket.

        Raises:
            UnreachableError: nobody listens there.
            BrokenError: it ended the connection.
            WrongProtocolError: it is no ZMQ server.
            SilentError: it says nothing.
        """
        try:
            self._wait_until_connected(limit_s)
        except Exception:
            self.close()
            raise

    def exchange(self, frame: bytes, limit_s: float) -> bytes:
        """Send a request and return the reply.

        Raises:
            BrokenError: the server ended the connection.
            WrongProtocolError: the reply has several parts. Each has a limit of bytes, but ZMQ
                gathers all of them before it shows the first: only `limit_s` bounds their number.
            SilentError: there is no reply in time.
        """
        try:
            self._socket.send(frame, zmq.NOBLOCK)
        except zmq.Again as error:
            raise BrokenError("it closed the connection") from error
        end_s = time.monotonic() + limit_s
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._events, zmq.POLLIN)
        while (left_s := end_s - time.monotonic()) > 0:
            ready = dict(poller.poll(_to_ms(left_s)))
            if self._socket in ready:
                reply = self._socket.recv()
                if self._socket.getsockopt(zmq.RCVMORE):
                    raise WrongProtocolError("one of several parts")
                return reply
            if self._events in ready and self._next_event() == zmq.Event.DISCONNECTED:
                raise BrokenError("it closed the connection")
        raise SilentError(f"nothing within {limit_s:g} s")

    def close(self) -> None:
        """End the connection at once."""
        self._socket.disable_monitor()
        self._context.destroy(linger=0)
        _OPEN.discard(self)

    def _wait_until_connected(self, limit_s: float) -> None:
        is_listening = False
        end_s = time.monotonic() + limit_s
        while (left_s := end_s - time.monotonic()) > 0:
            if not self._events.poll(_to_ms(left_s)):
                break
            event = self._next_event()
            if event == zmq.Event.HANDSHAKE_SUCCEEDED:
                return
            if event == zmq.Event.CONNECTED:
                is_listening = True
            elif event in _NOT_OF_ZMQ:
                raise WrongProtocolError("an answer that is not of ZMQ")
            elif event in _CLOSED_EARLY:
                raise BrokenError("one that closed the connection")
            elif event == zmq.Event.CLOSED and not is_listening:
                raise UnreachableError("no process that listens there")
        raise SilentError(f"no handshake within {limit_s:g} s")

    def _next_event(self) -> int:
        return recv_monitor_message(self._events)["event"]


def _to_ms(duration_s: float) -> int:
    """Return a duration in whole milliseconds, and at least one: with 0, ZMQ does not wait."""
    return int(duration_s * 1000) + 1
