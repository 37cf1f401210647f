"""Compares what the actions asked for with what the arm did, in the recorded arrays of a run.

Each threshold lies between the values measured on so101/pick_place with the scripted expert, the
shipped ACT and its early checkpoint ("healthy" below), and those of the same ACT with a planted
bug.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from eval.doctor.action_columns import body_columns, comparable_columns, range_of
from eval.doctor.finding import FIND_THE_CAUSE, Finding, fail, fine, unknown, warn
from eval.episode_arrays import Episodes
from sim.spec import ActionSpec

# An action counts as far outside by this share of the range: a healthy ACT asks for -0.5 to -2 of
# 0..100 to close the gripper.
FAR_OUTSIDE = 0.05
# Shares of the control steps that are far outside. Healthy: 0 %; differences sent as targets: 45 %.
FAR_WARNING = 0.05
FAR_ERROR = 0.50
# Share of the steps that are clipped, by however little. Healthy: up to 23 %; normalised values
# sent as targets: 93 %.
CUT_WARNING = 0.50

# Path of the tool centre point in an episode. Zero: 0.0001 m; healthy: 0.5 m and more.
STILL_M = 0.01
# Share of an episode after which the tool stays this near to its last position. Healthy: 0.74 and
# more, an expert that stops half way: 0.27; radians or normalised values sent as degrees: 0.03.
SETTLED_M = 0.02
SETTLED_EARLY = 0.10

# A servo needs a few control steps, so the comparison uses the best of these delays.
LAGS = range(6)
# If a joint's targets spread less than this share of its range, its correlation says nothing.
MOVING_SPREAD = 0.01
# Healthy: correlation 0.998, mean error 0.2 % of the range; random targets: 0.25, 25 %; a stale
# chunk: 0.80, 3 %.
FOLLOWING_CORRELATION = 0.90
FOLLOWING_ERROR = 0.05

# Distance from the first state to the first target, as a share of the joint's range. Healthy: 0.05;
# two joints swapped: 0.23; radians: 0.46; normalised values: 0.46.
FIRST_JUMP = 0.15
# First targets that are this much nearer to zero than the state are in another unit, or are
# differences, which have 0.14.
SMALL_VALUES = 0.25


def check_action_range(episodes: Episodes, action: ActionSpec) -> Finding:
    """Check how many actions lie outside the actuators' range, and name the worst joint."""
    check = "executed actions"
    asked = np.concatenate([episode.action for episode in episodes])
    is_cut = np.concatenate([episode.clipped for episode in episodes])
    cut_share = float(is_cut.mean())
    low = np.array(action.low)
    high = np.array(action.high)
    excess = np.maximum(low - asked, asked - high) / range_of(action)
    far_share = float((excess > FAR_OUTSIDE).any(axis=1).mean())
    worst = int(excess.clip(0.0, None).mean(axis=0).argmax())
    name = action.names[worst]
    of_worst = asked[:, worst]
    evidence = (
        f"{100 * far_share:.0f} % of {len(asked)} steps are more than {100 * FAR_OUTSIDE:.0f} % of "
        f"the range outside, {100 * cut_share:.0f} % were clipped at all; {name!r} most: "
        f"{of_worst.min():.4g} to {of_worst.max():.4g}, the actuator takes "
        f"{low[worst]:.4g} to {high[worst]:.4g}"
    )
    hint = (
        f"Possible causes: other units than the environment's ({action.units[worst]}), actions "
        f"left normalised, or a joint at its limit. {FIND_THE_CAUSE}"
    )
    if far_share > FAR_WARNING:
        report = fail if far_share > FAR_ERROR else warn
        return report(
            check,
            f"actions leave the actuators' range and are clipped, {name!r} most",
            evidence,
            hint,
        )
    if cut_share > CUT_WARNING:
        return warn(
            check,
            f"most actions are just outside the actuators' range, {name!r} most",
            evidence,
            hint,
        )
    return fine(check, "the actions are in the actuators' range", evidence)


