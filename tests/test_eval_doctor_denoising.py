"""Tests of the doctor on the number of denoising steps.

They use the two shipped policies that denoise.
"""

from contextlib import closing

import numpy as np
import pytest

from eval.doctor.check_context import CheckContext
from eval.doctor.denoising import check_denoising
from eval.doctor.finding import Level
from policies.normalisation import load_normalisation
from tests.bug_plants import Plant, in_steps
from tests.planted_bugs import planted


@pytest.mark.parametrize(
    ("policy", "field", "n_steps", "level"),
    [
        ("diffusion", "num_inference_steps", 1, Level.WARNING),
        ("diffusion", "num_inference_steps", 10, Level.OK),
        # The paths of the shipped flow are nearly straight, so a single step reaches their end.
        ("smolvla", "num_steps", 1, Level.OK),
        ("smolvla", "num_steps", 10, Level.OK),
    ],
)
def test_plans_that_more_steps_would_change_are_named(tmp_path, policy, field, n_steps, level):
    plant = Plant("steps", (), files=in_steps(**{field: n_steps}))
    config, setup = planted(plant, tmp_path, policy)
    with closing(setup.env):
        context = CheckContext(
            config,
            setup,
            load_normalisation(setup.checkpoint.folder),
        )
        plan = context.first_plan
        (finding,) = check_denoising(context)
        np.testing.assert_array_equal(
            context.predict(context.first_memory)[0],
            plan,
        )
    assert (
        finding.level is level
        and f"with {2 * n_steps} steps in place of {n_steps}" in finding.evidence
    )
