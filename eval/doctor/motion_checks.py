"""What the actions asked for, and what the arm did: checks on the recorded arrays of a run.

Each threshold lies between what was measured on so101/pick_place with the scripted expert, the
shipped ACT and its early checkpoint ("healthy" below), and with the same ACT spoilt on purpose.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment

from eval.doctor.action_columns import comparable_columns, range_of
from eval.doctor.finding import TELL_APART, Finding, Level
from eval.recorder import EpisodeArrays
from sim.spec import ActionSpec

# So far outside, as a share of the range, an action counts: a healthy ACT asks for -0.5 to -2 of
# 0..100 to close the gripper.
FAR_OUTSIDE = 0.05
# Shares of the control steps. Healthy: 0 %; differences sent as targets: 45 %.
FAR_WARNING, FAR_ERROR = 0.05, 0.50
# Of the steps that are cut, by however little. Healthy: up to 23 %; normalised values sent as
# targets: 93 %.
CUT_WARNING = 0.50

# Path of the tool centre point in an episode. Zero: 0.0001 m; healthy: 0.5 m and more.
STILL_M = 0.01
# The share of an episode after which the tool stays so near to where it ends. Healthy: 0.74 and
# more, the expert that stops half way: 0.27; radians or normalised values sent as degrees: 0.03.
SETTLED_M, SETTLED_EARLY = 0.02, 0.10

# A servo needs a few control steps: the comparison is made with the best of these delays.
LAGS = range(6)
# A joint whose targets spread less than this share of its range says nothing by its correlation.
MOVING_SPREAD = 0.01
# Healthy: correlation 0.998, mean error 0.2 % of the range; random targets: 0.25, 25 %; a stale
# chunk: 0.80, 3 %.
FOLLOWING_CORRELATION, FOLLOWING_ERROR = 0.90, 0.05

# Distance from the first state to the first target, as a share of the joint's range. Healthy: 0.05;
# two joints swapped: 0.23; radians: 0.46; normalised values: 0.46.
FIRST_JUMP = 0.15
# First targets this much nearer to zero than the state are values of another kind. Differences:
# 0.14.
SMALL_VALUES = 0.25


def check_action_range(episodes: Sequence[EpisodeArrays], action: ActionSpec) -> Finding:
    """The share of control steps whose action lies outside of what the actuators take, and which joint's it is."""
    asked = np.concatenate([e.action for e in episodes])
    cut_share = float(np.concatenate([e.clipped for e in episodes]).mean())
    low, high = np.array(action.low), np.array(action.high)
    outside = np.maximum(low - asked, asked - high) / range_of(action)
    share = float((outside > FAR_OUTSIDE).any(axis=1).mean())
    worst = int(outside.clip(0.0, None).mean(axis=0).argmax())
    name = action.names[worst]
    evidence = (
        f"{100 * share:.0f} % of {len(asked)} steps are more than {100 * FAR_OUTSIDE:.0f} % of the range outside, "
        f"{100 * cut_share:.0f} % were cut at all; {name!r} most: {asked[:, worst].min():.4g} to "
        f"{asked[:, worst].max():.4g}, the actuator takes {low[worst]:.4g} to {high[worst]:.4g}"
    )
    hint = (
        f"Possible causes: other units than the environment's ({action.units[worst]}), actions left normalised, or a "
        f"joint at its limit. {TELL_APART}"
    )
    if share > FAR_WARNING:
        finding = f"actions leave the actuators' range and are cut, {name!r} most"
        return Finding(
            "executed actions",
            Level.ERROR if share > FAR_ERROR else Level.WARNING,
            finding,
            evidence,
            hint,
        )
    if cut_share > CUT_WARNING:
        finding = f"most actions are just outside the actuators' range, {name!r} most"
        return Finding("executed actions", Level.WARNING, finding, evidence, hint)
    return Finding(
        "executed actions", Level.OK, "the actions are what the actuators take", evidence
    )


