"""Connects to the policy behind `--server`."""

from policies.config import PolicyConfig
from policies.policy import Policy
from policies.registry import REMOTE_NAME
from policies.remote.addresses import is_zmq
from policies.remote.connection import Connection
from policies.remote.remote_policy import RemotePolicy
from policies.remote.served_policy import ServedPolicy, is_own_server
from policies.remote.server_flags import check_server_flags
from policies.remote.wires import load_wire, shipped_wires
from sim.errors import WhiskerError
from sim.spec import EnvSpec

_ZMQ_PROTOCOL = "gr00t"


def load_remote_policy(address: str | None, wire_name: str | None, env: EnvSpec) -> Policy:
    """Connect to a policy server.

    Args:
        address: the value of --server.
        wire_name: the value of --wire.
        env: the environment that the policy acts in.

    Raises:
        WhiskerError: a flag is missing, or there is no such server.
    """
    check_server_flags(PolicyConfig(REMOTE_NAME, server=address, wire=wire_name))
    assert address is not None
    if wire_name is not None:
        _check_protocol(address, wire_name)
    if is_zmq(address):
        from policies.remote.zmq_connection import ZmqConnection

        if wire_name is None:
            raise _make_missing_wire_error(address)
        return RemotePolicy(ZmqConnection(address), wire_name, env)
    connection = Connection(address)
    if is_own_server(connection):
        _refuse_wire(wire_name)
        return ServedPolicy(connection)
    if wire_name is None:
        raise _make_missing_wire_error(address)
    return RemotePolicy(connection, wire_name, env)


def _check_protocol(address: str, wire_name: str) -> None:
    """Raise for a wire of another kind of server than the address names."""
    protocol = load_wire(wire_name).protocol
    if (protocol == _ZMQ_PROTOCOL) != is_zmq(address):
        scheme = "tcp" if protocol == _ZMQ_PROTOCOL else "ws"
        raise WhiskerError(
            f"--wire {wire_name}",
            expected=f"a server at {scheme}://HOST:PORT, since it is of {protocol}'s protocol",
            got=f"--server {address}",
        )


def _make_missing_wire_error(address: str) -> WhiskerError:
    fitting = []
    for name in shipped_wires():
        if (load_wire(name).protocol == _ZMQ_PROTOCOL) == is_zmq(address):
            fitting.append(name)
    return WhiskerError(
        f"policy server {address}",
        expected=f"--wire {'|'.join(fitting)}, or a TOML file of your own",
        got="none",
        hint="The server does not say under which keys it looks for images and state.",
    )


def _refuse_wire(wire_name: str | None) -> None:
    """Raise for a wire to `whisker-serve`, which says by itself what its policy reads."""
    if wire_name is not None:
        raise WhiskerError(
            f"--wire {wire_name}",
            expected="none for whisker-serve, which says what its policy reads",
            got=wire_name,
            hint="Leave --wire out.",
        )
