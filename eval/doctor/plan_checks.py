"""Checks of the recorded action chunks: they depend on the situation, and continue each other.

Thresholds lie between the values of the shipped ACT and its early checkpoint ("healthy"), and those
of the same ACT with a planted bug, all on so101/pick_place.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from eval.doctor.action_columns import linear_columns, range_of
from eval.doctor.finding import FIND_THE_CAUSE, Finding, fail, fine, unknown, warn
from eval.episode_arrays import Episodes
from sim.spec import ActionSpec

# Standard deviation over all plans, as a share of the actuators' range. Healthy: 0.12; normalised
# values: 0.002.
PLAN_SPREAD = 0.01
# The share of it between episodes at the same prediction. Healthy: 0.22 to 0.70; no images: 0.000.
EPISODE_SPREAD = 0.03
# Episodes whose objects lie nearer to each other than this need no different plans.
OBJECT_SPREAD_M = 0.005

# Between two chunks the target may jump by this many usual steps, or by this share of the
# actuators' range (2-norm over the joints). Healthy: ratio 1.6 and 4.3, jump 0.02 and 0.05; one
# chunk too late: 41, 0.39; joints swapped: 17, 0.17.
JUMP_RATIO = 10.0
JUMP_SHARE = 0.10


def check_plan_spread(episodes: Episodes, action: ActionSpec) -> Finding:
    """Check how much the plans differ at all, and between episodes.

    A policy that regressed to the mean always plans the mean.
    """
    check = "plan spread"
    columns = np.flatnonzero(linear_columns(action))
    span = range_of(action)[columns]
    plans = [episode.chunk[:, :, columns] / span for episode in episodes]
    n_plans = sum(len(of_episode) for of_episode in plans)
    if n_plans < 2:
        return unknown(check, "the plans were not compared", f"there are only {n_plans}")
    spread = _compute_spread(np.concatenate(plans))
    between = _compute_spread_between(plans)
    share = between / spread if spread > 0 else 0.0
    states = np.concatenate([episode.state for episode in episodes])
    evidence = (
        f"{n_plans} plans differ by {100 * spread:.2f} % of the actuators' range (standard "
        f"deviation), of which {100 * share:.1f} % between episodes at the same prediction; "
        f"the state that changes most has {states.std(axis=0).max():.3g}"
    )
    if spread < PLAN_SPREAD:
        return warn(
            check,
            "all plans are nearly the same, whatever the situation",
            evidence,
            (
                "Possible causes: images or statistics that are not those of the training, actions "
                f"left normalised, or a training that learned the mean. {FIND_THE_CAUSE}"
            ),
        )
    if share < EPISODE_SPREAD and _compute_object_spread_m(episodes) > OBJECT_SPREAD_M:
        return warn(
            check,
            "the plans are the same in every episode, though the object lies elsewhere",
            evidence,
            (
                "Possible causes: cameras (names, order, orientation), the normalisation of the "
                f"images, or a training that learned the mean. {FIND_THE_CAUSE}"
            ),
        )
    return fine(check, "the plans depend on the situation", evidence)


def check_hand_over(episodes: Episodes, action: ActionSpec) -> Finding:
    """Compare the jumps between consecutive chunks with the steps within chunks.

    A jump is from the last executed action of a chunk to the first action of the next.
    """
    check = "hand-over"
    not_compared = "chunk hand-overs were not compared"
    if action.mode != "absolute":
        return unknown(check, not_compared, "the actions are differences")
    columns = np.flatnonzero(linear_columns(action))
    span = range_of(action)[columns]
    jumps = []
    steps = []
    for episode in episodes:
        difference = np.diff(episode.action[:, columns], axis=0) / span
        size = np.linalg.norm(difference, axis=1)
        is_jump = np.isin(np.arange(1, len(episode.action)), episode.prediction_step)
        jumps.append(size[is_jump])
        steps.append(size[~is_jump])
    jump = np.concatenate(jumps)
    step = np.concatenate(steps)
    if not len(jump) or not len(step):
        return unknown(
            check,
            not_compared,
            f"{len(jump)} hand-overs, {len(step)} steps within chunks",
        )
    jump_share = float(np.median(jump))
    step_share = float(np.median(step))
    evidence = (
        f"median jump between chunks {100 * jump_share:.2g} % of the actuators' range, between "
        f"the steps of a chunk {100 * step_share:.2g} %; {len(jump)} hand-overs"
    )
    if jump_share <= JUMP_SHARE or jump_share <= JUMP_RATIO * step_share:
        return fine(check, "each chunk goes on where the last one ended", evidence)
    return warn(
        check,
        "the target jumps from chunk to chunk",
        evidence,
        (
            "Possible causes: a stale queue, a missing reset, or plans that do not begin at the "
            "state. Compare with fewer --n-action-steps."
        ),
    )


def check_first_plan(episodes: Episodes) -> Finding:
    """Check that episodes with different objects do not begin with the same plan, bit for bit."""
    check = "first plan"
    spread_m = _compute_object_spread_m(episodes)
    n_plans = len(episodes)
    n_distinct = len({episode.chunk[0].tobytes() for episode in episodes})
    evidence = (
        f"{n_distinct} distinct first plans in {n_plans} episodes, "
        f"whose objects lie {spread_m:.3f} m apart"
    )
    if n_plans < 2 or spread_m <= OBJECT_SPREAD_M:
        return unknown(
            check,
            "first plans were not compared: the episodes begin alike",
            evidence,
        )
    if n_distinct == n_plans:
        return fine(check, "every episode has a first plan of its own", evidence)
    report = fail if n_distinct == 1 else warn
    return report(
        check,
        (
            "episodes begin with exactly the same plan: the policy ignores its observation, "
            "or its queue is stale"
        ),
        evidence,
        (
            "Check that the images reach the network (names, normalisation) "
            "and that the policy is reset."
        ),
    )


def _compute_spread(plans: Float[np.ndarray, "plan horizon dim"]) -> float:
    """Return the standard deviation over the plans: the RMS of it over horizon and dimensions."""
    return float(np.sqrt(plans.var(axis=0).mean()))


def _compute_spread_between(plans: Sequence[Float[np.ndarray, "_ horizon dim"]]) -> float:
    """Return the spread of plans of different episodes at the same prediction index.

    It is pooled over the indices that two or more episodes have; 0 if there is none.

    Args:
        plans: of each episode.
    """
    n = 0
    sum_of_squares = 0.0
    for k in range(max(len(of_episode) for of_episode in plans)):
        alike = [of_episode[k] for of_episode in plans if len(of_episode) > k]
        if len(alike) > 1:
            n += len(alike)
            sum_of_squares += len(alike) * _compute_spread(np.stack(alike)) ** 2
    return float(np.sqrt(sum_of_squares / n)) if n else 0.0


def _compute_object_spread_m(episodes: Episodes) -> float:
    """Return the largest extent, along an axis, of the objects' start positions.

    It is 0 if the goals of an episode concern no object.
    """
    starts = find_starts(episodes)
    return float(np.ptp(starts, axis=0).max()) if starts else 0.0


def find_starts(episodes: Episodes) -> list[Float[np.ndarray, "3"]]:
    """Return the start positions of the objects; [] if an episode's goals concern no object."""
    paths = [episode.object_pos_world for episode in episodes]
    starts = [path[0] for path in paths if path is not None]
    return starts if len(starts) == len(paths) else []
