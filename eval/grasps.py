"""Finds when the gripper held the object, and when it closed on nothing, in a trajectory."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from sim.spec import ActionSpec


@dataclass(frozen=True)
class Grasp:
    """A stretch of moments over which the object was held.

    Attributes:
        begin: the first moment.
        end: the first moment at which it was no longer held; the number of moments if it was held
            to the last.
        lifted: whether it was clear of the table at some moment of the stretch.
    """

    begin: int
    end: int
    lifted: bool


def find_closing_commands(
    action: Float[np.ndarray, "*shape action_dim"],
    spec: ActionSpec,
) -> Bool[np.ndarray, "*shape"]:
    """Return which actions command every gripper closed; none if the tool has no gripper."""
    closes = np.full(action.shape[:-1], spec.gripper_index is not None)
    for one in spec.split_by_gripper():
        closes &= find_opening(action, one) < one.gripper_closes_below
    return closes


def find_opening(
    action: Float[np.ndarray, "*shape action_dim"],
    spec: ActionSpec,
) -> Float[np.ndarray, "*shape"]:
    """Return the commanded openings of the first gripper, as shares from closed to open."""
    gripper = action[..., spec.gripper_index]
    return (gripper - spec.gripper_closed) / (spec.gripper_open - spec.gripper_closed)


def find_grasps(
    grasped: Bool[np.ndarray, " T1"],
    lifted: Bool[np.ndarray, " T1"],
    height_m: Float64[np.ndarray, " T1"],
    held_steps: int,
    raised_m: float,
) -> list[Grasp]:
    """Return in order the grasps that lasted `held_steps` moments or raised the object `raised_m`.

    A shorter contact is no grasp: jaws that close on an edge touch it with both fingers before it
    slips away. A single moment without contact does not end a grasp, because a carried object may
    leave a jaw for a moment.

    Args:
        grasped: the stage "grasped" of pick and place, which one moment of contact makes true.
        lifted: the stage "lifted".
    """
    closed_up = grasped.copy()
    closed_up[1:-1] |= grasped[:-2] & grasped[2:]
    grasps = []
    for begin, end in find_stretches(closed_up):
        raised = height_m[begin:end].max() - height_m[begin]
        if end - begin >= held_steps or raised >= raised_m:
            grasps.append(Grasp(begin, end, bool(lifted[begin:end].any())))
    return grasps


def find_closings(closes: Bool[np.ndarray, " T"], closing_steps: int) -> list[int]:
    """Return the begins of all commands to close that lasted at least `closing_steps` steps."""
    return [begin for begin, end in find_stretches(closes) if end - begin >= closing_steps]


def find_stretches(holds: Bool[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Return the stretches over which a condition holds, as (begin, end) with end excluded."""
    padded = np.concatenate([[False], holds, [False]])
    edges = np.diff(padded.astype(np.int8))
    begins = np.flatnonzero(edges == 1).tolist()
    return list(zip(begins, np.flatnonzero(edges == -1).tolist(), strict=True))
