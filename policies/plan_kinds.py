"""Read from config.json which kinds of plans a policy can make, without loading its network."""

from dataclasses import dataclass
from typing import Literal

from policies.lerobot_types import LEROBOT_TYPES, Settings


@dataclass(frozen=True)
class PlanKinds:
    """Fields of `policies.policy.PolicySpec` with the same names."""

    type: str
    checkpoint: str
    stochastic: bool
    can_sample: bool
    intermediate_plans: Literal["none", "flow", "ensemble"]


def read_plan_kinds(settings: Settings, checkpoint: str) -> PlanKinds:
    """Return the kinds of plans that a policy can make.

    Args:
        settings: the content of config.json; missing settings have lerobot's defaults.
        checkpoint: its name, for messages.
    """
    policy_type = settings["type"]
    row = LEROBOT_TYPES[policy_type]
    is_ensembling = settings.get("temporal_ensemble_coeff") is not None
    samples_latent = row.samples_latent and settings.get("use_vae", True) and not is_ensembling
    is_stochastic = row.draws or settings.get("temperature", 0.0) > 0
    intermediate_plans: Literal["none", "flow", "ensemble"] = "none"
    if row.denoising:
        intermediate_plans = "flow"
    elif is_ensembling:
        intermediate_plans = "ensemble"
    return PlanKinds(
        type=policy_type,
        checkpoint=checkpoint,
        stochastic=is_stochastic,
        can_sample=is_stochastic or samples_latent or row.samples_tokens,
        intermediate_plans=intermediate_plans,
    )