def check_movement(episodes: Sequence[EpisodeArrays]) -> Finding:
    """The way that the tool centre point goes in an episode, m, and when it stops."""
    path_m = np.array(
        [np.linalg.norm(np.diff(e.ee_pos_world, axis=0), axis=1).sum() for e in episodes]
    )
    settled = np.median([_compute_settled_share(e.ee_pos_world) for e in episodes])
    travel = np.median([np.abs(np.diff(e.state, axis=0)).sum(axis=0).max() for e in episodes])
    median_m = float(np.median(path_m))
    evidence = (
        f"path of the tool: median {median_m:.4f} m an episode ({path_m.min():.4f} to {path_m.max():.4f}), within "
        f"{SETTLED_M} m of its end after {100 * settled:.0f} % of the time; the state that changes most travels "
        f"{travel:.4g}"
    )
    if median_m < STILL_M:
        return Finding(
            "movement",
            Level.WARNING,
            "the policy never moves the arm",
            evidence,
            "Look at the plans: constant, in other units (radians for degrees), or differences taken for targets?",
        )
    if settled < SETTLED_EARLY:
        return Finding(
            "movement",
            Level.WARNING,
            "the arm goes to one pose at the start and stays there",
            evidence,
            "Look at the plans: normalised values, radians or differences taken for targets look like this.",
        )
    return Finding("movement", Level.OK, "the arm moves", evidence)


def check_following(
    episodes: Sequence[EpisodeArrays], action: ActionSpec, state_names: Sequence[str]
) -> Finding:
    """Whether the state goes where the actions say: `state[t + 1 + lag]` against `action[t]`, joint by joint.

    The gripper is left out: an object between the jaws keeps it from its target.
    """
    columns, why_not = comparable_columns(action, state_names)
    if why_not:
        return Finding("following", Level.UNKNOWN, "plan and motion were not compared", why_not)
    moved = columns & (np.arange(action.dim) != action.gripper_index)
    index = np.flatnonzero(moved)
    span = range_of(action)[index]
    lag, target, reached = min(
        (_align(episodes, index, lag) for lag in LAGS),
        key=lambda a: float(np.abs((a[1] - a[2]) / span).mean()),
    )
    error = np.abs(target - reached).mean(axis=0)
    correlation = _correlate(target, reached, target.std(axis=0) > MOVING_SPREAD * span)
    badness = np.fmax(
        (1 - correlation) / (1 - FOLLOWING_CORRELATION), error / span / FOLLOWING_ERROR
    )
    worst = int(badness.argmax())
    name, unit = action.names[index[worst]], action.units[index[worst]]
    evidence = (
        f"{name!r} follows least: correlation {_listed(correlation[[worst]])}, mean error {error[worst]:.3g} {unit} of "
        f"a range of {span[worst]:.4g}; all joints, {lag} steps after: correlation {_listed(correlation)}, "
        f"mean error {_listed(error)}"
    )
    if badness[worst] <= 1:
        return Finding("following", Level.OK, "the arm goes where the actions say", evidence)
    return Finding(
        "following",
        Level.WARNING,
        f"the arm does not go where the actions say, {name!r} least",
        evidence,
        "Targets are cut (see 'executed actions'), blocked by something, or jump further in a step than a servo goes.",
    )


