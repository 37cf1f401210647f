"""Whether the gripper does its part: told to close, told to open, and doing so."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from eval.doctor.finding import TELL_APART, Finding, Level
from eval.doctor.gripper_range import describe_ranges
from eval.grasps import find_closing_commands, find_closings
from eval.recorder import EpisodeArrays
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.spec import ActionSpec

# Shares of the way from closed to open. Scripted expert and ACT on so101/pick_place close to 0.00
# and open to 0.48 (the block is 0.14 wide, the arm starts at 0.25); a policy that had learned the
# mean stayed between 0.20 and 0.40.
CLOSES_BELOW, OPENS_ABOVE = 0.15, 0.30
# Who decides to close and to open does not stay in so narrow a band; below the second it is a
# constant.
NARROW, CONSTANT = 0.20, 0.05
# An episode touches its extremes for moments: these percentiles of its commands count as its band.
BAND_PERCENTILES = (2, 98)
# The gripper has to move by this share of what it is told, with an object or without. ACT: 0.72,
# random targets: 0.45.
FOLLOWS = 0.20
# A closing command for so many steps, with the tool so near to the object, is meant for it. These
# numbers, which the SO-101's outcomes have too, serve every robot here: this is a hint to a person,
# not a label.
NEAR_OBJECT_M, CLOSING_STEPS = 0.05, 5
# The middle of a binary gripper's way does nothing, and neither does what is as near to it as
# noise. One that is told 0 to 1, where it takes -1 (open) to 1 (closed), never gets beyond.
MIDDLE, NEAR_MIDDLE = 0.5, 0.1

_POSSIBLE_CAUSES = (
    "Possible causes: another range, sign or unit of the gripper, images or statistics that are not those of the "
    f"training, or a training that learned the mean. {TELL_APART}"
)
_COMPARE = "Compare range, sign and units of the gripper in the checkpoint's action statistics with the environment's."


def check_gripper(
    episodes: Sequence[EpisodeArrays],
    action: ActionSpec,
    state_names: Sequence[str],
    n_success: int,
    *,
    is_baseline: bool = False,
) -> Finding:
    """Whether the gripper is told to close and to open, and moves.

    A success shows that it does what the task needs.
    """
    closed, way = action.gripper_closed, action.gripper_open - action.gripper_closed
    bands = np.stack(
        [_compute_band((e.action[:, action.gripper_index] - closed) / way) for e in episodes]
    )
    closes_below, opens_above = _find_ends(action)
    follows = _compute_following(episodes, action, state_names)
    low, high = np.median(bands, axis=0)
    evidence = (
        f"asked for {closed + low * way:.3g} to {closed + high * way:.3g} in the median episode, where closed is "
        f"{closed:g} and open {action.gripper_open:g}; closes in {(bands[:, 0] <= closes_below).sum()} and opens in "
        f"{(bands[:, 1] >= opens_above).sum()} of {len(bands)} episodes"
    )
    if follows is not None:
        evidence += f"; measured, it moves by {100 * follows:.0f} % of what it is told"
    n_near, n_closing = _count_closings(episodes, action)
    if n_near:
        evidence += (
            f"; closes near the object in {n_closing} of the {n_near} episodes that come near it"
        )
    if n_success:
        return Finding(
            "gripper motion",
            Level.OK,
            f"the gripper does what {n_success} successes need",
            evidence,
        )
    narrowest, widest = float(bands[:, 0].min()), float(bands[:, 1].max())
    if action.gripper_is_binary and _is_half(narrowest, widest):
        ends = sorted((closed + MIDDLE * way, closed))
        hint = f"Run it again with {describe_ranges(*ends)}"
        if is_baseline:  # that takes no adapter
            hint = f"Map the demonstrations' gripper to {closed:g} for closed and {action.gripper_open:g} for open."
        finding = (
            f"the gripper is told {ends[0]:g} to {ends[1]:g}, so that it closes and never opens"
        )
        return Finding("gripper motion", Level.ERROR, finding, evidence, hint)
    if fault := _name_fault(narrowest, widest, action):
        return Finding(
            "gripper motion", Level.WARNING, f"the gripper {fault}", evidence, _POSSIBLE_CAUSES
        )
    if n_near and not n_closing:
        hint = "Look at the plans near the object; compare range, sign and offset of the gripper with the training's."
        return Finding(
            "gripper motion",
            Level.WARNING,
            "the gripper never closes on the object",
            evidence,
            hint,
        )
    if follows is not None and follows < FOLLOWS:
        return Finding(
            "gripper motion",
            Level.WARNING,
            "the gripper does not move as it is told",
            evidence,
            _COMPARE,
        )
    return Finding("gripper motion", Level.OK, "the gripper closes and opens", evidence)


def _find_ends(action: ActionSpec) -> tuple[float, float]:
    """Return the shares of the way up to which a command closes the gripper, and from which on it opens it."""
    if action.gripper_is_binary:
        return MIDDLE - NEAR_MIDDLE, MIDDLE + NEAR_MIDDLE
    return CLOSES_BELOW, OPENS_ABOVE


def _compute_band(share: Float[np.ndarray, " T"]) -> Float[np.ndarray, "2"]:
    """The narrowest and the widest that an episode asks for."""
    return np.percentile(share, BAND_PERCENTILES).astype(np.float64)


def _is_half(low: float, high: float) -> bool:
    """Return whether the commands of a run go from closed to the middle of the way: both values of another range."""
    return abs(low) < NEAR_MIDDLE and abs(high - MIDDLE) < NEAR_MIDDLE


def _count_closings(episodes: Sequence[EpisodeArrays], action: ActionSpec) -> tuple[int, int]:
    """Count the episodes that bring the gripper near an object, and those of them in which it closes there.

    Only goals of pick and place count: a door may be pushed.
    """
    n_near, n_closing, reached = 0, 0, list(PICK_AND_PLACE.stages).index("reached")
    for episode in episodes:
        if not episode.is_of_pick_and_place or episode.object_pos_world is None:
            continue
        distance_m = np.linalg.norm(episode.ee_pos_world - episode.object_pos_world, axis=1)
        near = episode.progress[:, reached] | (distance_m < NEAR_OBJECT_M)
        begins = find_closings(find_closing_commands(episode.action, action), CLOSING_STEPS)
        n_near += bool(near.any())
        n_closing += any(near[begin : begin + CLOSING_STEPS + 1].any() for begin in begins)
    return n_near, n_closing


def _name_fault(low: float, high: float, action: ActionSpec) -> str:
    """What is wrong with the narrowest and widest that a run asks for, shares of the way to open; "" if nothing."""
    closes_below, opens_above = _find_ends(action)
    closes, opens = low <= closes_below, high >= opens_above
    if closes and opens:
        return ""
    never = "never closes" if opens else "never opens" if closes else "never closes or opens"
    stays = (
        "is constant"
        if high - low < CONSTANT
        else "stays in a narrow band"
        if high - low < NARROW
        else ""
    )
    if stays and low > CLOSES_BELOW and high < 1 - CLOSES_BELOW:
        stays += " in between"
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
    told = _extent(
        np.concatenate([e.action[:, action.gripper_index] for e in episodes]).clip(*ends)
    )
    if told < NARROW * (ends[1] - ends[0]):
        return None
    return (
        _extent(np.concatenate([e.state[:, list(state_names).index(name)] for e in episodes]))
        / told
    )


def _extent(values: Float[np.ndarray, " n"]) -> float:
    return float(np.ptp(np.percentile(values, BAND_PERCENTILES)))
