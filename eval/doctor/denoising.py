"""Checks that a policy which denoises its plans takes enough denoising steps."""

from typing import Any

import numpy as np

from eval.doctor.check_context import PATIENCE_S, CheckContext
from eval.doctor.finding import Findings, fine, warn
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import HookablePolicy

# Change of the first plan with twice the denoising steps, in standard deviations of the training's
# actions. The shipped diffusion changes by 1.3 from 1 step to 2, by 0.3 from 2 to 4, by 0.1 from 3
# to 6, and by 0.02 from 10 to 20; the shipped smolvla changes by 0.03 from 1 to 2.
_CONVERGED = 0.15


def check_denoising(context: CheckContext) -> Findings:
    """Predict the first plan with twice the denoising steps and the same noise, and compare.

    The two plans should be the same.
    """
    policy = context.setup.policy
    trained = context.statistics.trained_action
    if not isinstance(policy, HookablePolicy) or not trained or not trained.typical:
        return
    row = LEROBOT_TYPES.get(policy.spec.type)
    if row is None or row.denoising_steps is None:
        return
    path, name = row.denoising_steps
    config = policy.network.config
    # DDPM draws noise at every step, so another number of steps gives another plan.
    is_ddpm = getattr(config, "noise_scheduler_type", "") == "DDPM"
    if is_ddpm or 3 * context.prediction_s > PATIENCE_S:
        return
    holder = policy.network.get_submodule(path) if path else config
    n_steps = getattr(holder, name)
    n_more = min(2 * n_steps, getattr(config, "num_train_timesteps", 2 * n_steps))
    plan = _plan_with_steps(context, holder, name, n_more)
    width = np.maximum(trained.typical[1][: context.action.dim], 1e-9)
    difference = np.abs(plan - context.first_plan)[: context.n_compared]
    change = float((difference / width).mean())
    evidence = (
        f"the first plan changes by {change:.2f} standard deviations "
        f"with {n_more} steps in place of {n_steps}"
    )
    if change > _CONVERGED:
        yield warn(
            "denoising",
            "the plans are not denoised to the end",
            evidence,
            (
                f"Raise {name} in config.json to the value of the training, "
                "or until the success rate stops rising."
            ),
        )
    else:
        yield fine("denoising", "more steps would change little", evidence)


def _plan_with_steps(
    context: CheckContext,
    holder: Any,
    name: str,
    n_steps: int,
) -> np.ndarray:
    """Return the first plan as predicted with another number of denoising steps."""
    usual = getattr(holder, name)
    try:
        setattr(holder, name, n_steps)
        return context.predict(context.first_memory)[0]
    finally:
        setattr(holder, name, usual)