def check_first_action(
    episodes: Sequence[EpisodeArrays], action: ActionSpec, state_names: Sequence[str]
) -> Finding:
    """How far the first target lies from where the arm is: units, joint order and a stale queue show at once."""
    columns, why_not = comparable_columns(action, state_names)
    if why_not:
        return Finding(
            "first action",
            Level.UNKNOWN,
            "the first action was not compared with the state",
            why_not,
        )
    first = np.stack([e.action[0] for e in episodes])
    state = np.stack([e.state[0] for e in episodes])
    jump = np.where(columns, np.median(np.abs(first - state), axis=0) / range_of(action), 0.0)
    worst = int(jump.argmax())
    name = action.names[worst]
    evidence = (
        f"{name!r} starts at {np.median(state[:, worst]):.4g} and is first sent to {np.median(first[:, worst]):.4g} "
        f"{action.units[worst]}; median distances: {_listed(100 * jump)} % of the ranges"
    )
    if jump[worst] <= FIRST_JUMP:
        return Finding(
            "first action", Level.OK, "the first action begins where the arm is", evidence
        )
    reason = _explain_jump(np.median(first, axis=0), np.median(state, axis=0), columns, action)
    return Finding(
        "first action",
        Level.WARNING,
        f"the first action is far from where the arm is, {name!r} most{reason}",
        evidence,
        "Check the units, the joint order, absolute against delta, and that the policy is reset between episodes.",
    )


def _compute_settled_share(pos_m: Float[np.ndarray, "T1 3"]) -> float:
    """The share of the episode after which it stays within `SETTLED_M` of its last position; 0 if it never leaves."""
    away = np.flatnonzero(np.linalg.norm(pos_m - pos_m[-1], axis=1) > SETTLED_M)
    return float(away.max() + 1) / (len(pos_m) - 1) if len(away) else 0.0


def _align(
    episodes: Sequence[EpisodeArrays], index: np.ndarray, lag: int
) -> tuple[int, np.ndarray, np.ndarray]:
    """The delay, then what was asked and what was reached so many steps after, `(steps, joints)` both."""
    n_steps = [max(len(e.action) - lag, 0) for e in episodes]
    target = np.concatenate([e.action[:n] for e, n in zip(episodes, n_steps, strict=True)])
    reached = np.concatenate(
        [e.state[1 + lag : 1 + lag + n] for e, n in zip(episodes, n_steps, strict=True)]
    )
    if len(target) == 0:
        return _align(episodes, index, 0)
    return lag, target[:, index].astype(np.float64), reached[:, index].astype(np.float64)


def _correlate(
    target: Float[np.ndarray, "step joint"],
    reached: Float[np.ndarray, "step joint"],
    moves: Bool[np.ndarray, " joint"],
) -> Float[np.ndarray, " joint"]:
    """Pearson's r of each joint; nan where the target hardly moves, 0 where only the joint does not."""
    target, reached = target - target.mean(axis=0), reached - reached.mean(axis=0)
    norm = np.sqrt((target**2).sum(axis=0) * (reached**2).sum(axis=0))
    r = (target * reached).sum(axis=0) / np.where(norm > 0, norm, 1.0)
    return np.where(moves, r, np.nan)


def _explain_jump(
    first: Float[np.ndarray, " action_dim"],
    state: Float[np.ndarray, " action_dim"],
    columns: Bool[np.ndarray, " action_dim"],
    action: ActionSpec,
) -> str:
    """What would make first targets of a first state: another order, or values of another kind.

    "" if neither.
    """
    index = np.flatnonzero(columns & (np.arange(action.dim) != action.gripper_index))
    first, state = first[index], state[index]
    distance = np.abs(first[:, None] - state) / range_of(action)[index, None]
    _, match = linear_sum_assignment(distance)
    far = np.flatnonzero(distance.diagonal() > FIRST_JUMP)
    # The joints that are far off are one another's, and then none is far off.
    if (
        len(far) > 1
        and set(match[far]) == set(far)
        and distance[far, match[far]].max() <= FIRST_JUMP
    ):
        names = [action.names[i] for i in index]
        order = ", ".join(f"{names[i]!r} gets what {names[match[i]]!r} should" for i in far)
        return f": the joints are in another order ({order})"
    if np.linalg.norm(first) < SMALL_VALUES * np.linalg.norm(state):
        return ": values near zero look like radians, normalised values or differences, taken for targets"
    return ""


def _listed(values: Float[np.ndarray, " joint"]) -> str:
    return " ".join("-" if np.isnan(v) else f"{v:.3g}" for v in values)
