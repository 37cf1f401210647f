"""Loads a policy with the hooks that capture its features."""

from dataclasses import replace

from cknna.config import HookConfig
from cknna.hooks import FeatureHook
from policies.checkpoint_files import Checkpoint, open_checkpoint
from policies.config import PolicyConfig
from policies.device import check_device
from policies.loading import find_loader, find_policy_name, load_policy
from policies.native.native_checkpoint import NativeCheckpoint, open_native_checkpoint
from policies.policy import HookablePolicy
from sim.errors import WhiskerError


def load_hooked(named: PolicyConfig, hook: HookConfig) -> tuple[HookablePolicy, FeatureHook]:
    """Return a policy, and what listens to it.

    Raises:
        WhiskerError: the policy has no network, it cannot be loaded, or it has no such module.
    """
    name = find_policy_name(named)
    made_from = find_loader(name).made_from
    checkpoint: Checkpoint | NativeCheckpoint
    if made_from == "files":
        trusts = named.trust_remote_code
        checkpoint = open_checkpoint(name, named.checkpoint, trust_remote_code=trusts)
    elif made_from == "native":
        checkpoint = open_native_checkpoint(replace(named, name=name))
    else:
        raise WhiskerError(
            f"policy {name!r}",
            expected="a policy with a network, of a lerobot type",
            got="one without",
        )
    check_device(named.device)
    policy = load_policy(
        name,
        checkpoint=checkpoint,
        device=named.device,
    )
    assert isinstance(policy, HookablePolicy)
    return policy, FeatureHook(policy, hook.modules, hook.pool)
