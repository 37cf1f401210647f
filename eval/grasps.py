"""Finds in a recorded trajectory when the gripper held the object, and when it closed on nothing."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from sim.spec import ActionSpec


@dataclass(frozen=True)
class Grasp:
    """A stretch of moments over which the object was held.

    Attributes:
        begin: the first moment.
        end: the first moment at which it was held no more; the number of moments if it was held to
            the last.
        lifted: it was clear of the table at some moment of it.
    """

    begin: int
    end: int
    lifted: bool


def find_closing_commands(
    action: Float[np.ndarray, "*shape action_dim"], spec: ActionSpec
) -> Bool[np.ndarray, "*shape"]:
    """Return which actions command the gripper closed."""
    way = spec.gripper_open - spec.gripper_closed
    return (action[..., spec.gripper_index] - spec.gripper_closed) / way < spec.gripper_closes_below


def find_grasps(
    grasped: Bool[np.ndarray, " T1"],
    lifted: Bool[np.ndarray, " T1"],
    height_m: Float64[np.ndarray, " T1"],
    held_steps: int,
    raised_m: float,
) -> list[Grasp]:
    """Return the grasps that lasted for `held_steps` moments or raised the object by `raised_m`, in order.

    A shorter contact is none: jaws that close on an edge touch it with both fingers before it
    shoots away. A single moment without contact does not end a grasp: while it is carried, an
    object may leave a jaw for one.

    Args:
        grasped: that stage of pick and place, which one moment of contact makes true.
        lifted: likewise.
    """
    closed_up = grasped.copy()
    closed_up[1:-1] |= grasped[:-2] & grasped[2:]
    return [
        Grasp(begin, end, bool(lifted[begin:end].any()))
        for begin, end in find_stretches(closed_up)
        if end - begin >= held_steps or height_m[begin:end].max() - height_m[begin] >= raised_m
    ]


def find_closings(closes: Bool[np.ndarray, " T"], closing_steps: int) -> list[int]:
    """Return the steps from which on the gripper was commanded closed for at least `closing_steps` steps."""
    return [begin for begin, end in find_stretches(closes) if end - begin >= closing_steps]


def find_stretches(holds: Bool[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Return where a condition holds without a break, as (begin, end) with the end not included."""
    edges = np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8))
    return list(
        zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True)
    )
