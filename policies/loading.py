"""Load any policy by its name: a baseline, a lerobot type, a server's, or one of the user's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from policies.checkpoint_files import Checkpoint, open_checkpoint, read_config
from policies.checkpoint_lookup import find_checkpoint
from policies.config import PolicyConfig
from policies.lean_lerobot import lean_lerobot, load_all
from policies.native.native_checkpoint import (
    NativeCheckpoint,
    check_dtype,
    find_native_type,
    open_native_checkpoint,
)
from policies.native.native_types import NATIVE_TYPES
from policies.policy import Policy, PolicySpec
from policies.registry import (
    BASELINE_NAMES,
    ENTRY_POINT_GROUP,
    LEROBOT_TYPES,
    REMOTE_NAME,
    resolve_policy_name,
)
from policies.remote.server_flags import check_server_flags
from sim.env import Env
from sim.errors import WhiskerError
from sim.spec import EnvSpec
from sim.user_code import (
    call_factory,
    find_entry_points,
    import_attribute,
    look_in_current_directory,
    source_file,
)


class PolicyFactory(Protocol):
    """Makes a policy of the user's own, as named by `--policy package.module:factory`.

    `policies.simple_policy.SimplePolicy` is a base class for such policies.
    """

    def __call__(self, *, env: EnvSpec, checkpoint: str | None, device: str) -> Policy:
        """Make the policy.

        Args:
            env: the environment that the policy acts in, with all its cameras at their own sizes.
                During the rollout it renders the cameras and sizes that the policy declares in
                `PolicySpec.image_sizes`.
            checkpoint: the value of `--checkpoint`; None if the option is not given.
            device: the value of `--device`: cpu, cuda, ... or auto, which is the GPU if there is
                one.
        """


@dataclass(frozen=True)
class Loader:
    """Tells how the policies of one kind are made.

    Attributes:
        made_from: "env": an environment, whose cameras are not used. "files": a checkpoint in
            lerobot's format, which is opened before the environment is made. "spec": the spec of an
            environment, and a checkpoint of any kind. "native": a checkpoint that is not of
            lerobot, and the spec of an environment if there is one. "server": the spec of an
            environment, and a server that runs the policy.
    """

    made_from: Literal["env", "files", "spec", "native", "server"]


def find_policy_name(config: PolicyConfig) -> str:
    """Return the name of the policy: the one given, else the checkpoint's own type, else act.

    Raises:
        UnknownNameError: there is no such policy.
        WhiskerError: there is no such checkpoint, or a server is named for a policy without one.
    """
    check_server_flags(config)
    name = _find_name(config)
    check_dtype(name, config.dtype)
    return name


def _find_name(config: PolicyConfig) -> str:
    if config.server is not None:
        return REMOTE_NAME
    if config.name is not None:
        return resolve_policy_name(config.name)
    if config.checkpoint is None:
        return "act"
    native = find_native_type(config.checkpoint)
    return native or read_config(find_checkpoint(config.checkpoint))["type"]


def find_loader(name: str) -> Loader:
    """Return the loader of a policy.

    Raises:
        UnknownNameError: no policy has that name; the message lists the closest names.
    """
    name = resolve_policy_name(name)
    if name in BASELINE_NAMES:
        return Loader("env")
    if name == REMOTE_NAME:
        return Loader("server")
    if name in NATIVE_TYPES:
        return Loader("native")
    return Loader("files" if name in LEROBOT_TYPES else "spec")


def load_policy(
    name: str,
    env: Env | None = None,
    checkpoint: Checkpoint | NativeCheckpoint | str | None = None,
    device: str = "auto",
    server: str | None = None,
    wire: str | None = None,
) -> Policy:
    """Load a policy in its own conventions, without adapters.

    Args:
        name: a baseline, a lerobot type, a native type, `REMOTE_NAME`, an entry point of the group
            `whisker.policies`, or an import string `package.module:factory` (see `PolicyFactory`).
        env: the environment that the policy acts in. A lerobot type and a native one need none.
        checkpoint: an opened checkpoint, or its name; None: the default for that policy.
        device: cpu, cuda, ... or auto.
        server: address of the server that `REMOTE_NAME` runs on.
        wire: what that server reads (`policies.remote.wires`).

    Raises:
        UnknownNameError: no policy has that name; the message lists the closest names.
        WhiskerError: the policy cannot be made.
    """
    name = resolve_policy_name(name)
    if name in LEROBOT_TYPES:
        if not isinstance(checkpoint, Checkpoint):
            env_name = None if env is None else env.spec.name
            asked = None if checkpoint is None else _name_of(checkpoint)
            checkpoint = open_checkpoint(name, asked, env=env_name)
        with lean_lerobot():
            from policies.lerobot_loading import load_lerobot_policy

        return load_lerobot_policy(checkpoint, device)
    if name in NATIVE_TYPES:
        if not isinstance(checkpoint, NativeCheckpoint):
            named = PolicyConfig(name, None if checkpoint is None else _name_of(checkpoint))
            checkpoint = open_native_checkpoint(named)
        factory = import_attribute(f"--policy {name}", NATIVE_TYPES[name].factory)
        return factory(None if env is None else env.spec, checkpoint, device)
    if name == REMOTE_NAME:
        from policies.remote.remote_loading import load_remote_policy

        return load_remote_policy(server, wire, _require_env(name, env).spec)
    if name not in BASELINE_NAMES:
        return _load_own(name, env, None if checkpoint is None else _name_of(checkpoint), device)
    from policies.baselines import BASELINES

    return BASELINES[name](_require_env(name, env))


def _load_own(
    name: str,
    env: Env | None,
    checkpoint: str | None,
    device: str,
) -> Policy:
    import_string = _find_import_string(name)
    subject = f"--policy {name}"
    if import_string != name:
        subject += f" ({import_string}, an entry point)"
    look_in_current_directory()
    load_all()  # this code may use more of lerobot than a policy loaded before it
    factory = import_attribute(subject, import_string)
    env_spec = _require_env(name, env).spec
    policy = call_factory(subject, factory, env=env_spec, checkpoint=checkpoint, device=device)
    _check_policy(subject, policy)
    return policy


def _name_of(checkpoint: Checkpoint | NativeCheckpoint | str) -> str:
    """Return the name of a checkpoint that may have been opened."""
    return checkpoint if isinstance(checkpoint, str) else checkpoint.name


def source_of(name: str) -> Path | None:
    """Return the source file of a user's own policy, whose content can change a number.

    Args:
        name: of a policy that has been loaded. The package's own policies give None.
    """
    if find_loader(name).made_from != "spec":
        return None
    return source_file(_find_import_string(name))


def _find_import_string(name: str) -> str:
    """Return the import string of an entry point; any other name is an import string itself."""
    return find_entry_points(ENTRY_POINT_GROUP).get(name, name)


def _check_policy(subject: str, policy: object) -> None:
    """Raise unless a factory returned a policy whose spec names its type."""
    expected = "a factory that returns a policies.policy.Policy"
    if not isinstance(policy, Policy):
        members = ("spec", "reset", "predict", "sample")
        missing = [member for member in members if not hasattr(policy, member)]
        got = f"{type(policy).__name__!r} without {', '.join(missing)}"
        hint = "The base class policies.simple_policy.SimplePolicy has all of it except `plan`."
        raise WhiskerError(subject, expected=expected, got=got, hint=hint)
    if not isinstance(policy.spec, PolicySpec):
        raise WhiskerError(
            subject,
            expected=f"{expected} with a PolicySpec",
            got=f"a spec {policy.spec!r}",
        )
    if not policy.spec.type.strip():
        raise WhiskerError(
            subject,
            expected="a policy whose spec names its type",
            got=repr(policy.spec.type),
        )


def _require_env(name: str, env: Env | None) -> Env:
    if env is None:
        raise WhiskerError(
            f"policy {name!r}",
            expected="an environment that it is made for",
            got="none",
        )
    return env
