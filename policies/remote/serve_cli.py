"""Command line of `whisker-serve`."""

import sys
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from policies.config import PolicyConfig
from policies.registry import BASELINE_NAMES, REMOTE_NAME
from sim.command_line import EXIT_DONE, run_command, say_progress
from sim.command_words import write_command
from sim.errors import WhiskerError

if TYPE_CHECKING:
    from policies.policy import Policy

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ServeConfig:
    """Serve a policy to `eval --server`, which may run in another environment of packages.

    Examples:
      ./run whisker-serve --policy act
      ./run eval --server ws://127.0.0.1:8000 --episodes 30

    It speaks openpi's websocket protocol. Plans are those that the policy makes without a server.
    Ctrl-C ends it.

    Attributes:
        policy: policy.
        host: address to listen at. Default: 127.0.0.1, for programs on this machine alone. 0.0.0.0
            lets every machine use the policy that reaches this one: there is no password.
        port: port to listen at; 0 takes a free one.
        env: environment that a policy of your own is made for. Other policies need none.
    """

    help_groups: ClassVar = {"where to listen": ("host", "port"), "rarely needed": ("env",)}
    policy: PolicyConfig = PolicyConfig()
    host: str = _LOOPBACK
    port: int = 8000
    env: str | None = None


def main() -> int:
    """Entry point of `whisker-serve`."""
    return run_command(_serve, ServeConfig, "whisker-serve")


def _serve(config: ServeConfig) -> int:
    _check_policy(config.policy)
    shown = config.policy.checkpoint or config.policy.name or "act"
    say_progress(f"whisker-serve: loading {shown}. The libraries take some seconds ...")
    from policies.remote.policy_server import PolicyServer
    from policies.remote.serving import open_server

    policy = _load(config)
    with open_server(PolicyServer(policy), config.host, config.port) as server:
        port = server.socket.getsockname()[1]
        host = _LOOPBACK if config.host in ("", "0.0.0.0") else config.host
        checkpoint = f" ({policy.spec.checkpoint})" if policy.spec.checkpoint else ""
        print(f"whisker-serve: {policy.spec.type}{checkpoint} at ws://{host}:{port}")
        print(
            f"Evaluate it: {write_command('eval', '--server', f'ws://{host}:{port}')}", flush=True
        )
        server.serve_forever()
    return EXIT_DONE


def _check_policy(named: PolicyConfig) -> None:
    """Raise for a policy that cannot be served."""
    if named.name == REMOTE_NAME or named.server is not None or named.wire is not None:
        raise WhiskerError(
            "whisker-serve",
            expected="a policy that this process runs",
            got="one behind another server",
            hint="Leave --server and --wire out.",
        )
    if named.name in BASELINE_NAMES:
        raise WhiskerError(
            f"whisker-serve --policy {named.name}",
            expected="a policy that plans from observations",
            got="a baseline, which belongs to its environment",
            hint="`eval` runs it without a server.",
        )


def _load(config: ServeConfig) -> "Policy":
    """Return the policy, loaded as `eval` does."""
    from policies.checkpoint_files import Checkpoint, open_checkpoint
    from policies.device import check_device
    from policies.loading import find_loader, find_policy_name, load_policy
    from policies.native.native_checkpoint import open_native_checkpoint
    from sim.registry import make_env

    named = config.policy
    name = find_policy_name(named)
    checkpoint: Checkpoint | str | None = named.checkpoint
    if find_loader(name).made_from == "files":
        checkpoint = open_checkpoint(
            name, named.checkpoint, trust_remote_code=named.trust_remote_code, env=config.env
        )
        check_device(named.device)
        return load_policy(name, checkpoint=checkpoint, device=named.device)
    native = None
    if find_loader(name).made_from == "native":
        native = open_native_checkpoint(replace(named, name=name))
        check_device(named.device)
    if config.env is None:
        raise WhiskerError(
            f"whisker-serve --policy {name}",
            expected="the environment that it is made for, e.g. --env so101/pick_place",
            got="none",
        )
    with closing(make_env(config.env)) as env:
        return load_policy(name, env, native or named.checkpoint, named.device)


if __name__ == "__main__":
    sys.exit(main())
