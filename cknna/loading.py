"""Loads a policy with the hooks that capture its features."""

from cknna.config import HookConfig
from cknna.hooks import FeatureHook
from policies.checkpoint_files import open_checkpoint
from policies.config import PolicyConfig
from policies.device import check_device
from policies.loading import find_loader, find_policy_name, load_policy
from policies.policy import HookablePolicy
from sim.errors import WhiskerError


def load_hooked(named: PolicyConfig, hook: HookConfig) -> tuple[HookablePolicy, FeatureHook]:
    """Return a policy, and what listens to it.

    Raises:
        WhiskerError: the policy has no network, it cannot be loaded, or it has no such module.
    """
    name = find_policy_name(named)
    if find_loader(name).made_from != "files":
        raise WhiskerError(
            f"policy {name!r}",
            expected="a policy with a network, of a lerobot type",
            got="one without",
        )
    checkpoint = open_checkpoint(name, named.checkpoint, trust_remote_code=named.trust_remote_code)
    check_device(named.device)
    policy = load_policy(
        name,
        checkpoint=checkpoint,
        device=named.device,
    )
    assert isinstance(policy, HookablePolicy)
    return policy, FeatureHook(policy, hook.modules, hook.pool)
