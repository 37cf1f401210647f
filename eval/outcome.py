"""Decides from its recorded trajectory alone how an episode ended, and at which step it went wrong.

A task is the conjunction of its goals, as LIBERO's BDDL goals are (Liu et al. 2023, arXiv:2306.03310). Everything else
is this project's own: that an episode rests on one goal, the rules, and their thresholds, which were measured on
recorded episodes. `docs/outcomes.md` has the measurements, and how often a person who watched the episodes agrees.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float64

from eval.grasps import Grasp, find_closings, find_grasps, find_stretches
from sim.env import STAGES

# The version of the rules below. Rows that other rules made are not comparable, so `run.json` says which made them.
# Rules 1 took a single moment of contact for a grasp and 5 cm for a pick-up, and had no decisive step.
OUTCOME_RULES = 2


class Outcome(StrEnum):
    """Names how an episode ended. `ERROR` is a crash of environment or policy, never a failure of the policy."""

    SUCCESS = "success"
    NEVER_PICKED_UP = "never_picked_up"
    DROPPED_DURING_TRANSPORT = "dropped_during_transport"
    MISSED_GOAL = "missed_goal"
    TIMEOUT = "timeout"
    ERROR = "error"


class Event(StrEnum):
    """Names what happened at the decisive step.

    Pick and place:

    - `LOST_GRASP`: the object left a gripper that was commanded closed.
    - `LET_GO`: the object left a gripper that was commanded open.
    - `CLOSED_ON_NOTHING`: the gripper had closed near the object and did not hold it.
    - `NOT_LIFTED`: a grasp began that lasted to the end and never lifted the object.
    - `NOT_RELEASED`: the object came over the goal, and was held there to the end.

    Either kind of goal:

    - `CLOSEST_APPROACH`: the gripper came as near to the object, or to the part to be moved, as it ever did.
    - `STALLED`: the carried object came as near to the goal and as high, or the joint moved as far, as it ever did.
    - `UNDONE`: the goal had held, and did no more.
    - `END`: time was up while the episode was still getting on.
    """

    SUCCESS = "success"
    LOST_GRASP = "lost_grasp"
    LET_GO = "let_go"
    CLOSED_ON_NOTHING = "closed_on_nothing"
    NOT_LIFTED = "not_lifted"
    NOT_RELEASED = "not_released"
    CLOSEST_APPROACH = "closest_approach"
    STALLED = "stalled"
    UNDONE = "undone"
    END = "end"
    ERROR = "error"


@dataclass(frozen=True)
class OutcomeThresholds:
    """The numbers in the rules. Heights are above where the object rests at reset.

    Attributes:
        held_steps: moments of contact with both jaws that make a grasp.
        raised_m: a shorter contact is a grasp all the same if it raises the object by this much.
        closing_steps: control steps of a closing command that make a closing. By then the jaws are shut.
        dropped_m: an object that is lower than this after it was carried has come down.
        near_goal_m: horizontal distance from the goal's middle within which an object was put beside the goal.
        near_gripper_m: distance from the tool centre point to the object within which a closing was meant for it.
        begun_joint_progress: an articulated goal whose joint was ever further than this was begun.
        stalled_steps: control steps without progress before the end that tell a stalled episode from one that was cut
            short.
        stalled_m: coming nearer, or higher, by less than this is no progress.
        stalled_joint_progress: likewise, of a joint's progress.
    """

    held_steps: int = 10
    raised_m: float = 0.02
    closing_steps: int = 5
    dropped_m: float = 0.03
    near_goal_m: float = 0.12
    near_gripper_m: float = 0.05
    begun_joint_progress: float = 0.1
    stalled_steps: int = 30
    stalled_m: float = 0.005
    stalled_joint_progress: float = 0.02


DEFAULT_THRESHOLDS = OutcomeThresholds()


@dataclass(frozen=True)
class Verdict:
    """An outcome and what it rests on.

    Attributes:
        failed_stage: the first stage that was not met; None for success.
        decided_at_step: control step after which nothing that followed changed the outcome.
        decisive_step: control step at which it went wrong, and where to look first; at a success the last.
        decisive_event: names what happened there.
    """

    outcome: Outcome
    failed_stage: str | None
    decided_at_step: int
    decisive_step: int
    decisive_event: Event


@dataclass(frozen=True)
class Trajectory:
    """The part of `EpisodeArrays` that the verdict reads, of one goal: T control steps, so T+1 moments.

    Attributes:
        ee_pos_world: of the tool centre point.
        object_pos_world: of the object, or of the part that is to be moved.
        progress: stage flags of each moment; `grasped` is contact at that moment, however short.
        joint_progress: nan for pick and place.
        closes_gripper: the action commands the gripper closed (`eval.grasps.find_closing_commands`).
        goal: its name.
        is_articulated: the goal is about a joint, and has no stages.
    """

    object_height_m: Float64[np.ndarray, " T1"]
    goal_distance_m: Float64[np.ndarray, " T1"]
    ee_pos_world: Float64[np.ndarray, "T1 3"]
    object_pos_world: Float64[np.ndarray, "T1 3"]
    progress: Bool[np.ndarray, "T1 stage"]
    joint_progress: Float64[np.ndarray, " T1"]
    closes_gripper: Bool[np.ndarray, " T"]
    goal: str = ""
    is_articulated: bool = False

    @property
    def last_step(self) -> int:
        return len(self.object_height_m) - 1

    @property
    def gripper_distance_m(self) -> Float64[np.ndarray, " T1"]:
        return np.linalg.norm(self.ee_pos_world - self.object_pos_world, axis=1)

    def flag(self, stage: str) -> Bool[np.ndarray, " T1"]:
        return self.progress[:, STAGES.index(stage)]

    def ever(self, stage: str, begin: int = 0) -> bool:
        return bool(self.flag(stage)[begin:].any())

    def finally_(self, stage: str) -> bool:
        return bool(self.flag(stage)[-1])


def choose_goal(met: Bool[np.ndarray, "T1 goal"], begun: Bool[np.ndarray, " goal"], success: bool) -> int:
    """Return the index of the goal that the verdict rests on.

    On success it is the last. Otherwise it is the first that was begun and does not hold at the end; if none was
    begun, the first that does not hold; and if all hold (but not for long enough to count), the last.
    """
    unmet = np.flatnonzero(~met[-1])
    if success or len(unmet) == 0:
        return met.shape[1] - 1
    return int(next((goal for goal in unmet if begun[goal]), unmet[0]))


def was_begun(
    progress: Bool[np.ndarray, "T1 stage"],
    object_height_m: Float64[np.ndarray, " T1"],
    joint_progress: Float64[np.ndarray, " T1"],
    thresholds: OutcomeThresholds,
) -> bool:
    """Return whether a goal was begun: its object was carried, or its joint was moved."""
    carried = any(grasp.lifted for grasp in _find_held(progress, object_height_m, thresholds))
    return carried or bool((joint_progress > thresholds.begun_joint_progress).any())


def judge(trajectory: Trajectory, success: bool, thresholds: OutcomeThresholds) -> Verdict:
    """Return the verdict on an episode that ran to its end.

    Pick and place. A grasp is contact with both jaws that lasts for `held_steps` or raises the object by `raised_m`; if
    the object gets clear of the table in it, the object is carried.

    - It was never carried: never picked up. The failed stage is the first of reached, grasped (no grasp lasted) and
      lifted. The decisive step is where the first grasp ended; without a grasp, where the gripper had first closed
      near the object; without a closing, the closest approach.
    - It was carried to the end: timeout.
    - It left the gripper and ended over the goal, not let go or not at rest for long enough: timeout.
    - It left the gripper elsewhere: missed goal if the gripper was commanded open and it came down within
      `near_goal_m` of the goal; else dropped during transport. The failed stage is placed if it was over the goal when
      it left the gripper or afterwards, else over_goal. The decisive step is where it left the gripper.

    An articulated goal fails as a timeout, and its failed stage is the goal's first word ("open").
    """
    if success:
        return Verdict(Outcome.SUCCESS, None, trajectory.last_step, trajectory.last_step, Event.SUCCESS)
    if trajectory.is_articulated:
        stage, (step, event) = trajectory.goal.split()[0], _find_joint_event(trajectory, thresholds)
        return Verdict(Outcome.TIMEOUT, stage, trajectory.last_step, step, event)
    grasps = _find_held(trajectory.progress, trajectory.object_height_m, thresholds)
    carries = [grasp for grasp in grasps if grasp.lifted]
    if not carries:
        return _judge_never_picked_up(trajectory, grasps, thresholds)
    if carries[-1].end > trajectory.last_step:
        return _judge_still_carried(trajectory, carries[-1], thresholds)
    return _judge_after_carry(trajectory, carries[-1], thresholds)


def _find_held(
    progress: Bool[np.ndarray, "T1 stage"], object_height_m: Float64[np.ndarray, " T1"], thresholds: OutcomeThresholds
) -> list[Grasp]:
    grasped, lifted = (progress[:, STAGES.index(stage)] for stage in ("grasped", "lifted"))
    return find_grasps(grasped, lifted, object_height_m, thresholds.held_steps, thresholds.raised_m)


def _judge_never_picked_up(trajectory: Trajectory, grasps: list[Grasp], thresholds: OutcomeThresholds) -> Verdict:
    stage = "lifted" if grasps else "grasped" if trajectory.ever("reached") else "reached"
    step, event = _find_reaching_event(trajectory, thresholds)
    if grasps and grasps[-1].end > trajectory.last_step:
        step, event = grasps[-1].begin, Event.NOT_LIFTED
    elif grasps:
        step, event = grasps[0].end, _name_loss(trajectory, grasps[0])
    return Verdict(Outcome.NEVER_PICKED_UP, stage, trajectory.last_step, step, event)


def _judge_still_carried(trajectory: Trajectory, carry: Grasp, thresholds: OutcomeThresholds) -> Verdict:
    last_step = trajectory.last_step
    if trajectory.finally_("over_goal"):
        arrived = max(find_stretches(trajectory.flag("over_goal"))[-1][0], carry.begin)
        return Verdict(Outcome.TIMEOUT, "released", last_step, arrived, Event.NOT_RELEASED)
    nearest = _find_best(-trajectory.goal_distance_m[carry.begin :], thresholds.stalled_m)
    highest = _find_best(trajectory.object_height_m[carry.begin :], thresholds.stalled_m)
    step, event = _or_end(trajectory, carry.begin + max(nearest, highest), Event.STALLED, thresholds)
    return Verdict(Outcome.TIMEOUT, "over_goal", last_step, step, event)


def _judge_after_carry(trajectory: Trajectory, carry: Grasp, thresholds: OutcomeThresholds) -> Verdict:
    left, event = carry.end, _name_loss(trajectory, carry)
    if trajectory.finally_("over_goal"):
        stage = "placed" if trajectory.finally_("released") else "released"
        return Verdict(Outcome.TIMEOUT, stage, trajectory.last_step, left, event)
    low = np.flatnonzero(trajectory.object_height_m[left:] < thresholds.dropped_m)
    down_step = left + int(low[0]) if len(low) else left  # it may have been put on something tall
    is_beside_goal = trajectory.goal_distance_m[down_step] <= thresholds.near_goal_m
    missed = event is Event.LET_GO and is_beside_goal
    outcome = Outcome.MISSED_GOAL if missed else Outcome.DROPPED_DURING_TRANSPORT
    stage = "placed" if trajectory.ever("over_goal", left - 1) else "over_goal"
    if trajectory.ever("placed", left):
        left, event = find_stretches(trajectory.flag("placed"))[-1][1], Event.UNDONE
    return Verdict(outcome, stage, down_step, left, event)


def _find_reaching_event(trajectory: Trajectory, thresholds: OutcomeThresholds) -> tuple[int, Event]:
    """Return where the gripper had first closed near an object that it never held, or where it came closest."""
    near = trajectory.flag("reached") | (trajectory.gripper_distance_m < thresholds.near_gripper_m)
    for begin in find_closings(trajectory.closes_gripper, thresholds.closing_steps):
        closed = begin + thresholds.closing_steps
        if near[begin : closed + 1].any():
            return closed, Event.CLOSED_ON_NOTHING
    return _find_closest_approach(trajectory, thresholds)


def _find_closest_approach(trajectory: Trajectory, thresholds: OutcomeThresholds) -> tuple[int, Event]:
    step = _find_best(-trajectory.gripper_distance_m, thresholds.stalled_m)
    return _or_end(trajectory, step, Event.CLOSEST_APPROACH, thresholds)


def _find_joint_event(trajectory: Trajectory, thresholds: OutcomeThresholds) -> tuple[int, Event]:
    if trajectory.ever("placed"):  # of an articulated goal: it held
        undone = find_stretches(trajectory.flag("placed"))[-1][1]
        return min(undone, trajectory.last_step), Event.UNDONE
    if not (trajectory.joint_progress > thresholds.begun_joint_progress).any():
        return _find_closest_approach(trajectory, thresholds)
    furthest = _find_best(trajectory.joint_progress, thresholds.stalled_joint_progress)
    return _or_end(trajectory, furthest, Event.STALLED, thresholds)


def _or_end(trajectory: Trajectory, best_step: int, event: Event, thresholds: OutcomeThresholds) -> tuple[int, Event]:
    """Return the step after which it got no further, or the end if it was still getting on."""
    if best_step > trajectory.last_step - thresholds.stalled_steps:
        return trajectory.last_step, Event.END
    return best_step, event


def _find_best(values: Float64[np.ndarray, " n"], tolerance: float) -> int:
    """Return the first index whose value is the largest but for the tolerance."""
    return int(np.argmax(values >= np.nanmax(values) - tolerance))


def _name_loss(trajectory: Trajectory, grasp: Grasp) -> Event:
    """Return whether the gripper let go of the object or lost it, by the action that ended the grasp."""
    return Event.LOST_GRASP if trajectory.closes_gripper[grasp.end - 1] else Event.LET_GO
