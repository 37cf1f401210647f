"""Read from a checkpoint's config.json in how many ways it can plan, before the network is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from policies.lerobot_types import LEROBOT_TYPES


@dataclass(frozen=True)
class PlanKinds:
    """The attributes of `policies.policy.PolicySpec` of the same names."""

    type: str
    checkpoint: str
    stochastic: bool
    can_sample: bool
    intermediate_plans: Literal["none", "flow", "ensemble"]


def read_plan_kinds(settings: Mapping[str, Any], checkpoint: str) -> PlanKinds:
    """Return how a policy can plan.

    Args:
        settings: of config.json; those that it lacks have lerobot's defaults.
        checkpoint: its name, for messages.
    """
    row = LEROBOT_TYPES[settings["type"]]
    is_ensembling = settings.get("temporal_ensemble_coeff") is not None
    samples_latent = row.samples_latent and settings.get("use_vae", True) and not is_ensembling
    is_stochastic = row.draws or settings.get("temperature", 0.0) > 0
    return PlanKinds(
        type=settings["type"],
        checkpoint=checkpoint,
        stochastic=is_stochastic,
        can_sample=is_stochastic or samples_latent or row.samples_tokens,
        intermediate_plans="flow" if row.denoising else "ensemble" if is_ensembling else "none",
    )
