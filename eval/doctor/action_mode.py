"""Finds actions that are differences from the state and are taken for targets, or the reverse."""

import numpy as np
from jaxtyping import Bool

from eval.doctor.action_columns import body_columns
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Finding, fail
from policies.normalisation import FeatureStats

# Actions whose spread is less than this share of the states' spread look like differences.
_NARROW = 0.2


def find_other_mode(
    context: CheckContext,
    stats: FeatureStats,
    evidence: str,
) -> Finding | None:
    """Return a finding if differences are taken for targets, or targets for differences.

    The processors' steps tell which of the two the policy returns. If they do not, the statistics
    of the training decide.

    Args:
        stats: of the training's actions.
        evidence: of the finding.
    """
    relative = context.statistics.relative
    expects_delta = (context.adapters.policy_actions or context.action.mode) == "delta"
    seems_delta = _looks_delta(context, stats)
    check = "delta or absolute"
    if relative.added and not relative.trained and seems_delta is False:
        finding = "the postprocessor adds the state to actions that look like targets"
        hint = (
            'Set "enabled" of the absolute_actions_processor in policy_postprocessor.json to false.'
        )
    elif relative.output == "absolute" and expects_delta:
        finding = (
            "the postprocessor adds the state: its actions are targets, "
            "and are taken for differences"
        )
        hint = "Evaluate in the environment's absolute form (LIBERO: --control absolute)."
    elif relative.output == "delta" and not expects_delta:
        finding = (
            "the actions are differences to which no step adds the state, and are taken for targets"
        )
        hint = _advise_on_differences(context)
    elif relative.output is not None or seems_delta is None:
        return None
    elif seems_delta and _looks_like_radians(context, stats):
        check = "action units"
        finding = "the training's actions look like radians, where degrees are expected"
        hint = (
            "Train on data in this environment's units, "
            "or give the processors its statistics in degrees."
        )
    elif seems_delta and not expects_delta:
        finding = "the actions look like differences, and are taken for targets"
        hint = (
            "If they are differences from the state of the prediction, say --policy-actions delta."
        )
    elif not seems_delta and expects_delta:
        finding = "the actions look like targets, and are taken for differences"
        hint = "Leave --policy-actions delta out, or evaluate in the absolute environment."
    else:
        return None
    return fail(check, finding, evidence, hint)


def _advise_on_differences(context: CheckContext) -> str:
    """Return the advice for a policy whose postprocessor leaves its actions as differences."""
    spec = context.action
    relative = context.statistics.relative
    absolute = [index for index in range(spec.dim) if not relative.is_difference(index)]
    hint = (
        "Save the postprocessor with its absolute_actions_processor enabled, "
        "as the preprocessor's counterpart is"
    )
    # The adapter of --policy-actions adds the state to all but the gripper.
    if absolute == list(spec.gripper_indices):
        return f"{hint}, or say --policy-actions delta."
    return f"{hint}."


def _looks_delta(context: CheckContext, action: FeatureStats) -> bool | None:
    """Return whether the actions lie around zero and are small, unlike the states.

    Targets lie where the states lie. None if that cannot be decided.
    """
    if context.env.state_names != context.action.names:
        return None
    parts = _typical_of(body_columns(context.action), context.statistics.state, action)
    if parts is None:
        return None
    middle, width, action_middle, action_width = parts
    # If states are far from zero, the means alone decide.
    is_far = np.abs(middle) > 2 * width
    if is_far.any():
        to_state = np.abs(action_middle - middle)[is_far]
        to_zero = np.abs(action_middle)[is_far]
        return bool(np.median(to_zero / np.maximum(to_state, 1e-9)) < 1)
    return bool(np.median(action_width / width) < _NARROW)


def _looks_like_radians(context: CheckContext, action: FeatureStats) -> bool:
    """Return whether the actions, converted to degrees, lie where the training's states lie."""
    is_in_degrees = [unit == "deg" for unit in context.action.units]
    angles = body_columns(context.action) & is_in_degrees
    parts = _typical_of(angles, context.statistics.state, action)
    if parts is None or not angles.any():
        return False
    middle, width, action_middle, action_width = parts
    is_near = np.abs(np.rad2deg(action_middle) - middle) < width
    width_ratio = np.median(np.rad2deg(action_width) / width)
    return bool(is_near.all() and 0.5 < width_ratio < 2)


def _typical_of(
    columns: Bool[np.ndarray, " action_dim"],
    state: FeatureStats | None,
    action: FeatureStats,
) -> tuple[np.ndarray, ...] | None:
    """Return (middle, width) of the states, then of the actions; None if either is not known."""
    if state is None or state.typical is None or action.typical is None:
        return None
    indices = np.flatnonzero(columns)
    return tuple(part[indices] for part in (*state.typical, *action.typical))
