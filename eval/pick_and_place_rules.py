"""The rules for a goal of pick and place.

A grasp is contact with both jaws that lasts for `held_steps` or raises the object by `raised_m`; if
the object gets clear of the table in it, the object is carried.

- It was never carried: never picked up. The failed stage is the first of reached, grasped (no grasp
  lasted) and lifted. The decisive step is where the first grasp ended; without a grasp, where the
  gripper had first closed near the object; without a closing, the closest approach.
- It was carried to the end: timeout.
- It left the gripper and ended over the goal, not let go or not at rest for long enough: timeout.
- It left the gripper elsewhere: missed goal if the gripper was commanded open and it came down
  within `near_goal_m` of the goal; else dropped during transport. The failed stage is placed if it
  was over the goal when it left the gripper or afterwards, else over_goal. The decisive step is
  where it left the gripper.
"""

import numpy as np

from eval.grasps import Grasp, find_closings, find_grasps, find_stretches
from eval.outcome import Event, Outcome
from eval.trajectory import Trajectory, Verdict, find_best, find_closest_approach, or_end


def was_picked_up(trajectory: Trajectory) -> bool:
    """Return whether the object was ever carried."""
    return any(grasp.lifted for grasp in _find_held(trajectory))


def judge_pick_and_place(trajectory: Trajectory) -> Verdict:
    """Return the verdict on an episode that did not succeed."""
    grasps = _find_held(trajectory)
    carries = [grasp for grasp in grasps if grasp.lifted]
    if not carries:
        return _judge_never_picked_up(trajectory, grasps)
    if carries[-1].end > trajectory.last_step:
        return _judge_still_carried(trajectory, carries[-1])
    return _judge_after_carry(trajectory, carries[-1])


def _find_held(trajectory: Trajectory) -> list[Grasp]:
    stages, thresholds = trajectory.stages, trajectory.goal.thresholds
    height_m, held_steps = trajectory.measures["object_height_m"], int(thresholds["held_steps"])
    return find_grasps(
        stages["grasped"], stages["lifted"], height_m, held_steps, thresholds["raised_m"]
    )


def _judge_never_picked_up(trajectory: Trajectory, grasps: list[Grasp]) -> Verdict:
    stage = "lifted" if grasps else "grasped" if trajectory.ever("reached") else "reached"
    step, event = _find_reaching_event(trajectory)
    if grasps and grasps[-1].end > trajectory.last_step:
        step, event = grasps[-1].begin, Event.NOT_LIFTED
    elif grasps:
        step, event = grasps[0].end, _name_loss(trajectory, grasps[0])
    return Verdict(Outcome.NEVER_PICKED_UP, stage, trajectory.last_step, step, event)


def _judge_still_carried(trajectory: Trajectory, carry: Grasp) -> Verdict:
    last_step, stalled_m = trajectory.last_step, trajectory.goal.thresholds["stalled_m"]
    if trajectory.finally_("over_goal"):
        arrived = max(find_stretches(trajectory.stages["over_goal"])[-1][0], carry.begin)
        return Verdict(Outcome.TIMEOUT, "released", last_step, arrived, Event.NOT_RELEASED)
    nearest = find_best(-trajectory.measures["goal_distance_m"][carry.begin :], stalled_m)
    highest = find_best(trajectory.measures["object_height_m"][carry.begin :], stalled_m)
    step, event = or_end(trajectory, carry.begin + max(nearest, highest), Event.STALLED)
    return Verdict(Outcome.TIMEOUT, "over_goal", last_step, step, event)


def _judge_after_carry(trajectory: Trajectory, carry: Grasp) -> Verdict:
    thresholds, measures = trajectory.goal.thresholds, trajectory.measures
    left, event = carry.end, _name_loss(trajectory, carry)
    if trajectory.finally_("over_goal"):
        stage = "placed" if trajectory.finally_("released") else "released"
        return Verdict(Outcome.TIMEOUT, stage, trajectory.last_step, left, event)
    low = np.flatnonzero(measures["object_height_m"][left:] < thresholds["dropped_m"])
    down_step = left + int(low[0]) if len(low) else left  # it may have been put on something tall
    is_beside_goal = measures["goal_distance_m"][down_step] <= thresholds["near_goal_m"]
    missed = event is Event.LET_GO and is_beside_goal
    outcome = Outcome.MISSED_GOAL if missed else Outcome.DROPPED_DURING_TRANSPORT
    stage = "placed" if trajectory.ever("over_goal", left - 1) else "over_goal"
    if trajectory.ever("placed", left):
        left, event = find_stretches(trajectory.stages["placed"])[-1][1], Event.UNDONE
    return Verdict(outcome, stage, down_step, left, event)


def _find_reaching_event(trajectory: Trajectory) -> tuple[int, Event]:
    """Return where the gripper had first closed near an object that it never held, or where it came closest."""
    thresholds = trajectory.goal.thresholds
    near = trajectory.stages["reached"] | (
        trajectory.gripper_distance_m < thresholds["near_gripper_m"]
    )
    closing_steps = int(thresholds["closing_steps"])
    for begin in find_closings(trajectory.closes_gripper, closing_steps):
        closed = begin + closing_steps
        if near[begin : closed + 1].any():
            return closed, Event.CLOSED_ON_NOTHING
    return find_closest_approach(trajectory)


def _name_loss(trajectory: Trajectory, grasp: Grasp) -> Event:
    """Return whether the gripper let go of the object or lost it, by the action that ended the grasp."""
    return Event.LOST_GRASP if trajectory.closes_gripper[grasp.end - 1] else Event.LET_GO
