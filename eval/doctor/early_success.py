"""Checks that no episode succeeded without the policy."""

import numpy as np

from eval.doctor.finding import Finding, fail, fine, unknown
from eval.episode_arrays import EpisodeArrays, Episodes
from eval.episode_row import EpisodeRow, Rows

# A pick, a carry and a release take the scripted expert 3.6 s at least.
SHORTEST_SUCCESS_S = 1.0
# An object that moved less than this was not brought anywhere. A joint has to move by at least this
# share of its way.
UNMOVED_M = 0.01
UNMOVED_JOINT = 0.1


def check_early_success(
    rows: Rows,
    episodes: Episodes,
    control_dt_s: float,
) -> Finding:
    """Look for successes in which nothing moved, or that were faster than an arm can be.

    Args:
        episodes: the arrays of `rows`, in the same order.
    """
    check = "early success"
    suspects = []
    durations_s = []
    for row, episode in zip(rows, episodes, strict=True):
        if not row.success:
            continue
        duration_s = len(episode.action) * control_dt_s
        durations_s.append(duration_s)
        motion, is_enough = _describe_motion(row, episode)
        if not is_enough or duration_s < SHORTEST_SUCCESS_S:
            suspects.append(f"{describe_episode(row, rows)} after {duration_s:.2f} s, {motion}")
    n_success = len(durations_s)
    if not n_success:
        return unknown(check, "no success to look at", "0 successes")
    if not suspects:
        return fine(
            check,
            "each success took an arm's time and moved something",
            f"{n_success} successes: the shortest {min(durations_s):.1f} s",
        )
    return fail(
        check,
        "episodes succeed without the policy: at reset, or with nothing moved",
        f"{len(suspects)} of {n_success} successes; {'; '.join(suspects[:3])}",
        "The task's success condition holds at the start: look at its initial states.",
    )


def _describe_motion(row: EpisodeRow, episode: EpisodeArrays) -> tuple[str, bool]:
    """Return how far the joint, object or tool moved, and whether a success needs no more."""
    if episode.joint_progress is not None and row.final_joint_progress is not None:
        share = float(np.ptp(episode.joint_progress))
        return f"joint moved {100 * share:.0f} % of the way", share >= UNMOVED_JOINT
    name = "object"
    path = episode.object_pos_world
    if path is None or not episode.is_of_pick_and_place:
        name = "tool"
        path = episode.ee_pos_world
    distance_m = float(np.linalg.norm(path - path[0], axis=1).max())
    return f"{name} moved {distance_m:.3f} m", distance_m >= UNMOVED_M


def describe_episode(row: EpisodeRow, rows: Rows) -> str:
    """Return the name of an episode, with its task if the rows have several."""
    has_tasks = any(other.task != row.task for other in rows)
    name = f"episode {row.episode_index}"
    return f"{name} of {row.task!r}" if has_tasks else name
