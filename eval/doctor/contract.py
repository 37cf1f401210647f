"""Compares the training's states and actions with what the environment observes and accepts."""

import numpy as np
from jaxtyping import Float

from eval.doctor.action_columns import body_columns
from eval.doctor.action_mode import find_other_mode
from eval.doctor.calibration import convert_span, find_other_calibration
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, Findings, fail, fine, unknown
from eval.doctor.gripper_range import check_gripper_range
from policies.adapters import find_gripper_in_state
from policies.normalisation import FeatureStats

# States further than this from the training's mean, in its standard deviations, are not its states.
_OUTSIDE_STD = 6.0
# Another order of the state is plausible if no number is further than this from its mean.
_PLAUSIBLE_STD = 2.5
# Another order is looked for only at this total distance times the root of the dimension, and is
# taken if it leaves less than this share of it.
_SUSPICIOUS_STD = 3.0
_LEFT_BY_ORDER = 0.35
# Shares of the actuators' range: training actions in another unit span less, or more.
_LEAST_SHARE = 0.1
_MOST_SHARE = 3.0
# Padding does not vary by more than this.
_CONSTANT = 1e-6
_UNIT_FACTORS = ((np.pi / 180, "radians"), (180 / np.pi, "degrees"))


def check_state(context: CheckContext) -> Findings:
    """Check that the states, at the start and in the expert's episode, are like the training's."""
    other_calibration = find_other_calibration(context)
    if other_calibration is not None:
        yield other_calibration
        return
    stats = context.statistics.state
    if stats is None or stats.typical is None or context.policy.state_dim is None:
        yield unknown("state", "nothing known of the training's states")
        return
    states = _adapted_states(context)
    middle, width = (part[: states.shape[1]] for part in stats.typical)
    width = np.maximum(width, 1e-9)
    names = context.env.state_names
    deviation = np.abs(states[0] - middle) / width
    worst = int(deviation.argmax())
    evidence = (
        f"at reset up to {deviation[worst]:.1f} std from the training's mean ({names[worst]})"
    )
    order = _find_order(states, middle, width)
    if order is not None:
        yield fail(
            "state",
            "the numbers fit the training better in another order",
            evidence,
            f"The training had them in the order: {', '.join(names[i] for i in order)}.",
        )
    elif deviation[worst] > _OUTSIDE_STD:
        finding = f"far from any state of the training{_guess_unit(states[0], middle, width)}"
        hint = (
            "Evaluate in an environment with the training's units "
            "(so101/pick_place_range: joints in -100..100)."
        )
        if worst == find_gripper_in_state(names, context.action):
            hint = "The gripper's range is another one: give it with --gripper-range."
        yield fail("state", finding, evidence, hint)
    else:
        yield fine("state", "the first state is like those of the training", evidence)


def check_action_range(context: CheckContext) -> Findings:
    """Compare the training's actions with the actuators' range."""
    stats = context.statistics.trained_action or context.statistics.action
    if stats is None or stats.span is None:
        yield unknown("action range", "nothing known of the training's actions")
        return
    adapters = context.adapters
    dim = context.action.dim
    low, high = (part[:dim] for part in stats.span)
    if adapters.policy_actions != "delta":
        low, high = convert_span(context, low, high)
    yield from check_gripper_range(context, stats, low, high)
    yield _check_body_range(context, stats, low, high)
    padding = stats.span[1][dim:] - stats.span[0][dim:]
    n_moved = int((padding > _CONSTANT).sum())
    if adapters.allow_padding and n_moved:
        yield fail(
            "padding",
            "actions that are cut off moved in training",
            f"{n_moved} of {len(padding)}",
            "They are not padding: this checkpoint is for another robot.",
        )


def _check_body_range(
    context: CheckContext,
    stats: FeatureStats,
    low: Float[np.ndarray, " action_dim"],
    high: Float[np.ndarray, " action_dim"],
) -> Finding:
    """Compare all actions but the gripper's with the actuators' range.

    Args:
        stats: of the training's actions.
        low: smallest actions of the training.
        high: largest actions of the training.
    """
    check = "action range"
    spec = context.action
    body = body_columns(spec)
    low = low[body]
    high = high[body]
    env_low = np.array(spec.low)[body]
    env_high = np.array(spec.high)[body]
    evidence = f"trained on {_span(low, high)}, the actuators take {_span(env_low, env_high)}"
    other_mode = find_other_mode(context, stats, evidence)
    if other_mode is not None:
        return other_mode
    if context.statistics.relative.output is not None:
        return fine(
            check,
            "trained on differences from the state, which say nothing of the actuators' range",
            evidence,
        )
    share = (high - low) / (env_high - env_low)
    if share.max() < _LEAST_SHARE:
        return fail(
            check,
            "the training's actions span almost none of the actuators' range",
            evidence,
            (
                "Are they radians, or still normalised? "
                "Evaluate in an environment of the training's units."
            ),
        )
    is_outside = (high < env_low) | (low > env_high)
    if is_outside.any() or share.max() > _MOST_SHARE:
        return fail(
            check,
            "the training's actions are outside the actuators' range",
            evidence,
            "Evaluate in an environment of the training's units.",
        )
    return fine(check, "trained within the actuators' range", evidence)


def _adapted_states(context: CheckContext) -> Float[np.ndarray, "moment dim"]:
    """Return the first state, then those of the expert's episode, in the policy's units."""
    memories = [context.first_memory]
    if context.reference is not None:
        memories.extend(context.reference.memories)
    states = np.stack([memory.present.state for memory in memories]).astype(np.float64)
    adapt = getattr(context.setup.policy, "adapt_observation", None)
    if adapt is None:
        return states
    adapted = np.stack([adapt(memory.present).state for memory in memories])
    return adapted[:, : states.shape[1]].astype(np.float64)


def _find_order(
    states: np.ndarray,
    middle: np.ndarray,
    width: np.ndarray,
) -> list[int] | None:
    """Return the order of the state that fits the training far better; None if there is none."""
    if len(states) < 4:
        return None
    mean = states[1:].mean(axis=0)
    dim = len(mean)
    # cost[i, j] is the distance of number j from the training's mean of number i.
    cost = np.abs(mean[None, :] - middle[:, None]) / width[:, None]
    own = np.trace(cost)
    if own < _SUSPICIOUS_STD * dim**0.5:
        return None
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    # Subtracting the identity keeps numbers that are alike in their places.
    rows, columns = linear_sum_assignment(cost - np.eye(dim))
    left = cost[rows, columns]
    is_moved = not np.array_equal(rows, columns)
    is_better = left.sum() < _LEFT_BY_ORDER * own
    is_plausible = left.max() < _PLAUSIBLE_STD
    return columns.tolist() if is_moved and is_better and is_plausible else None


def _guess_unit(state: np.ndarray, middle: np.ndarray, width: np.ndarray) -> str:
    """Return a question about the unit of the state, if another one fits; "" if none does."""
    for factor, unit in _UNIT_FACTORS:
        deviation = np.abs(state * factor - middle) / width
        if deviation.max() < _OUTSIDE_STD:
            return f": were they {unit}?"
    return ""


def _span(low: np.ndarray, high: np.ndarray) -> str:
    return f"{low.min():.3g} to {high.max():.3g}"
