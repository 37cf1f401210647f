"""Checks the flags that name a policy server, before anything is loaded."""

from policies.config import PolicyConfig
from policies.registry import REMOTE_NAME
from sim.errors import WhiskerError

_EXAMPLE = "--server ws://127.0.0.1:8000"


def check_server_flags(config: PolicyConfig) -> None:
    """Raise for flags of a server that contradict others, or that cannot be read."""
    if config.server is None:
        _check_no_server(config)
        return
    subject = f"--server {config.server}"
    if config.name not in (None, REMOTE_NAME):
        raise WhiskerError(
            subject,
            expected=f"--policy {REMOTE_NAME}, which may be left out",
            got=f"--policy {config.name}",
            hint="The server decides which policy it runs.",
        )
    if config.checkpoint is not None:
        raise WhiskerError(
            subject,
            expected="no --checkpoint",
            got=repr(config.checkpoint),
            hint="The server has loaded its own: give it to the command that starts the server.",
        )
    from policies.remote.addresses import check_address
    from policies.remote.wires import find_wire_file

    check_address(config.server)
    if config.wire is not None:
        find_wire_file(config.wire)


def _check_no_server(config: PolicyConfig) -> None:
    if config.wire is not None:
        raise WhiskerError(
            f"--wire {config.wire}",
            expected=f"the server that it describes, e.g. {_EXAMPLE}",
            got="none",
        )
    if config.name == REMOTE_NAME:
        raise WhiskerError(
            f"--policy {REMOTE_NAME}",
            expected=f"the address of its server, e.g. {_EXAMPLE}",
            got="none",
        )
