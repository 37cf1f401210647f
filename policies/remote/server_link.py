"""Defines what the connections to all kinds of policy servers share: interface, limits, error."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sim.errors import WhiskerError

N_RECONNECTIONS = 3
_MOST_CHARACTERS = 300


class ServerError(WhiskerError):
    """A policy server is not there, does not answer in time, or answers something else.

    At the start of a command it ends the command. Within an episode it becomes the episode's error.
    """


@dataclass(frozen=True)
class Limits:
    """How long a server may take [s], and how much it may send.

    Attributes:
        connect_s: until it listens. A server that is still loading refuses connections.
        greeting_s: for the handshake, and then for the message that it begins with. A server may do
            neither while it plans for another client.
        first_reply_s: for the first plan, for which some servers compile their model.
        reply_s: for each further plan.
        reconnect_s: until it listens again after the connection broke.
        ending_s: in which a server that ends may still close each new connection. After it, one
            that closes them is of another protocol.
        frame_bytes: the largest message.
    """

    connect_s: float = 30.0
    greeting_s: float = 60.0
    first_reply_s: float = 600.0
    reply_s: float = 60.0
    reconnect_s: float = 5.0
    ending_s: float = 2.0
    frame_bytes: int = 256 * 2**20


DEFAULT_LIMITS = Limits()


@runtime_checkable
class ServerLink(Protocol):
    """Sends requests to a server and returns its replies, one at a time.

    If the connection breaks, the same request is sent again over a new one.

    Attributes:
        address: as in ws://127.0.0.1:8000.
        metadata: what the server says of itself. It must stay the same.
    """

    address: str
    limits: Limits
    metadata: dict[str, Any]

    def ask(self, request: dict[str, Any], limit_s: float | None = None) -> Any:
        """Return the server's reply to a request.

        Args:
            limit_s: time for the reply. Default: `Limits.reply_s`.

        Raises:
            ServerError: there is none, or the server reports an error.
        """

    def close(self) -> None:
        """End the connection. The next request opens another one."""


def describe_error(error: object) -> str:
    """Return an error in one line of bounded length."""
    return " ".join(str(error).split()).rstrip(".")[:_MOST_CHARACTERS] or type(error).__name__


def make_another_server_error(address: str) -> ServerError:
    """Return the error for a server that says other things of itself than at the start."""
    return ServerError(
        f"policy server {address}",
        expected="the server that the run began with",
        got="another one: it says other things of itself",
        hint="Rows of two servers are not one result: start a new run.",
    )


def make_broken_error(address: str, error: Exception, hint: str) -> ServerError:
    """Return the error for a connection that breaks whenever a request is sent."""
    return ServerError(
        f"policy server {address}",
        expected="a reply",
        got=f"a connection that broke {1 + N_RECONNECTIONS} times ({describe_error(error)})",
        hint=hint,
    )
