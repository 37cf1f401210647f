"""Decides from its recorded trajectory alone how an episode ended, and at which step it went wrong.

A task is the conjunction of its goals, as LIBERO's BDDL goals are (Liu et al. 2023,
arXiv:2306.03310). Everything else is this project's own: that an episode rests on one goal, the
rules of each kind of goal, and their thresholds, which a goal carries. `docs/outcomes.md` has the
measurements, and how often a person who watched the episodes agrees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.articulated_rules import judge_articulated, was_moved
from eval.grasps import find_stretches
from eval.outcome import Event, Outcome
from eval.pick_and_place_rules import judge_pick_and_place, was_picked_up
from eval.trajectory import Trajectory, Verdict, find_best, or_end
from sim.goals.articulated import ARTICULATED
from sim.goals.pick_and_place import PICK_AND_PLACE


@dataclass(frozen=True)
class Rules:
    """Holds the questions that a verdict asks about a goal of one kind.

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
        return Verdict(Outcome.SUCCESS, None, last_step, last_step, Event.SUCCESS)
    return _find_rules(trajectory).judge(trajectory)


def choose_goal(trajectories: Sequence[Trajectory], success: bool) -> int:
    """Return the index of the goal that the verdict rests on.

    On success it is the last. Otherwise it is the first that was begun and does not hold at the
    end; if none was begun, the first that does not hold; and if all hold (but not for long enough
    to count), the last.
    """
    unmet = [i for i, trajectory in enumerate(trajectories) if not trajectory.met[-1]]
    if success or not unmet:
        return len(trajectories) - 1
    return next((i for i in unmet if was_begun(trajectories[i])), unmet[0])


def was_begun(trajectory: Trajectory) -> bool:
    """Return whether an episode has done anything about a goal, by the rules of its kind."""
    return _find_rules(trajectory).was_begun(trajectory)


def judge_by_stages(trajectory: Trajectory) -> Verdict:
    """Return the verdict on an episode that did not succeed, from what every kind declares.

    It is a timeout at the first stage that was never met; if each was met at some time, at the
    first that does not hold at the end; if all hold, at the last, which did not hold for long
    enough. It went wrong where the goal, which had held, did no more; else where the measure that
    the kind nears its goals by was as small as it ever was; without one, at the end.
    """
    stages, last_step = trajectory.stages, trajectory.last_step
    never = (name for name in stages if not trajectory.ever(name))
    lost = (name for name in stages if not trajectory.finally_(name))
    failed_stage = next(never, None) or next(lost, None) or next(reversed(stages), None)
    step, event = last_step, Event.END
    if trajectory.met.any():
        step, event = min(find_stretches(trajectory.met)[-1][1], last_step), Event.UNDONE
    elif trajectory.goal.nears:
        nearest = find_best(
            -trajectory.measures[trajectory.goal.nears], trajectory.goal.thresholds["stalled"]
        )
        step, event = or_end(trajectory, nearest, Event.STALLED)
    return Verdict(Outcome.TIMEOUT, failed_stage, last_step, step, event)


def was_begun_by_stages(trajectory: Trajectory) -> bool:
    """Return whether any stage was met that was not met at the start."""
    return any(bool((flags & ~flags[0]).any()) for flags in trajectory.stages.values())


# Name of the kind → its rules.
RULES: dict[str, Rules] = {
    PICK_AND_PLACE.name: Rules(judge_pick_and_place, was_picked_up),
    ARTICULATED.name: Rules(judge_articulated, was_moved),
}
_GENERAL_RULES = Rules(judge_by_stages, was_begun_by_stages)


def _find_rules(trajectory: Trajectory) -> Rules:
    return RULES.get(trajectory.goal.kind, _GENERAL_RULES)
