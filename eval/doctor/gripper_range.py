"""Is the gripper of the training's actions this environment's: does it vary, and between the same two ends?"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Level
from policies.adapters import convert_gripper
from policies.normalisation import FeatureStats

# A range is another unit's when it is this much narrower or wider.
_NARROW, _WIDE = 0.2, 3.0
# An action that varied by less than this share of its size is constant but for rounding.
_IMMOVABLE = 1e-6
# The two values of a binary command may be off by this share of the way from closed to open.
_LEEWAY = 0.25
# Such a value is a usual one if it is off by less than this share of the usual way.
_NOISE = 0.1
_USUAL_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 100.0))


def check_gripper_range(
    context: CheckContext,
    stats: FeatureStats,
    low: Float[np.ndarray, " dim"],
    high: Float[np.ndarray, " dim"],
) -> Iterator[Finding]:
    """Compare the gripper of the training's actions with this one's.

    Args:
        stats: of the actions.
        low: smallest actions of the training.
        high: largest actions of the training.
    """
    assert context.normalisation is not None
    spec, adapters = context.action, context.adapters
    own = adapters.gripper_range or (spec.gripper_closed, spec.gripper_open)
    g = spec.gripper_index
    evidence = (
        f"trained on {low[g]:.3g} to {high[g]:.3g}, here closed is {own[0]:g} and open {own[1]:g}"
    )
    affine = (context.normalisation.action or stats).affine
    if affine is not None and affine[1][g] <= _IMMOVABLE * max(abs(low[g]), abs(high[g])):
        hint = "Record demonstrations whose gripper moves; if they do, compute their statistics anew, and save them."
        yield Finding(
            "gripper",
            Level.ERROR,
            "its action never varied in training: it can never move",
            evidence,
            hint,
        )
        return
    if context.normalisation.relative.is_difference(g):
        yield Finding(
            "gripper",
            Level.UNKNOWN,
            "trained on differences, which say nothing of its range",
            evidence,
        )
        return
    if spec.gripper_is_binary:
        yield from _check_binary_gripper(stats, own, context)
        return
    share = (high[g] - low[g]) / abs(own[1] - own[0])
    middle = convert_gripper((low[g] + high[g]) / 2, own, (0.0, 1.0))
    if share < _NARROW or share > _WIDE or not -0.5 < middle < 1.5:
        closed, open_ = _guess_gripper_range(low[g], high[g])
        hint = f"Say what it means by closed and open: --gripper-range {closed:.3g} {open_:.3g}, or turned round."
        yield Finding(
            "gripper", Level.ERROR, "another gripper range than in training", evidence, hint
        )
    else:
        yield Finding("gripper", Level.OK, "trained on this gripper's range", evidence)


def _check_binary_gripper(
    stats: FeatureStats, own: tuple[float, float], context: CheckContext
) -> Iterator[Finding]:
    """Compare the two values of the training's command with those that close and open this gripper."""
    spec = context.action
    low, high = _find_two_values(stats, spec.gripper_index, own)
    shares = sorted(float(convert_gripper(value, own, (0.0, 1.0))) for value in (low, high))
    evidence = f"trained on {low:.3g} and {high:.3g}; here {own[0]:g} closes, {own[1]:g} opens, and their middle does nothing"
    if abs(shares[0]) <= _LEEWAY and abs(shares[1] - 1) <= _LEEWAY:
        yield Finding("gripper", Level.OK, "trained on this gripper's two values", evidence)
        return
    one, other = _round_to_usual(low, high)
    if {one, other} == {spec.gripper_closed, spec.gripper_open}:
        hint = "Leave --gripper-range out: these are the environment's own values."
    else:
        hint = f"Say {describe_ranges(one, other)}"
    yield Finding(
        "gripper",
        Level.ERROR,
        "its commands in training were other values than this gripper's",
        evidence,
        hint,
    )


def describe_ranges(low: float, high: float) -> str:
    """Return the flags for both meanings of a command's two values, and how to tell which is meant."""
    rlds = ", as in data sets of RLDS's format" if (low, high) == (0.0, 1.0) else ""
    return (
        f"--gripper-range {low:.3g} {high:.3g} if {high:.3g} opens{rlds}, or --gripper-range {high:.3g} {low:.3g} if "
        f"{high:.3g} closes. The first actions of a demonstration, on the way to the object, open."
    )


def _find_two_values(
    stats: FeatureStats, index: int, own: tuple[float, float]
) -> tuple[float, float]:
    """Return the lower and the higher value of an action that takes only two.

    Where only mean m and standard deviation s are known: of the usual pairs (a, b) the one that
    fits best, since the variance of a number that is either a or b is (m - a) (b - m).
    """
    for low, high in (("min", "max"), ("q01", "q99")):
        if low in stats.values and high in stats.values:
            return float(stats.values[low][index]), float(stats.values[high][index])
    mean, std = (float(stats.values[name][index]) for name in ("mean", "std"))
    pairs = [(min(own), max(own)), *_USUAL_RANGES]
    fitting = [(a, b) for a, b in pairs if a < mean < b]
    if not fitting:
        return mean - std, mean + std
    return min(
        fitting,
        key=lambda pair: abs(np.log(max(std, 1e-9) ** 2 / ((mean - pair[0]) * (pair[1] - mean)))),
    )


def _round_to_usual(low: float, high: float) -> tuple[float, float]:
    """Return the usual range whose two ends these are but for noise, or else these."""
    for a, b in _USUAL_RANGES:
        if max(abs(low - a), abs(high - b)) < _NOISE * (b - a):
            return a, b
    return low, high


def _guess_gripper_range(low: float, high: float) -> tuple[float, float]:
    """The smallest usual range that holds what was seen in training."""
    usual = [(a, b) for a, b in _USUAL_RANGES if a - 0.05 <= low and high <= 1.05 * b]
    return usual[0] if usual else (low, high)
