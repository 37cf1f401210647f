"""Tests of the doctor on the number of denoising steps.

They use the two shipped policies that denoise.
"""

import pytest
from numpy.testing import assert_array_equal

from eval.doctor.denoising import check_denoising
from tests.bug_plants import Plant, in_steps
from tests.check_contexts import open_check_context
from tests.planted_bugs import planted


@pytest.mark.parametrize(
    ("policy", "field", "n_steps", "level"),
    [
        ("diffusion", "num_inference_steps", 1, "warning"),
        ("diffusion", "num_inference_steps", 10, "fine"),
        # The paths of the shipped flow are nearly straight, so a single step reaches their end.
        ("smolvla", "num_steps", 1, "fine"),
        ("smolvla", "num_steps", 10, "fine"),
    ],
)
def test_plans_that_more_steps_would_change_are_named(tmp_path, policy, field, n_steps, level):
    plant = Plant("steps", (), files=in_steps(**{field: n_steps}))
    with open_check_context(*planted(plant, tmp_path, policy)) as context:
        plan = context.first_plan
        (finding,) = check_denoising(context)
        assert_array_equal(
            context.predict(context.first_memory)[0],
            plan,
        )
    assert finding.level == level
    assert f"with {2 * n_steps} steps in place of {n_steps}" in finding.evidence
