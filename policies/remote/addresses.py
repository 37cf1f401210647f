"""Checks the address of a policy server, and proposes one that can be read."""

from urllib.parse import urlsplit

from sim.errors import WhiskerError

_WEBSOCKET = "ws"
ZMQ = "tcp"
_SCHEMES = (_WEBSOCKET, "wss", ZMQ)
# Scheme of an address → why Whisker does not speak the protocol behind it.
_OTHER_PROTOCOLS = {
    "grpc": "lerobot's policy server sends pickles, with which either side can run code on the "
    "other: serve the checkpoint with `whisker-serve`.",
}


def check_address(address: str) -> None:
    """Raise unless an address names a server, as in ws://127.0.0.1:8000 or tcp://127.0.0.1:5555."""
    if _is_address(address):
        return
    scheme, separator, rest = address.rpartition("://")
    hint = _OTHER_PROTOCOLS.get(scheme, "")
    proposed = f"{_WEBSOCKET}://{rest}"
    got = "another kind of address"
    if not separator and _is_address(proposed):
        got = "an address without a protocol"
        hint = f"Give --server {proposed}, or --server {ZMQ}://{rest} if it is GR00T's server."
    raise WhiskerError(
        f"--server {address}",
        expected="ws://HOST:PORT, wss://HOST:PORT, or tcp://HOST:PORT for GR00T's server, e.g. "
        "ws://127.0.0.1:8000",
        got=got,
        hint=hint,
    )


def is_zmq(address: str) -> bool:
    """Return whether the server at an address speaks ZMQ instead of websocket."""
    return urlsplit(address).scheme == ZMQ


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        if parts.scheme == ZMQ:
            return bool(parts.hostname) and bool(parts.port) and not parts.path.strip("/")
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False
