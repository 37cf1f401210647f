"""Loads any policy by its name, from one table of loaders: a baseline, a lerobot type, or one of the user's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from policies.checkpoint_files import Checkpoint, open_checkpoint, read_config
from policies.checkpoint_lookup import find_checkpoint
from policies.config import PolicyConfig
from policies.policy import Policy, PolicySpec
from policies.registry import BASELINE_NAMES, LEROBOT_TYPES, OWN_GROUP, resolve_policy_name
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
    """Makes a policy of the user's own: what `--policy package.module:factory` names.

    `policies.simple_policy.SimplePolicy` is a base class for the policy.
    """

    def __call__(self, *, env: EnvSpec, checkpoint: str | None, device: str) -> Policy:
        """Make the policy.

        Args:
            env: the environment that it is to act in, which shows its own cameras at their own
                sizes. During the rollout it shows those, and in the sizes, that the policy asks for
                in `PolicySpec.image_sizes`.
            checkpoint: as `--checkpoint` has it; None: none was given.
            device: as `--device` has it: cpu, cuda, ... or auto, the GPU where there is one.
        """


@dataclass(frozen=True)
class Loader:
    """Makes the policies of one kind.

    Attributes:
        made_from: "env": an environment, whose cameras stay off. "files": a checkpoint of
            lerobot's, which is opened before there is an environment. "spec": what an environment
            declares, and a checkpoint of any kind.
        load: the policy from its name, the environment, the checkpoint and the device.
    """

    made_from: Literal["env", "files", "spec"]
    load: Callable[[str, Env | None, Checkpoint | str | None, str], Policy]


def find_policy_name(config: PolicyConfig) -> str:
    """Return the name of the policy: the one given, else the checkpoint's own type, else act.

    Raises:
        UnknownNameError: there is no such policy.
        WhiskerError: there is no such checkpoint.
    """
    if config.name is not None:
        return resolve_policy_name(config.name)
    if config.checkpoint is None:
        return "act"
    return read_config(find_checkpoint(config.checkpoint))["type"]


def find_loader(name: str) -> Loader:
    """Return the loader of a policy.

    Raises:
        UnknownNameError: with the closest names.
    """
    name = resolve_policy_name(name)
    return _BASELINE if name in BASELINE_NAMES else _LEROBOT if name in LEROBOT_TYPES else _OWN


def load_policy(
    name: str,
    env: Env | None = None,
    checkpoint: Checkpoint | str | None = None,
    device: str = "auto",
) -> Policy:
    """Load a policy. It speaks its own conventions: adapters come after it.

    Args:
        name: a baseline, a lerobot type, an entry point of the group `whisker.policies`, or an
            import string of one's own, `package.module:factory` (see `PolicyFactory`).
        env: where it is to act. A lerobot type needs none.
        checkpoint: one that was opened, or its name; None: the default of that name.
        device: cpu, cuda, ... or auto.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: it cannot be made.
    """
    name = resolve_policy_name(name)
    return find_loader(name).load(name, env, checkpoint, device)


def _load_baseline(
    name: str, env: Env | None, checkpoint: Checkpoint | str | None, device: str
) -> Policy:
    from policies.baselines import BASELINES

    del checkpoint, device
    return BASELINES[name](_present(name, env))


def _load_lerobot(
    name: str, env: Env | None, checkpoint: Checkpoint | str | None, device: str
) -> Policy:
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = open_checkpoint(name, checkpoint, env=None if env is None else env.spec.name)
    from policies.lerobot_loading import load_lerobot_policy

    return load_lerobot_policy(checkpoint, device)


def _load_own(
    name: str, env: Env | None, checkpoint: Checkpoint | str | None, device: str
) -> Policy:
    target = find_entry_points(OWN_GROUP).get(name, name)
    subject = f"--policy {name}" + (f" ({target}, an entry point)" if target != name else "")
    look_in_current_directory()
    factory = import_attribute(subject, target)
    given = checkpoint.name if isinstance(checkpoint, Checkpoint) else checkpoint
    policy = call_factory(
        subject, factory, env=_present(name, env).spec, checkpoint=given, device=device
    )
    _check_policy(subject, policy)
    return policy


def source_of(name: str) -> Path | None:
    """Return the file of a user's own policy, whose content can change a number; None for the package's own.

    The policy has been loaded.
    """
    return (
        source_file(find_entry_points(OWN_GROUP).get(name, name))
        if find_loader(name) is _OWN
        else None
    )


def _check_policy(subject: str, policy: object) -> None:
    """Raise unless a factory returned a policy that says what it is."""
    expected = "a factory that returns a policies.policy.Policy"
    if not isinstance(policy, Policy):
        lacking = [
            part for part in ("spec", "reset", "predict", "sample") if not hasattr(policy, part)
        ]
        got = f"{type(policy).__name__!r} without {', '.join(lacking)}"
        hint = "policies.simple_policy.SimplePolicy has all but `plan`."
        raise WhiskerError(subject, expected=expected, got=got, hint=hint)
    if not isinstance(policy.spec, PolicySpec):
        raise WhiskerError(
            subject, expected=f"{expected} with a PolicySpec", got=f"a spec {policy.spec!r}"
        )
    if not policy.spec.type.strip():
        raise WhiskerError(
            subject, expected="a policy whose spec names its type", got=repr(policy.spec.type)
        )


def _present(name: str, env: Env | None) -> Env:
    if env is None:
        raise WhiskerError(
            f"policy {name!r}", expected="an environment that it is made for", got="none"
        )
    return env


_BASELINE = Loader("env", _load_baseline)
_LEROBOT = Loader("files", _load_lerobot)
_OWN = Loader("spec", _load_own)