def check_movement(episodes: Episodes) -> Finding:
    """Check that the tool centre point moves, and that it does not stop at once."""
    path_m = np.array([_compute_path_m(episode.ee_pos_world) for episode in episodes])
    settled = np.median([_compute_settled_share(episode.ee_pos_world) for episode in episodes])
    travel = np.median([_compute_largest_travel(episode.state) for episode in episodes])
    median_m = float(np.median(path_m))
    evidence = (
        f"path of the tool: median {median_m:.4f} m an episode ({path_m.min():.4f} to "
        f"{path_m.max():.4f}), within {SETTLED_M} m of its end after {100 * settled:.0f} % of the "
        f"time; the state that changes most travels {travel:.4g}"
    )
    if median_m < STILL_M:
        return warn(
            "movement",
            "the policy never moves the arm",
            evidence,
            (
                "Look at the plans: are they constant, in other units (radians for degrees), "
                "or differences taken for targets?"
            ),
        )
    if settled < SETTLED_EARLY:
        return warn(
            "movement",
            "the arm goes to one pose at the start and stays there",
            evidence,
            (
                "Look at the plans: normalised values, radians or differences taken for targets "
                "have this effect."
            ),
        )
    return fine("movement", "the arm moves", evidence)


def check_following(
    episodes: Episodes,
    action: ActionSpec,
    state_names: Sequence[str],
) -> Finding:
    """Check that the state follows the actions: `state[t + 1 + lag]` against `action[t]`.

    Each joint is compared but the gripper: an object between the jaws keeps it from its target.
    """
    columns, why_not = comparable_columns(action, state_names)
    if why_not:
        return unknown("following", "plan and motion were not compared", why_not)
    index = np.flatnonzero(columns & body_columns(action))
    span = range_of(action)[index]
    motions = [_align(episodes, index, lag) for lag in LAGS]
    best = min(motions, key=lambda motion: float((motion.error / span).mean()))
    error = best.error.mean(axis=0)
    correlation = _correlate(best, best.target.std(axis=0) > MOVING_SPREAD * span)
    by_correlation = (1 - correlation) / (1 - FOLLOWING_CORRELATION)
    by_error = error / span / FOLLOWING_ERROR
    badness = np.fmax(by_correlation, by_error)
    worst = int(badness.argmax())
    name = action.names[index[worst]]
    unit = action.units[index[worst]]
    evidence = (
        f"{name!r} follows least: correlation {_listed(correlation[[worst]])}, mean error "
        f"{error[worst]:.3g} {unit} of a range of {span[worst]:.4g}; all joints, {best.lag} steps "
        f"after: correlation {_listed(correlation)}, mean error {_listed(error)}"
    )
    if badness[worst] <= 1:
        return fine("following", "the arm goes where the actions say", evidence)
    return warn(
        "following",
        f"the arm does not go where the actions say, {name!r} least",
        evidence,
        (
            "Targets are clipped (see 'executed actions'), blocked by something, "
            "or jump further in a step than a servo goes."
        ),
    )


def check_first_action(
    episodes: Episodes,
    action: ActionSpec,
    state_names: Sequence[str],
) -> Finding:
    """Check that the first target is near the arm's state.

    If it is far, units, joint order or a stale queue may be wrong.
    """
    columns, why_not = comparable_columns(action, state_names)
    if why_not:
        return unknown("first action", "the first action was not compared with the state", why_not)
    first = np.stack([episode.action[0] for episode in episodes])
    state = np.stack([episode.state[0] for episode in episodes])
    distance = np.median(np.abs(first - state), axis=0) / range_of(action)
    jump = np.where(columns, distance, 0.0)
    worst = int(jump.argmax())
    name = action.names[worst]
    median_first = np.median(first, axis=0)
    median_state = np.median(state, axis=0)
    evidence = (
        f"{name!r} starts at {median_state[worst]:.4g} and is first sent to "
        f"{median_first[worst]:.4g} {action.units[worst]}; median distances: {_listed(100 * jump)} "
        "% of the ranges"
    )
    if jump[worst] <= FIRST_JUMP:
        return fine("first action", "the first action begins where the arm is", evidence)
    reason = _explain_jump(median_first, median_state, columns, action)
    return warn(
        "first action",
        f"the first action is far from where the arm is, {name!r} most{reason}",
        evidence,
        (
            "Check the units, the joint order, absolute against delta, "
            "and that the policy is reset between episodes."
        ),
    )


