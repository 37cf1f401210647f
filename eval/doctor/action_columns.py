"""Selects the dimensions of an action that can be compared with each other and with the state."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from eval.doctor.finding import Finding
from sim.spec import ActionSpec


def range_of(action: ActionSpec) -> Float[np.ndarray, " action_dim"]:
    """Return the width of the actuators' range, high - low; 1 where that is zero."""
    span = np.subtract(action.high, action.low)
    return np.where(span > 0, span, 1.0)


def comparable_columns(
    action: ActionSpec,
    state_names: Sequence[str],
) -> tuple[Bool[np.ndarray, " action_dim"], str]:
    """Return which actions are targets for the state number at the same index.

    The second value says why there are none ("" if there are some). Rotation vectors are left out:
    at a half turn, w and -w are the same rotation.
    """
    none = np.zeros(action.dim, dtype=bool)
    if action.mode != "absolute":
        return none, "the actions are differences"
    if tuple(state_names) != action.names:
        actions = ", ".join(action.names)
        states = ", ".join(state_names)
        return none, f"the actions ({actions}) are not the state ({states})"
    return linear_columns(action), ""


def body_columns(action: ActionSpec) -> Bool[np.ndarray, " action_dim"]:
    """Return which actions are not a gripper's."""
    return ~np.isin(np.arange(action.dim), action.gripper_indices)


def linear_columns(action: ActionSpec) -> Bool[np.ndarray, " action_dim"]:
    """Return which actions are not part of a rotation vector."""
    if action.rotation == "none":
        return np.ones(action.dim, dtype=bool)
    return np.array([unit != "rad" for unit in action.units])


def name_gripper(finding: Finding, action: ActionSpec, index: int) -> Finding:
    """Return a finding on the gripper at a dimension of the actions; it is named if of several."""
    if len(action.gripper_indices) == 1:
        return finding
    return replace(finding, evidence=f"{action.names[index]!r}: {finding.evidence}")
