"""Which numbers of an action can be held against one another, and against the state."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from sim.spec import ActionSpec


def range_of(action: ActionSpec) -> Float[np.ndarray, " action_dim"]:
    """What the actuators take, high - low; 1 where that is nothing."""
    span = np.array(action.high) - np.array(action.low)
    return np.where(span > 0, span, 1.0)


def comparable_columns(
    action: ActionSpec, state_names: Sequence[str]
) -> tuple[Bool[np.ndarray, " action_dim"], str]:
    """Which actions are targets for the state of the same place, and why none are ("" if some are).

    Rotation vectors are left out: at a half turn w and -w are the same.
    """
    none = np.zeros(action.dim, dtype=bool)
    if action.mode != "absolute":
        return none, "the actions are differences"
    if tuple(state_names) != action.names:
        return (
            none,
            f"the actions ({', '.join(action.names)}) are not the state ({', '.join(state_names)})",
        )
    return linear_columns(action), ""


def linear_columns(action: ActionSpec) -> Bool[np.ndarray, " action_dim"]:
    """All but the parts of a rotation vector."""
    return np.array([action.rotation == "none" or unit != "rad" for unit in action.units])
