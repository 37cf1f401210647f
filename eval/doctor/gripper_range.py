"""Checks that the gripper of the training's actions varies, and has this environment's range."""

import numpy as np
from jaxtyping import Float

from eval.doctor.action_columns import name_gripper
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Findings, fail, fine, unknown
from policies.adapters import convert_gripper
from policies.normalisation import FeatureStats

type Range = tuple[float, float]

# A range that is this much narrower or wider than the environment's is in another unit.
_NARROW = 0.2
_WIDE = 3.0
# An action that varied by less than this share of its size is constant but for rounding.
_IMMOVABLE = 1e-6
# The two values of a binary command may be off by this share of the way from closed to open.
_LEEWAY = 0.25
# A value is rounded to a usual range if it is off by less than this share of it.
_NOISE = 0.1
_USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 100.0))


def check_gripper_range(
    context: CheckContext,
    stats: FeatureStats,
    low: Float[np.ndarray, " dim"],
    high: Float[np.ndarray, " dim"],
) -> Findings:
    """Compare the grippers of the training's actions with the environment's grippers.

    Args:
        stats: of the training's actions.
        low: smallest actions of the training.
        high: largest actions of the training.
    """
    for index in context.action.gripper_indices:
        for found in _check_one_gripper(context, stats, low, high, index):
            yield name_gripper(found, context.action, index)


def _check_one_gripper(
    context: CheckContext,
    stats: FeatureStats,
    low: Float[np.ndarray, " dim"],
    high: Float[np.ndarray, " dim"],
    g: int,
) -> Findings:
    """Compare the gripper at one dimension of the actions."""
    spec = context.action
    own = context.adapters.gripper_range or (spec.gripper_closed, spec.gripper_open)
    evidence = (
        f"trained on {low[g]:.3g} to {high[g]:.3g}, here closed is {own[0]:g} and open {own[1]:g}"
    )
    affine = (context.statistics.action or stats).affine
    largest = max(abs(low[g]), abs(high[g]))
    if affine is not None and affine[1][g] <= _IMMOVABLE * largest:
        yield fail(
            "gripper",
            "its action never varied in training: it can never move",
            evidence,
            (
                "Record demonstrations whose gripper moves; if they do, "
                "compute their statistics anew, and save them."
            ),
        )
    elif context.statistics.relative.is_difference(g):
        yield unknown(
            "gripper",
            "trained on differences, which say nothing of its range",
            evidence,
        )
    elif spec.gripper_is_binary:
        yield _check_binary_gripper(context, stats, g, own)
    elif _is_another_range(low[g], high[g], own):
        closed, open_ = _guess_gripper_range(low[g], high[g])
        yield fail(
            "gripper",
            "another gripper range than in training",
            evidence,
            (
                f"Give what it means by closed and open: --gripper-range {closed:.3g} {open_:.3g}, "
                "or the two swapped."
            ),
        )
    else:
        yield fine("gripper", "trained on this gripper's range", evidence)


def describe_ranges(low: float, high: float) -> str:
    """Return the flags for both meanings of a command's two values, and how to choose."""
    rlds = ", as in data sets of RLDS's format" if (low, high) == (0.0, 1.0) else ""
    return (
        f"--gripper-range {low:.3g} {high:.3g} if {high:.3g} opens{rlds}, "
        f"or --gripper-range {high:.3g} {low:.3g} if {high:.3g} closes. "
        "The first actions of a demonstration, on the way to the object, open."
    )


def _is_another_range(low: float, high: float, own: Range) -> bool:
    share = (high - low) / abs(own[1] - own[0])
    middle = convert_gripper((low + high) / 2, own, (0.0, 1.0))
    return bool(share < _NARROW or share > _WIDE or not -0.5 < middle < 1.5)


def _check_binary_gripper(
    context: CheckContext,
    stats: FeatureStats,
    index: int,
    own: Range,
) -> Finding:
    """Compare the two commands of the training with those that close and open this gripper."""
    spec = context.action
    low, high = _find_two_values(stats, index, own)
    evidence = (
        f"trained on {low:.3g} and {high:.3g}; here {own[0]:g} closes, {own[1]:g} opens, "
        "and their middle does nothing"
    )
    shares = [float(convert_gripper(value, own, (0.0, 1.0))) for value in (low, high)]
    nearer, farther = sorted(shares)
    if abs(nearer) <= _LEEWAY and abs(farther - 1) <= _LEEWAY:
        return fine("gripper", "trained on this gripper's two values", evidence)
    low, high = _round_to_usual(low, high)
    hint = f"Give {describe_ranges(low, high)}"
    if {low, high} == {spec.gripper_closed, spec.gripper_open}:
        hint = "Leave --gripper-range out: these are the environment's own values."
    return fail(
        "gripper",
        "its commands in training were other values than this gripper's",
        evidence,
        hint,
    )


def _find_two_values(stats: FeatureStats, index: int, own: Range) -> Range:
    """Return the lower and the higher value of an action that takes only two.

    If only mean m and standard deviation s are known, it is the usual pair (a, b) that fits best:
    the variance of a number that is either a or b is (m - a) (b - m).
    """
    for lowest, highest in (("min", "max"), ("q01", "q99")):
        if lowest in stats.values and highest in stats.values:
            return float(stats.values[lowest][index]), float(stats.values[highest][index])
    mean = float(stats.values["mean"][index])
    std = float(stats.values["std"][index])
    variance = max(std, 1e-9) ** 2

    def misfit(pair: Range) -> float:
        a, b = pair
        return float(abs(np.log(variance / ((mean - a) * (b - mean)))))

    pairs = [(min(own), max(own)), *_USUAL_RANGES]
    fitting = [(a, b) for a, b in pairs if a < mean < b]
    if not fitting:
        return mean - std, mean + std
    return min(fitting, key=misfit)


def _round_to_usual(low: float, high: float) -> Range:
    """Return the usual range that the two values are within noise of, else the values."""
    for a, b in _USUAL_RANGES:
        if max(abs(low - a), abs(high - b)) < _NOISE * (b - a):
            return a, b
    return low, high


def _guess_gripper_range(low: float, high: float) -> Range:
    """Return the smallest usual range that contains the training's values, else the values."""
    for a, b in _USUAL_RANGES:
        if a - 0.05 <= low and high <= 1.05 * b:
            return a, b
    return low, high
