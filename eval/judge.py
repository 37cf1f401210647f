"""Decides from recorded trajectories how an episode ended, and at which step it went wrong.

A task is the conjunction of its goals, as in LIBERO's BDDL goals (Liu et al. 2023,
arXiv:2306.03310). The rest is this project's own: a verdict rests on one goal, and each kind of
goal has its rules and thresholds. `docs/outcomes.md` has the measurements, and how often a person
who watched the episodes agrees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.articulated_rules import judge_articulated, was_moved
from eval.outcome import Event, Outcome
from eval.pick_and_place_rules import (
    judge_lift,
    judge_pick_and_place,
    was_grasped,
    was_picked_up,
)
from eval.trajectory import Trajectory, Verdict, find_best, find_failed_stage, find_undoing, or_end
from eval.two_handed_lift_rules import judge_two_handed_lift
from eval.wiping_rules import judge_wiping
from sim.goals.articulated import ARTICULATED
from sim.goals.insert import INSERT
from sim.goals.lift import LIFT
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.goals.stack import STACK
from sim.goals.two_handed_lift import TWO_HANDED_LIFT
from sim.goals.wipe import WIPE


@dataclass(frozen=True)
class Rules:
    """The rules of one kind of goal.

    Attributes:
        judge: returns the verdict on an episode that did not succeed.
        was_begun: returns whether an episode has done anything about the goal.
    """

    judge: Callable[[Trajectory], Verdict]
    was_begun: Callable[[Trajectory], bool]


def judge(trajectory: Trajectory, success: bool) -> Verdict:
    """Return the verdict on an episode that ran to its end."""
    last_step = trajectory.last_step
    if success:
        return Verdict(
            Outcome.SUCCESS,
            None,
            last_step,
            last_step,
            Event.SUCCESS,
        )
    return _find_rules(trajectory).judge(trajectory)


def choose_goal(trajectories: Sequence[Trajectory], success: bool) -> int:
    """Return the index of the goal that the verdict rests on.

    On success it is the last goal. Otherwise it is the first that was begun and does not hold at
    the end. If none was begun, it is the first that does not hold. If all hold (but not for long
    enough to count), it is the last.
    """
    holds_at_end = [trajectory.met[-1] for trajectory in trajectories]
    unmet = [i for i, holds in enumerate(holds_at_end) if not holds]
    if success or not unmet:
        return len(trajectories) - 1
    return next((i for i in unmet if was_begun(trajectories[i])), unmet[0])


def was_begun(trajectory: Trajectory) -> bool:
    """Return whether an episode has done anything about a goal, by the rules of its kind."""
    return _find_rules(trajectory).was_begun(trajectory)


def judge_by_stages(trajectory: Trajectory) -> Verdict:
    """Return the verdict on an episode that did not succeed, for a kind without rules of its own.

    The outcome is a timeout. `find_failed_stage` says which stage failed.

    If the goal held at some time, the decisive step is where it no longer held. Otherwise it is
    where the distance measure of the kind was smallest, or the end if the kind has none.
    """
    last_step = trajectory.last_step
    step = last_step
    event = Event.END
    if trajectory.met.any():
        step, event = find_undoing(trajectory)
    elif trajectory.goal.nears:
        distance = trajectory.measures[trajectory.goal.nears]
        nearest = find_best(-distance, trajectory.goal.thresholds["stalled"])
        step, event = or_end(trajectory, nearest, Event.STALLED)
    return Verdict(
        Outcome.TIMEOUT,
        find_failed_stage(trajectory),
        last_step,
        step,
        event,
    )


def was_begun_by_stages(trajectory: Trajectory) -> bool:
    """Return whether any stage was met that was not met at the start."""
    return any(not holds[0] and bool(holds.any()) for holds in trajectory.stages.values())


# Name of the kind → its rules.
RULES: dict[str, Rules] = {
    PICK_AND_PLACE.name: Rules(judge_pick_and_place, was_picked_up),
    STACK.name: Rules(judge_pick_and_place, was_picked_up),
    INSERT.name: Rules(judge_pick_and_place, was_picked_up),
    LIFT.name: Rules(judge_lift, was_grasped),
    TWO_HANDED_LIFT.name: Rules(judge_two_handed_lift, was_grasped),
    ARTICULATED.name: Rules(judge_articulated, was_moved),
    WIPE.name: Rules(judge_wiping, was_begun_by_stages),
}
_GENERAL_RULES = Rules(judge_by_stages, was_begun_by_stages)


def _find_rules(trajectory: Trajectory) -> Rules:
    return RULES.get(trajectory.goal.kind, _GENERAL_RULES)
