"""The rules for an articulated goal.

It fails as a timeout, and its failed stage is the first word of its name, such as "open".
"""

from eval.outcome import Event, Outcome
from eval.trajectory import (
    Trajectory,
    Verdict,
    find_best,
    find_closest_approach,
    find_undoing,
    or_end,
)


def was_moved(trajectory: Trajectory) -> bool:
    """Return whether the joint was ever moved."""
    begun = trajectory.goal.thresholds["begun_joint_progress"]
    return bool((trajectory.measures["joint_progress"] > begun).any())


def judge_articulated(trajectory: Trajectory) -> Verdict:
    """Return the verdict on an episode that did not succeed."""
    step, event = _find_joint_event(trajectory)
    stage, *_ = trajectory.goal.name.split()
    return Verdict(
        Outcome.TIMEOUT,
        stage,
        trajectory.last_step,
        step,
        event,
    )


def _find_joint_event(trajectory: Trajectory) -> tuple[int, Event]:
    if trajectory.met.any():
        return find_undoing(trajectory)
    if not was_moved(trajectory):
        return find_closest_approach(trajectory)
    stalled = trajectory.goal.thresholds["stalled_joint_progress"]
    furthest = find_best(trajectory.measures["joint_progress"], stalled)
    return or_end(trajectory, furthest, Event.STALLED)
