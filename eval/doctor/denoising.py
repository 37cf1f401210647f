"""Checks that a policy which denoises its plans takes enough steps for it."""

from collections.abc import Iterator

import numpy as np

from eval.doctor.check_context import PATIENCE_S, CheckContext
from eval.doctor.finding import Finding, Level
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import HookablePolicy

# Change of the first plan with twice the steps, in standard deviations of the training's actions.
# The shipped diffusion has 1.3 from 1 step to 2, 0.3 from 2 to 4, 0.1 from 3 to 6, 0.02 from 10 to
# 20; the shipped smolvla 0.03 from 1 to 2.
_CONVERGED = 0.15


def check_denoising(context: CheckContext) -> Iterator[Finding]:
    """Plan the first plan again with twice the steps and the same noise: it should be the same plan."""
    policy = context.setup.policy
    trained = context.normalisation and context.normalisation.trained_action
    if not isinstance(policy, HookablePolicy) or not trained or not trained.typical:
        return
    row = LEROBOT_TYPES.get(policy.spec.type)
    if row is None or row.denoising_steps is None:
        return
    path, name = row.denoising_steps
    config = policy.network.config
    # DDPM draws noise at every step: another number of steps is another plan.
    if (
        getattr(config, "noise_scheduler_type", "") == "DDPM"
        or 3 * context.prediction_s > PATIENCE_S
    ):
        return
    holder = policy.network.get_submodule(path) if path else config
    n_steps = getattr(holder, name)
    n_more = min(2 * n_steps, getattr(config, "num_train_timesteps", 2 * n_steps))
    try:
        setattr(holder, name, n_more)
        further = context.predict(context.first_memory)[0]
    finally:
        setattr(holder, name, n_steps)
    width = np.maximum(trained.typical[1][: context.action.dim], 1e-9)
    change = float((np.abs(further - context.first_plan)[: context.n_compared] / width).mean())
    evidence = f"the first plan changes by {change:.2f} standard deviations with {n_more} steps in place of {n_steps}"
    if change > _CONVERGED:
        hint = f"Raise {name} in config.json, to that of the training or until the success rate stops rising."
        yield Finding(
            "denoising", Level.WARNING, "the plans are not denoised to the end", evidence, hint
        )
    else:
        yield Finding("denoising", Level.OK, "more steps would change little", evidence)