def _compute_path_m(pos_m: Float[np.ndarray, "T1 3"]) -> np.floating:
    return np.linalg.norm(np.diff(pos_m, axis=0), axis=1).sum()


def _compute_largest_travel(state: np.ndarray) -> np.floating:
    """Return the path length of the state number that changes most."""
    return np.abs(np.diff(state, axis=0)).sum(axis=0).max()


def _compute_settled_share(pos_m: Float[np.ndarray, "T1 3"]) -> float:
    """Return the share of the episode after which it stays within `SETTLED_M` of its end.

    It is 0 if the tool never leaves.
    """
    distance_m = np.linalg.norm(pos_m - pos_m[-1], axis=1)
    away = np.flatnonzero(distance_m > SETTLED_M)
    if not len(away):
        return 0.0
    return float(away.max() + 1) / (len(pos_m) - 1)


@dataclass(frozen=True)
class _Motion:
    """Holds what was commanded, and what was reached `lag` steps later."""

    lag: int
    target: Float[np.ndarray, "step joint"]
    reached: Float[np.ndarray, "step joint"]

    @property
    def error(self) -> Float[np.ndarray, "step joint"]:
        return np.abs(self.target - self.reached)


def _align(episodes: Episodes, index: np.ndarray, lag: int) -> _Motion:
    """Return the motion at that lag, or without lag if all episodes are too short for it."""
    targets = []
    reached = []
    for episode in episodes:
        n_steps = max(len(episode.action) - lag, 0)
        targets.append(episode.action[:n_steps])
        reached.append(episode.state[1 + lag : 1 + lag + n_steps])
    target = np.concatenate(targets)
    if not len(target):
        return _align(episodes, index, 0)
    target = target[:, index].astype(np.float64)
    return _Motion(lag, target, np.concatenate(reached)[:, index].astype(np.float64))


def _correlate(
    motion: _Motion,
    is_moving: Bool[np.ndarray, " joint"],
) -> Float[np.ndarray, " joint"]:
    """Return Pearson's r of each joint.

    It is nan if the target hardly moves, and 0 if only the joint does not move.
    """
    target = motion.target - motion.target.mean(axis=0)
    reached = motion.reached - motion.reached.mean(axis=0)
    norm = np.sqrt((target**2).sum(axis=0) * (reached**2).sum(axis=0))
    r = (target * reached).sum(axis=0) / np.where(norm > 0, norm, 1.0)
    return np.where(is_moving, r, np.nan)


def _explain_jump(
    first: Float[np.ndarray, " action_dim"],
    state: Float[np.ndarray, " action_dim"],
    columns: Bool[np.ndarray, " action_dim"],
    action: ActionSpec,
) -> str:
    """Return why the first targets are far from the first state; "" if unknown.

    The joints may be in another order, or the targets in another unit.
    """
    from scipy.optimize import linear_sum_assignment  # takes a second to import

    index = np.flatnonzero(columns & body_columns(action))
    first = first[index]
    state = state[index]
    distance = np.abs(first[:, None] - state) / range_of(action)[index, None]
    _, match = linear_sum_assignment(distance)
    far = np.flatnonzero(distance.diagonal() > FIRST_JUMP)
    if len(far) > 1 and set(match[far]) == set(far):
        # The joints that are far off are each other's, and exchanging them leaves none far off.
        left = distance[far, match[far]].max()
        if left <= FIRST_JUMP:
            names = [action.names[i] for i in index]
            order = ", ".join(f"{names[i]!r} gets what {names[match[i]]!r} should" for i in far)
            return f": the joints are in another order ({order})"
    if np.linalg.norm(first) < SMALL_VALUES * np.linalg.norm(state):
        return (
            ": values near zero look like radians, normalised values or differences, "
            "taken for targets"
        )
    return ""


def _listed(values: Float[np.ndarray, " joint"]) -> str:
    return " ".join("-" if np.isnan(value) else f"{value:.3g}" for value in values)
