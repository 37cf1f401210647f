"""Checks that a diffusion policy's network predicts what its config says."""

from typing import Any

import numpy as np
import torch

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Findings, fail, fine, unknown
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import HookablePolicy

# The first denoising step begins with pure noise. A network that was trained to predict the noise
# returns it there almost unchanged. One that was trained to predict the actions does not know it.
_RETURNS_NOISE = 0.8
_DOES_NOT_KNOW_NOISE = 0.4


def check_prediction_type(context: CheckContext) -> Findings:
    """Compare the network's first prediction with the noise that it is given.

    `prediction_type` in config.json says whether the network predicts the noise ("epsilon") or the
    actions ("sample"). A wrong value gives plans that have little to do with the training.
    """
    policy = context.setup.policy
    row = LEROBOT_TYPES.get(policy.spec.type)
    if row is None or not row.noise_predictor or not isinstance(policy, HookablePolicy):
        return
    noise, predicted = _see_first_step(context, policy.network.get_submodule(row.noise_predictor))
    likeness = float(np.corrcoef(noise.ravel(), predicted.ravel())[0, 1])
    told = policy.network.config.prediction_type
    evidence = (
        f'prediction_type is "{told}", and the first prediction correlates by {likeness:.2f} '
        "with the noise that the network was given"
    )
    if told == "sample" and likeness > _RETURNS_NOISE:
        yield fail(
            "prediction type",
            "the network predicts the noise, and its predictions are taken for actions",
            evidence,
            'Set prediction_type in config.json to "epsilon".',
        )
    elif told == "epsilon" and likeness < _DOES_NOT_KNOW_NOISE:
        yield unknown(
            "prediction type",
            "the network does not predict the noise, as it is told to",
            evidence,
            (
                "It was trained too little, or to predict the actions. Then prediction_type in "
                'config.json is "sample".'
            ),
        )
    elif _DOES_NOT_KNOW_NOISE <= likeness <= _RETURNS_NOISE:
        yield unknown("prediction type", "neither the noise nor clearly something else", evidence)
    else:
        yield fine("prediction type", "the network predicts what it is told to", evidence)


def _see_first_step(context: CheckContext, network: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the noise that the first denoising step of a plan starts from, and the prediction."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def keep(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen.append((inputs[0].float().cpu().numpy(), output.float().cpu().numpy()))

    hook = network.register_forward_hook(keep)
    try:
        context.predict(context.first_memory)
    finally:
        hook.remove()
    return seen[0]
