"""Tests that compare the gripper's training statistics with the environment's gripper.

They cover the range, the two values of a binary gripper, and a gripper that never varied.
"""

from dataclasses import replace

import numpy as np
import pytest

from eval.doctor.finding import Level
from eval.doctor.gripper_range import check_gripper_range
from policies.normalisation import FeatureStats, Normalisation
from sim.libero_bench.conventions import make_action_spec
from tests.check_contexts import make_check_context

LIBERO = make_action_spec("delta")


@pytest.fixture
def look(blind_env):
    def look(values, action=LIBERO, mode="MEAN_STD", **flags):
        """Return the one finding on a gripper with these statistics. The arm's are all zero."""
        arm = [0.0] * action.gripper_index
        padded = {name: np.array([*arm, value], dtype=np.float64) for name, value in values.items()}
        stats = FeatureStats("action", "ACTION", mode, padded)
        spec = replace(blind_env.spec, action=action)
        context = make_check_context(
            blind_env,
            Normalisation({}, stats, stats, {}),
            spec,
            **flags,
        )
        (finding,) = check_gripper_range(context, stats, *stats.span)
        return finding

    return look


def two_valued(low, high, share_high, *names):
    """Return statistics of an action that is `high` in `share_high` of the steps, else `low`."""
    mean = low + share_high * (high - low)
    every = {
        "mean": mean,
        "std": (high - low) * (share_high * (1 - share_high)) ** 0.5,
        "min": low,
        "max": high,
    }
    every |= {"q01": low, "q99": high}
    return {name: every[name] for name in names or every}


ENOUGH = [
    ("mean", "std"),
    ("min", "max"),
    ("q01", "q99"),
    (),
]
MODES = {
    ("q01", "q99"): "QUANTILES",
    ("min", "max"): "MIN_MAX",
}


@pytest.mark.parametrize("names", ENOUGH)
@pytest.mark.parametrize(
    "share_high",
    [0.3, 0.47, 0.53, 0.7],
)
def test_libero_takes_minus_1_and_1(look, names, share_high):
    """The result does not depend on the kind of statistics or on how often the gripper closes."""
    mode = MODES.get(names, "MEAN_STD")
    own = look(
        two_valued(-1, 1, share_high, *names),
        mode=mode,
    )
    assert own.level is Level.OK and "two values" in own.finding
    other = two_valued(0, 1, share_high, *names)
    finding = look(other, mode=mode)
    assert finding.level is Level.ERROR and "other values than this gripper's" in finding.finding
    assert (
        "--gripper-range 0 1 if 1 opens" in finding.hint
        and "--gripper-range 1 0 if 1 closes" in finding.hint
    )
    for proposed in ((0.0, 1.0), (1.0, 0.0)):
        assert (
            look(
                other,
                mode=mode,
                gripper_range=proposed,
            ).level
            is Level.OK
        )


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-0.9, 0.95),
        (-1.1, 1.2),
        (-0.6, 0.7),
    ],
)
def test_values_a_little_off_are_the_same_two(look, low, high):
    """An action filter or a teleoperation device shifts the values, but only the sign counts."""
    assert look(two_valued(low, high, 0.4)).level is Level.OK


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-1, 0),
        (0, 100),
        (0, 0.04),
    ],
)
def test_other_values_are_named_with_flags_that_are_right(look, low, high):
    values = two_valued(low, high, 0.4)
    finding = look(values)
    assert finding.level is Level.ERROR
    flags = finding.hint.split("--gripper-range ")[1].split()[:2]
    assert tuple(map(float, flags)) == (low, high)
    assert look(values, gripper_range=(float(low), float(high))).level is Level.OK


def test_a_flag_that_is_not_needed_is_to_be_left_out(look):
    finding = look(two_valued(-1, 1, 0.4), gripper_range=(0.0, 1.0))
    assert finding.level is Level.ERROR and finding.hint.startswith("Leave --gripper-range out")


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        (
            "MEAN_STD",
            {
                "mean": -1,
                "std": 0,
                "min": -1,
                "max": -1,
            },
        ),
        ("MEAN_STD", {"mean": 20, "std": 1e-6}),
        ("MEAN_STD", {"mean": 0, "std": 0}),
        ("MIN_MAX", {"min": 1, "max": 1}),
        # The extremes occurred so rarely that the policy cannot plan them.
        (
            "QUANTILES",
            {
                "q01": -1,
                "q99": -1,
                "min": -1,
                "max": 1,
            },
        ),
    ],
)
@pytest.mark.parametrize(
    "action",
    [LIBERO, replace(LIBERO, gripper_closes_below=0.15)],
)
def test_a_gripper_that_never_varied_can_never_move(look, mode, values, action):
    finding = look(values, action, mode)
    assert finding.level is Level.ERROR and "can never move" in finding.finding and finding.hint


@pytest.mark.parametrize(
    ("low", "high", "level"),
    [
        (0, 97, Level.OK),
        (5, 76, Level.OK),
        (0, 1, Level.ERROR),
        (-1, 1, Level.ERROR),
    ],
)
def test_a_gripper_that_opens_by_degrees_is_compared_by_its_range(
    look, blind_env, low, high, level
):
    assert (
        look(
            {
                "min": low,
                "max": high,
            },
            blind_env.spec.action,
            "MIN_MAX",
        ).level
        is level
    )
