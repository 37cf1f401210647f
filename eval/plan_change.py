"""Measures how far a policy's new plan is from the rest of its previous one."""

import numpy as np
from jaxtyping import Float, Float32

from eval.series import SoFar


def compute_plan_change(
    previous: Float32[np.ndarray, "_horizon action_dim"],
    plan: Float32[np.ndarray, "horizon action_dim"],
    n_since: int,
    span: Float[np.ndarray, " action_dim"],
) -> float:
    """Return the distance of a plan to the previous one, over the steps that both plan.

        1/n Σⱼ √( 1/D Σᵢ ((planⱼᵢ - previousₖ₊ⱼ,ᵢ) / spanᵢ)² ),  j = 0 … n - 1,  n = min(H, H' - k)

    with D action dimensions, horizons H of the plan and H' of the previous one, and k control steps
    between the two. It is 1 if every action is off by the whole of its range. It is nan if the two
    share no step, as when every plan is executed to its end. Dimensions whose span is 0 or infinite
    are left out, and without any other dimension the distance is nan.

    Unlike `viz.plan_quality.PlanQuality.change_m` it needs no simulation, and includes the gripper.

    Args:
        n_since: k.
        span: (action_dim,) range of each dimension, in its unit.
    """
    left = previous[n_since:]
    n_shared = min(len(plan), len(left))
    is_bounded = np.isfinite(span) & (span > 0)
    if not n_shared or not is_bounded.any():
        return np.nan
    shared = plan[:n_shared].astype(np.float64)
    difference = shared - left[:n_shared]
    share = difference[:, is_bounded] / span[is_bounded]
    distance = np.sqrt((share**2).mean(axis=1))
    return float(distance.mean())


def plan_change_so_far(so_far: SoFar) -> float:
    """Return the last prediction's `compute_plan_change`; nan for the first of an episode."""
    if len(so_far.plans) < 2:
        return np.nan
    action = so_far.env.spec.action
    span = np.subtract(action.high, action.low, dtype=np.float64)
    before, now = so_far.prediction_steps[-2:]
    previous, plan = so_far.plans[-2:]
    return compute_plan_change(previous, plan, now - before, span)
