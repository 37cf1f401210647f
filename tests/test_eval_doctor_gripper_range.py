"""Tests that compare the gripper's training statistics with the environment's gripper.

They cover the range, the two values of a binary gripper, and a gripper that never varied.
"""

from dataclasses import replace

import numpy as np
import pytest

from eval.doctor.gripper_range import check_gripper_range
from policies.normalisation import FeatureStats, Normalisation
from sim.libero_bench.conventions import REACH_HIGH_M, REACH_LOW_M
from sim.robosuite.osc_pose import make_action_spec
from tests.check_contexts import make_check_context

LIBERO = make_action_spec("delta", REACH_LOW_M, REACH_HIGH_M)


@pytest.fixture
def look(blind_env):
    def look(values, action=LIBERO, mode="MEAN_STD", **flags):
        """Return the one finding on a gripper with these statistics. The arm's are all zero."""
        arm = np.zeros(action.gripper_index)
        padded = {name: np.append(arm, value) for name, value in values.items()}
        stats = FeatureStats("action", "ACTION", mode, padded)
        spec = replace(blind_env.spec, action=action)
        normalisation = Normalisation({}, stats, stats, {})
        context = make_check_context(
            blind_env,
            normalisation,
            spec,
            **flags,
        )
        (finding,) = check_gripper_range(context, stats, *stats.span)
        return finding

    return look


def two_valued(low, high, share_high=0.4):
    """Return statistics of an action that is `high` in `share_high` of the steps, else `low`."""
    mean = low + share_high * (high - low)
    std = (high - low) * (share_high * (1 - share_high)) ** 0.5
    return {
        "mean": mean,
        "std": std,
        "min": low,
        "max": high,
        "q01": low,
        "q99": high,
    }


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("MEAN_STD", {"mean", "std"}),
        ("MIN_MAX", {"min", "max"}),
        ("QUANTILES", {"q01", "q99"}),
        ("MEAN_STD", {"mean", "std", "min", "max", "q01", "q99"}),
    ],
)
@pytest.mark.parametrize(
    "share_high",
    [0.3, 0.47, 0.53, 0.7],
)
def test_libero_takes_minus_1_and_1(look, mode, names, share_high):
    """The result does not depend on the kind of statistics or on how often the gripper closes."""

    def statistics(low):
        values = two_valued(low, 1, share_high)
        return {name: values[name] for name in names}

    own = look(statistics(-1), mode=mode)
    assert own.level == "fine"
    assert "two values" in own.finding
    other = statistics(0)
    finding = look(other, mode=mode)
    assert finding.level == "error"
    assert "other values than this gripper's" in finding.finding
    assert "--gripper-range 0 1 if 1 opens" in finding.hint
    assert "--gripper-range 1 0 if 1 closes" in finding.hint
    for proposed in ((0.0, 1.0), (1.0, 0.0)):
        assert look(other, mode=mode, gripper_range=proposed).level == "fine"


@pytest.mark.parametrize(
    "values",
    [(-0.9, 0.95), (-1.1, 1.2), (-0.6, 0.7)],
)
def test_values_a_little_off_are_the_same_two(look, values):
    """An action filter or a teleoperation device shifts the values, but only the sign counts."""
    assert look(two_valued(*values)).level == "fine"


@pytest.mark.parametrize(
    "values",
    [(-1.0, 0.0), (0.0, 100.0), (0.0, 0.04)],
)
def test_other_values_are_named_with_flags_that_are_right(look, values):
    finding = look(two_valued(*values))
    assert finding.level == "error"
    flags = finding.hint.split("--gripper-range ")[1].split()[:2]
    assert tuple(map(float, flags)) == values
    assert look(two_valued(*values), gripper_range=values).level == "fine"


def test_a_flag_that_is_not_needed_is_to_be_left_out(look):
    finding = look(
        two_valued(-1, 1),
        gripper_range=(0.0, 1.0),
    )
    assert finding.level == "error"
    assert finding.hint.startswith("Leave --gripper-range out")


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        ("MEAN_STD", {"mean": -1, "std": 0, "min": -1, "max": -1}),
        ("MEAN_STD", {"mean": 20, "std": 1e-6}),
        ("MEAN_STD", {"mean": 0, "std": 0}),
        ("MIN_MAX", {"min": 1, "max": 1}),
        # The extremes occurred so rarely that the policy cannot plan them.
        ("QUANTILES", {"q01": -1, "q99": -1, "min": -1, "max": 1}),
    ],
)
@pytest.mark.parametrize(
    "action",
    [LIBERO, replace(LIBERO, gripper_closes_below=0.15)],
)
def test_a_gripper_that_never_varied_can_never_move(look, mode, values, action):
    finding = look(values, action, mode)
    assert finding.level == "error"
    assert "can never move" in finding.finding
    assert finding.hint


@pytest.mark.parametrize(
    ("low", "high", "level"),
    [
        (0, 97, "fine"),
        (5, 76, "fine"),
        (0, 1, "error"),
        (-1, 1, "error"),
    ],
)
def test_a_gripper_that_opens_by_degrees_is_compared_by_its_range(
    look, blind_env, low, high, level
):
    values = {"min": low, "max": high}
    assert look(values, blind_env.spec.action, "MIN_MAX").level == level
