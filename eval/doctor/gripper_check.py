"""Whether the gripper does its part: told to close, told to open, and doing so."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from eval.doctor.finding import Finding, Level
from eval.recorder import EpisodeArrays
from sim.spec import ActionSpec

# Shares of the way from closed to open. Scripted expert and ACT on so101/pick_place close to 0.00 and open to 0.48 (the
# block is 0.14 wide, the arm starts at 0.25); a policy that had learned the mean stayed between 0.20 and 0.40.
CLOSES_BELOW, OPENS_ABOVE = 0.15, 0.30
# Who decides to close and to open does not stay in so narrow a band; below the second it is a constant.
NARROW, CONSTANT = 0.20, 0.05
# An episode touches its extremes for moments: these percentiles of its commands count as its band.
BAND_PERCENTILES = (2, 98)
# The gripper has to move by this share of what it is told, with an object or without. ACT: 0.72, random targets: 0.45.
FOLLOWS = 0.20

_COMPARE = "Compare range, sign and units of the gripper in the checkpoint's action statistics with the environment's."


def check_gripper(
    episodes: Sequence[EpisodeArrays], action: ActionSpec, state_names: Sequence[str], n_success: int
) -> Finding:
    """Whether the gripper is told to close and to open, and moves. A success shows that it does what the task needs."""
    closed, way = action.gripper_closed, action.gripper_open - action.gripper_closed
    bands = np.stack([_compute_band((e.action[:, action.gripper_index] - closed) / way) for e in episodes])
    follows = _compute_following(episodes, action, state_names)
    low, high = np.median(bands, axis=0)
    evidence = (
        f"asked for {closed + low * way:.3g} to {closed + high * way:.3g} in the median episode, where closed is "
        f"{closed:g} and open {action.gripper_open:g}; closes in {(bands[:, 0] <= CLOSES_BELOW).sum()} and opens in "
        f"{(bands[:, 1] >= OPENS_ABOVE).sum()} of {len(bands)} episodes"
    )
    if follows is not None:
        evidence += f"; measured, it moves by {100 * follows:.0f} % of what it is told"
    if n_success:
        return Finding("gripper motion", Level.FINE, f"the gripper does what {n_success} successes need", evidence)
    if fault := _name_fault(float(bands[:, 0].min()), float(bands[:, 1].max())):
        return Finding("gripper motion", Level.WARNING, f"the gripper {fault}", evidence, _COMPARE)
    if follows is not None and follows < FOLLOWS:
        return Finding("gripper motion", Level.WARNING, "the gripper does not move as it is told", evidence, _COMPARE)
    return Finding("gripper motion", Level.FINE, "the gripper closes and opens", evidence)


def _compute_band(share: Float[np.ndarray, " T"]) -> Float[np.ndarray, "2"]:
    """The narrowest and the widest that an episode asks for."""
    return np.percentile(share, BAND_PERCENTILES).astype(np.float64)


def _name_fault(low: float, high: float) -> str:
    """What is wrong with the narrowest and widest that a run asks for, shares of the way to open; "" if nothing."""
    if low <= CLOSES_BELOW and high >= OPENS_ABOVE:
        return ""
    never = "never closes" if high >= OPENS_ABOVE else "never opens" if low <= CLOSES_BELOW else "never closes or opens"
    stays = "is constant" if high - low < CONSTANT else "stays in a narrow band" if high - low < NARROW else ""
    if stays and low > CLOSES_BELOW and high < 1 - CLOSES_BELOW:
        stays += " in between, as if it planned the mean of what it was shown (mean regression)"
    return f"{never}; it {stays}" if stays else never


def _compute_following(
    episodes: Sequence[EpisodeArrays], action: ActionSpec, state_names: Sequence[str]
) -> float | None:
    """How far the gripper moves over the run, as a share of how far it is told to.

    None if the state has no gripper of that name, or there is too little to follow.
    """
    name = action.names[action.gripper_index]
    if name not in state_names:
        return None
    ends = sorted((action.gripper_closed, action.gripper_open))
    told = _extent(np.concatenate([e.action[:, action.gripper_index] for e in episodes]).clip(*ends))
    if told < NARROW * (ends[1] - ends[0]):
        return None
    return _extent(np.concatenate([e.state[:, list(state_names).index(name)] for e in episodes])) / told


def _extent(values: Float[np.ndarray, " n"]) -> float:
    return float(np.ptp(np.percentile(values, BAND_PERCENTILES)))
