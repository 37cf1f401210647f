"""What the policy planned: whether its action chunks depend on the situation, and fit to one another.

Thresholds lie between the shipped ACT with its early checkpoint (healthy) and the same ACT spoilt
on purpose, both on so101/pick_place.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from eval.doctor.action_columns import linear_columns, range_of
from eval.doctor.finding import TELL_APART, Finding, Level
from eval.recorder import EpisodeArrays
from sim.spec import ActionSpec

# Standard deviation over all plans, as a share of the actuators' range. Healthy: 0.12; normalised
# values: 0.002.
PLAN_SPREAD = 0.01
# Of it, what lies between episodes at the same prediction. Healthy: 0.22 to 0.70; no images: 0.000.
EPISODE_SPREAD = 0.03
# Objects of different episodes that lie nearer than this to each other need no different plans.
OBJECT_SPREAD_M = 0.005

# Between two chunks the target may jump by so many usual steps, or by this share of the actuators'
# range (2-norm over the joints). Healthy: ratio 1.6 and 4.3, jump 0.02 and 0.05; one chunk too
# late: 41, 0.39; joints swapped: 17, 0.17.
JUMP_RATIO, JUMP_SHARE = 10.0, 0.10


def check_plan_spread(episodes: Sequence[EpisodeArrays], action: ActionSpec) -> Finding:
    """How much the plans differ at all, and between episodes: a policy that regressed to the mean always plans it."""
    check = "plan spread"
    columns = np.flatnonzero(linear_columns(action))
    plans = [e.chunk[:, :, columns] / range_of(action)[columns] for e in episodes]
    n_plans = sum(map(len, plans))
    if n_plans < 2:
        return Finding(
            check, Level.UNKNOWN, "the plans were not compared", f"there are only {n_plans}"
        )
    spread = _compute_spread(np.concatenate(plans))
    between = _compute_spread_between(plans)
    share = between / spread if spread > 0 else 0.0
    states = np.concatenate([e.state for e in episodes]).std(axis=0).max()
    evidence = (
        f"{n_plans} plans differ by {100 * spread:.2f} % of the actuators' range (standard deviation), of which "
        f"{100 * share:.1f} % between episodes at the same prediction; the state that changes most has {states:.3g}"
    )
    if spread < PLAN_SPREAD:
        return Finding(
            check,
            Level.WARNING,
            "all plans are nearly the same, whatever the situation",
            evidence,
            "Possible causes: images or statistics that are not those of the training, actions left normalised, or a "
            f"training that learned the mean. {TELL_APART}",
        )
    if share < EPISODE_SPREAD and _compute_object_spread_m(episodes) > OBJECT_SPREAD_M:
        return Finding(
            check,
            Level.WARNING,
            "the plans are the same in every episode, though the object lies elsewhere",
            evidence,
            "Possible causes: cameras (names, order, orientation), the normalisation of the images, or a training that "
            f"learned the mean. {TELL_APART}",
        )
    return Finding(check, Level.OK, "the plans depend on the situation", evidence)


def check_hand_over(episodes: Sequence[EpisodeArrays], action: ActionSpec) -> Finding:
    """The jump from the last executed action of a chunk to the first of the next, against the steps within chunks."""
    check = "hand-over"
    if action.mode != "absolute":
        return Finding(
            check,
            Level.UNKNOWN,
            "chunk hand-overs were not compared",
            "the actions are differences",
        )
    columns = np.flatnonzero(linear_columns(action))
    jumps, steps = [], []
    for episode in episodes:
        size = np.linalg.norm(
            np.diff(episode.action[:, columns], axis=0) / range_of(action)[columns], axis=1
        )
        is_jump = np.isin(np.arange(1, len(episode.action)), episode.prediction_step)
        jumps.append(size[is_jump])
        steps.append(size[~is_jump])
    jump, step = np.concatenate(jumps), np.concatenate(steps)
    if len(jump) == 0 or len(step) == 0:
        numbers = f"{len(jump)} hand-overs, {len(step)} steps within chunks"
        return Finding(check, Level.UNKNOWN, "chunk hand-overs were not compared", numbers)
    jump_share, step_share = float(np.median(jump)), float(np.median(step))
    evidence = (
        f"median jump between chunks {100 * jump_share:.2g} % of the actuators' range, between the steps of a chunk "
        f"{100 * step_share:.2g} %; {len(jump)} hand-overs"
    )
    if jump_share <= JUMP_SHARE or jump_share <= JUMP_RATIO * step_share:
        return Finding(check, Level.OK, "each chunk goes on where the last one ended", evidence)
    return Finding(
        check,
        Level.WARNING,
        "the target jumps from chunk to chunk",
        evidence,
        "Possible causes: a stale queue, a missing reset, or plans that do not begin at the state. "
        "Compare with fewer --n-action-steps.",
    )


def check_first_plan(episodes: Sequence[EpisodeArrays]) -> Finding:
    """Whether episodes with different objects begin with the very same plan, bit for bit."""
    check = "first plan"
    spread_m = _compute_object_spread_m(episodes)
    n_plans, n_distinct = len(episodes), len({e.chunk[0].tobytes() for e in episodes})
    evidence = f"{n_distinct} distinct first plans in {n_plans} episodes, whose objects lie {spread_m:.3f} m apart"
    if n_plans < 2 or spread_m <= OBJECT_SPREAD_M:
        return Finding(
            check,
            Level.UNKNOWN,
            "first plans were not compared: the episodes begin alike",
            evidence,
        )
    if n_distinct == n_plans:
        return Finding(check, Level.OK, "every episode has a first plan of its own", evidence)
    return Finding(
        check,
        Level.ERROR if n_distinct == 1 else Level.WARNING,
        "episodes begin with exactly the same plan: the policy ignores its observation, or its queue is stale",
        evidence,
        "Check that the images reach the network (names, normalisation) and that the policy is reset.",
    )


def _compute_spread(plans: Float[np.ndarray, "plan horizon dim"]) -> float:
    """Root mean square, over horizon and dimensions, of the standard deviation over the plans."""
    return float(np.sqrt(plans.var(axis=0).mean()))


def _compute_spread_between(plans: Sequence[Float[np.ndarray, "_ horizon dim"]]) -> float:
    """The same over the plans of one prediction index, one an episode; pooled over the indices.

    0 if none has two.
    """
    alike = [np.stack([p[k] for p in plans if len(p) > k]) for k in range(max(map(len, plans)))]
    alike = [group for group in alike if len(group) > 1]
    n = sum(map(len, alike))
    return float(np.sqrt(sum(len(g) * _compute_spread(g) ** 2 for g in alike) / n)) if n else 0.0


def _compute_object_spread_m(episodes: Sequence[EpisodeArrays]) -> float:
    """Return the largest extent, along an axis, of where the object lies at the start; 0 if a goal is about none."""
    starts = [path[0] for e in episodes if (path := e.object_pos_world) is not None]
    return float(np.ptp(starts, axis=0).max()) if len(starts) == len(episodes) else 0.0
