"""Checks that the gripper is commanded to close and to open, and that it moves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from eval.doctor.finding import FIND_THE_CAUSE, Finding, fail, fine, warn
from eval.doctor.gripper_range import describe_ranges
from eval.episode_arrays import Episodes
from eval.grasps import find_closing_commands, find_closings, find_opening
from policies.adapters import find_gripper_in_state
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.spec import ActionSpec

# Shares of the way from closed to open. Scripted expert and ACT on so101/pick_place close to 0.00
# and open to 0.48 (the block is 0.14 wide, the arm starts at 0.25). A policy that had learned the
# mean action stayed between 0.20 and 0.40.
CLOSES_BELOW = 0.15
OPENS_ABOVE = 0.30
# A policy that actually opens and closes commands a range wider than NARROW. Below CONSTANT the
# command is effectively constant.
NARROW = 0.20
CONSTANT = 0.05
# Commands reach their extremes only for moments, so these percentiles bound an episode's range.
BAND_PERCENTILES = (2, 98)
# The gripper has to move by this share of its commands, with an object or without. ACT: 0.72,
# random targets: 0.45.
FOLLOWS = 0.20
# A closing command for this many steps, with the tool this near to the object, is meant for the
# object. These numbers are those of the SO-101's outcomes, and serve every robot here: this is a
# hint to a person, not a label.
NEAR_OBJECT_M = 0.05
CLOSING_STEPS = 5
# A binary gripper does nothing in the middle of its way, nor within noise of it. If its commands
# are 0 to 1, where it takes -1 (open) to 1 (closed), they never get beyond the middle.
MIDDLE = 0.5
NEAR_MIDDLE = 0.1

_POSSIBLE_CAUSES = (
    "Possible causes: another range, sign or unit of the gripper, images or statistics that are "
    f"not those of the training, or a training that learned the mean. {FIND_THE_CAUSE}"
)
_COMPARE = (
    "Compare range, sign and units of the gripper in the checkpoint's action statistics with the "
    "environment's."
)
_LOOK_NEAR_OBJECT = (
    "Look at the plans near the object; compare range, sign and offset of the gripper with the "
    "training's."
)


@dataclass(frozen=True)
class _Commands:
    """Holds the range of the gripper's commands in a run, as shares of the way to open.

    Attributes:
        action: the environment's actions.
        bands: lowest and highest command of each episode.
    """

    action: ActionSpec
    bands: Float[np.ndarray, "episode 2"]

    @property
    def lowest(self) -> float:
        return float(self.bands[:, 0].min())

    @property
    def highest(self) -> float:
        return float(self.bands[:, 1].max())

    def at(self, share: float) -> float:
        """Return the command at a share of the way from closed to open."""
        closed = self.action.gripper_closed
        return closed + share * (self.action.gripper_open - closed)

    def describe(self) -> str:
        closes_below, opens_above = _find_ends(self.action)
        low, high = np.median(self.bands, axis=0)
        n_closes = (self.bands[:, 0] <= closes_below).sum()
        n_opens = (self.bands[:, 1] >= opens_above).sum()
        return (
            f"commanded {self.at(low):.3g} to {self.at(high):.3g} in the median episode, where "
            f"closed is {self.action.gripper_closed:g} and open {self.action.gripper_open:g}; "
            f"closes in {n_closes} and opens in {n_opens} of {len(self.bands)} episodes"
        )


def check_gripper(
    episodes: Episodes,
    action: ActionSpec,
    state_names: Sequence[str],
    n_success: int,
    *,
    is_baseline: bool = False,
) -> Finding:
    """Check that the gripper is commanded to close and to open, and that it moves.

    If an episode succeeded, the gripper did what the task needs.
    """
    check = "gripper motion"
    commands = _measure_commands(episodes, action)
    follows = _compute_following(episodes, action, state_names)
    n_near, n_closing = _count_closings(episodes, action)
    evidence = commands.describe()
    if follows is not None:
        evidence += f"; measured, it moves by {100 * follows:.0f} % of its commands"
    if n_near:
        evidence += (
            f"; closes near the object in {n_closing} of the {n_near} episodes that come near it"
        )
    if n_success:
        return fine(check, f"the gripper does what {n_success} successes need", evidence)
    if action.gripper_is_binary and _is_half(commands):
        return _describe_half_range(commands, is_baseline, evidence)
    problem = _name_problem(commands.lowest, commands.highest, action)
    if problem:
        return warn(check, f"the gripper {problem}", evidence, _POSSIBLE_CAUSES)
    if n_near and not n_closing:
        return warn(check, "the gripper never closes on the object", evidence, _LOOK_NEAR_OBJECT)
    if follows is not None and follows < FOLLOWS:
        return warn(check, "the gripper does not follow its commands", evidence, _COMPARE)
    return fine(check, "the gripper closes and opens", evidence)


def _measure_commands(episodes: Episodes, action: ActionSpec) -> _Commands:
    bands = []
    for episode in episodes:
        share = find_opening(episode.action, action)
        bands.append(np.percentile(share, BAND_PERCENTILES).astype(np.float64))
    return _Commands(action, np.stack(bands))


def _find_ends(action: ActionSpec) -> tuple[float, float]:
    """Return the shares of the way below which a command closes, and above which it opens."""
    if action.gripper_is_binary:
        return MIDDLE - NEAR_MIDDLE, MIDDLE + NEAR_MIDDLE
    return CLOSES_BELOW, OPENS_ABOVE


def _is_half(commands: _Commands) -> bool:
    """Return whether the commands end at closed and in the middle of the way.

    These are the two values of another range.
    """
    starts_closed = abs(commands.lowest) < NEAR_MIDDLE
    ends_in_middle = abs(commands.highest - MIDDLE) < NEAR_MIDDLE
    return starts_closed and ends_in_middle


def _describe_half_range(
    commands: _Commands,
    is_baseline: bool,
    evidence: str,
) -> Finding:
    closed = commands.action.gripper_closed
    low, high = sorted((commands.at(MIDDLE), closed))
    hint = f"Run it again with {describe_ranges(low, high)}"
    if is_baseline:  # a baseline takes no adapter
        hint = (
            f"Map the demonstrations' gripper to {closed:g} for closed "
            f"and {commands.action.gripper_open:g} for open."
        )
    return fail(
        "gripper motion",
        f"the gripper is commanded {low:g} to {high:g}, so that it closes and never opens",
        evidence,
        hint,
    )


def _count_closings(episodes: Episodes, action: ActionSpec) -> tuple[int, int]:
    """Count the episodes that come near an object, and those that close the gripper there.

    Only goals of pick and place count: a door may be pushed.
    """
    n_near = 0
    n_closing = 0
    reached = list(PICK_AND_PLACE.stages).index("reached")
    for episode in episodes:
        if not episode.is_of_pick_and_place or episode.object_pos_world is None:
            continue
        distance_m = np.linalg.norm(episode.ee_pos_world - episode.object_pos_world, axis=1)
        is_near = episode.progress[:, reached] | (distance_m < NEAR_OBJECT_M)
        commands = find_closing_commands(episode.action, action)
        closings = find_closings(commands, CLOSING_STEPS)
        n_near += bool(is_near.any())
        n_closing += any(is_near[step : step + CLOSING_STEPS + 1].any() for step in closings)
    return n_near, n_closing


def _name_problem(low: float, high: float, action: ActionSpec) -> str:
    """Return what is wrong with the commands of a run; "" if nothing.

    Args:
        low: smallest command, as a share of the way to open.
        high: largest command, likewise.
    """
    closes_below, opens_above = _find_ends(action)
    closes = low <= closes_below
    opens = high >= opens_above
    if closes and opens:
        return ""
    problem = "never closes or opens"
    if opens:
        problem = "never closes"
    elif closes:
        problem = "never opens"
    if high - low >= NARROW:
        return problem
    stays = "is constant" if high - low < CONSTANT else "stays in a narrow band"
    if low > CLOSES_BELOW and high < 1 - CLOSES_BELOW:
        stays += " between closed and open"
    return f"{problem}; it {stays}"


def _compute_following(
    episodes: Episodes,
    action: ActionSpec,
    state_names: Sequence[str],
) -> float | None:
    """Return how far the gripper moves over the run, as a share of how far it is commanded.

    None if the state has no gripper of that name, or the commands hardly move.
    """
    column = find_gripper_in_state(state_names, action)
    if column is None:
        return None
    low, high = sorted((action.gripper_closed, action.gripper_open))
    commands = np.concatenate([episode.action[:, action.gripper_index] for episode in episodes])
    states = np.concatenate([episode.state[:, column] for episode in episodes])
    commanded = _extent(commands.clip(low, high))
    if commanded < NARROW * (high - low):
        return None
    return _extent(states) / commanded


def _extent(values: Float[np.ndarray, " n"]) -> float:
    return float(np.ptp(np.percentile(values, BAND_PERCENTILES)))
