"""Read from a checkpoint's config.json in how many ways it can plan, before the network is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# These denoise their plans, see `policies.lerobot_policy.DENOISED`.
FLOW_TYPES = ("smolvla", "pi0", "pi05", "xvla", "groot")
_STOCHASTIC_TYPES = (*FLOW_TYPES, "diffusion", "vqbet", "tdmpc", "gaussian_actor")


@dataclass(frozen=True)
class PlanKinds:
    """The attributes of `policies.policy.PolicySpec` of the same names."""

    type: str
    checkpoint: str
    stochastic: bool
    can_sample: bool
    drafts: Literal["none", "flow", "ensemble"]


def read_plan_kinds(settings: Mapping[str, Any], checkpoint: str) -> PlanKinds:
    """Return how a policy can plan.

    Args:
        settings: of config.json; those that it lacks have lerobot's defaults.
        checkpoint: its name, for messages.
    """
    policy_type = settings["type"]
    is_ensembling = settings.get("temporal_ensemble_coeff") is not None
    samples_latent = policy_type == "act" and settings.get("use_vae", True) and not is_ensembling
    is_stochastic = policy_type in _STOCHASTIC_TYPES or settings.get("temperature", 0.0) > 0
    return PlanKinds(
        type=policy_type,
        checkpoint=checkpoint,
        stochastic=is_stochastic,
        can_sample=is_stochastic or samples_latent or policy_type == "pi0_fast",
        drafts="flow" if policy_type in FLOW_TYPES else "ensemble" if is_ensembling else "none",
    )
