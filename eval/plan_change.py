"""Measures how far a policy's new plan is from what is left of its last one."""

import numpy as np
from jaxtyping import Float, Float32

from eval.series import SoFar


def compute_plan_change(
    previous: Float32[np.ndarray, "_horizon action_dim"],
    plan: Float32[np.ndarray, "horizon action_dim"],
    n_since: int,
    span: Float[np.ndarray, " action_dim"],
) -> float:
    """Return the distance of a plan to the one before, over the control steps that both have an action for.

        1/n Σⱼ √( 1/D Σᵢ ((planⱼᵢ - previousₖ₊ⱼ,ᵢ) / spanᵢ)² ),   j = 0 … n - 1,   n = min(H, H' - k)

    with D action dimensions, horizons H of the plan and H' of the previous, and k control steps
    between the two. It is 1 where every action is off by the whole of its range. nan where the two
    share no step, as when every plan is executed to its end; a dimension whose span is 0 or
    infinite counts nowhere, and without any other it is nan.

    Unlike `viz.plan_quality.PlanQuality.change_m` it needs no simulation, and sees the gripper.

    Args:
        n_since: k.
        span: of each dimension, in its unit.
    """
    left = previous[n_since:]
    n_shared = min(len(plan), len(left))
    is_bounded = np.isfinite(span) & (span > 0)
    if not n_shared or not is_bounded.any():
        return np.nan
    difference = (plan[:n_shared].astype(np.float64) - left[:n_shared])[:, is_bounded] / span[
        is_bounded
    ]
    return float(np.sqrt((difference**2).mean(axis=1)).mean())


def plan_change_so_far(so_far: SoFar) -> float:
    """Return the last prediction's `compute_plan_change`; nan for the first of an episode."""
    if len(so_far.plans) < 2:
        return np.nan
    action, (before, now) = so_far.env.spec.action, so_far.prediction_steps[-2:]
    span = np.subtract(action.high, action.low, dtype=np.float64)
    return compute_plan_change(so_far.plans[-2], so_far.plans[-1], now - before, span)
