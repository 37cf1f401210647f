"""Tests in how many ways a policy can plan, judged by its settings alone.

Other files test that the loaded policy does so.
"""

import pytest

from policies.plan_kinds import PlanKinds, read_plan_kinds


@pytest.mark.parametrize(
    ("settings", "can_sample", "stochastic", "intermediate_plans"),
    [
        ({"type": "act", "use_vae": False}, False, False, "none"),
        ({"type": "act", "use_vae": True}, True, False, "none"),
        ({"type": "act"}, True, False, "none"),  # lerobot's default
        (
            {"type": "act", "use_vae": True, "temporal_ensemble_coeff": 0.01},
            False,
            False,
            "ensemble",
        ),
        ({"type": "pi0_fast", "temperature": 0.0}, True, False, "none"),
        (
            {
                "type": "pi0_fast",
                "temperature": 0.7,
            },
            True,
            True,
            "none",
        ),
        ({"type": "smolvla"}, True, True, "flow"),
        ({"type": "diffusion"}, True, True, "none"),
    ],
)
def test_settings_tell_what_can_be_recorded(settings, can_sample, stochastic, intermediate_plans):
    kinds = read_plan_kinds(settings, "x")
    assert kinds == PlanKinds(
        settings["type"],
        "x",
        stochastic,
        can_sample,
        intermediate_plans,
    )
