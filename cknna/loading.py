"""Loads a policy with the hooks that capture its features."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cknna.config import HookConfig
from cknna.hooks import FeatureHook
from policies.adapters import Adapters
from policies.checkpoint_files import Checkpoint, open_checkpoint
from policies.config import PolicyConfig
from policies.device import check_device
from policies.loading import find_loader, find_policy_name, load_policy
from policies.native.native_checkpoint import NativeCheckpoint, open_native_checkpoint
from policies.policy import HookablePolicy
from policies.xvla_conventions import adopt_poses, plans_poses
from sim.errors import WhiskerError


@dataclass(frozen=True)
class Shown:
    """Says what a policy is shown, as far as its processors depend on it.

    Attributes:
        env_name: where the observations were recorded; "" if that is not known.
        has_tool_rotation: they hold the rotation of the tool.
        camera_map: the recording's camera → the policy's name of it.
    """

    env_name: str = ""
    has_tool_rotation: bool = False
    camera_map: Mapping[str, str] = field(default_factory=dict)


def load_hooked(
    named: PolicyConfig,
    hook: HookConfig,
    shown: Shown | None = None,
) -> tuple[HookablePolicy, FeatureHook]:
    """Return a policy, and what listens to it.

    Args:
        shown: what the policy will be shown; None: nothing that was recorded.

    Raises:
        WhiskerError: the policy has no network, it cannot be loaded, it has no such module, or the
            recording lacks what it reads.
    """
    name = find_policy_name(named)
    adopts_poses = False
    made_from = find_loader(name).made_from
    checkpoint: Checkpoint | NativeCheckpoint
    if made_from == "files":
        trusts = named.trust_remote_code
        checkpoint = open_checkpoint(name, named.checkpoint, trust_remote_code=trusts)
        adopts_poses = shown is not None and _reads_poses(checkpoint, name, shown)
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
    if adopts_poses:
        assert shown is not None
        policy = adopt_poses(policy, Adapters(camera_map=shown.camera_map))
    return policy, FeatureHook(policy, hook.modules, hook.pool)


def _reads_poses(checkpoint: Checkpoint, name: str, shown: Shown) -> bool:
    """Return whether the policy needs the processors that `lerobot-eval` gives it where that was.

    Raises:
        WhiskerError: the recording lacks what they read.
    """
    if not shown.env_name or not plans_poses(checkpoint, shown.env_name, "absolute"):
        return False
    if not shown.has_tool_rotation:
        raise WhiskerError(
            f"recording for policy {name!r} ({checkpoint.name})",
            expected="observations with the tool's rotation, which this policy reads in LIBERO",
            got="none",
            hint="Record them with eval --control absolute --record-observations.",
        )
    return True
