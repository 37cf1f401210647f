"""The rules for goals of pick and place, and for the kinds with the same stages or the first three.

A grasp is contact with both jaws that lasts for `held_steps` or raises the object by `raised_m`. If
the object is clear of the table during a grasp, it is carried. An episode that did not succeed is
judged by what happened to the object:

- Never carried: never picked up. The failed stage is the first of reached, grasped (no grasp
  lasted) and lifted. The decisive step is where the first grasp ended; without a grasp, where the
  gripper had first closed near the object; without a closing, the closest approach.
- Carried to the end: timeout.
- Left the gripper and ended over the goal, not released or not at rest for long enough: timeout.
- Left the gripper elsewhere: missed goal if the gripper was commanded open and the object came down
  within `near_goal_m` of the goal; else dropped during transport. The failed stage is placed if the
  object was over the goal when it left the gripper or afterwards, else over_goal. The decisive step
  is where it left the gripper.
"""

from collections.abc import Callable

import numpy as np

from eval.grasps import Grasp, find_closings, find_grasps, find_stretches
from eval.outcome import Event, Outcome
from eval.trajectory import Trajectory, Verdict, find_best, find_closest_approach, or_end


def was_picked_up(trajectory: Trajectory) -> bool:
    """Return whether the object was ever carried."""
    return any(grasp.lifted for grasp in find_held(trajectory))


def judge_pick_and_place(trajectory: Trajectory) -> Verdict:
    """Return the verdict on an episode that did not succeed."""
    grasps = find_held(trajectory)
    carries = [grasp for grasp in grasps if grasp.lifted]
    if not carries:
        return judge_never_picked_up(trajectory, grasps, _find_reaching_event)
    if carries[-1].end > trajectory.last_step:
        return _judge_still_carried(trajectory, carries[-1])
    return _judge_after_carry(trajectory, carries[-1])


def was_grasped(trajectory: Trajectory) -> bool:
    """Return whether the object was ever held."""
    return bool(find_held(trajectory))


def judge_lift(trajectory: Trajectory) -> Verdict:
    """Return the verdict on an episode that did not lift its object: it was never picked up."""
    return judge_never_picked_up(trajectory, find_held(trajectory), _find_reaching_event)


def find_held(trajectory: Trajectory) -> list[Grasp]:
    """Return the grasps of an episode whose goal has the stages and thresholds of a grasp."""
    thresholds = trajectory.goal.thresholds
    return find_grasps(
        trajectory.stages["grasped"],
        trajectory.stages["lifted"],
        trajectory.measures["object_height_m"],
        held_steps=int(thresholds["held_steps"]),
        raised_m=thresholds["raised_m"],
    )


def judge_never_picked_up(
    trajectory: Trajectory,
    grasps: list[Grasp],
    find_reaching_event: Callable[[Trajectory], tuple[int, Event]],
) -> Verdict:
    """Return the verdict on an episode whose object was never carried.

    Args:
        find_reaching_event: returns the decisive step and event of an episode without a grasp.
    """
    last_step = trajectory.last_step
    if not grasps:
        stage = "grasped" if trajectory.ever("reached") else "reached"
        step, event = find_reaching_event(trajectory)
        return Verdict(
            Outcome.NEVER_PICKED_UP,
            stage,
            last_step,
            step,
            event,
        )
    step = grasps[-1].begin
    event = Event.NOT_LIFTED
    if grasps[-1].end <= last_step:
        step = grasps[0].end
        event = name_loss(trajectory, grasps[0])
    return Verdict(
        Outcome.NEVER_PICKED_UP,
        "lifted",
        last_step,
        step,
        event,
    )


def _judge_still_carried(trajectory: Trajectory, carry: Grasp) -> Verdict:
    last_step = trajectory.last_step
    if trajectory.finally_("over_goal"):
        begin, _ = find_stretches(trajectory.stages["over_goal"])[-1]
        arrived = max(begin, carry.begin)
        return Verdict(
            Outcome.TIMEOUT,
            "released",
            last_step,
            arrived,
            Event.NOT_RELEASED,
        )
    stalled_m = trajectory.goal.thresholds["stalled_m"]
    nearest = find_best(-trajectory.measures["goal_distance_m"][carry.begin :], stalled_m)
    highest = find_best(trajectory.measures["object_height_m"][carry.begin :], stalled_m)
    step, event = or_end(trajectory, carry.begin + max(nearest, highest), Event.STALLED)
    return Verdict(
        Outcome.TIMEOUT,
        "over_goal",
        last_step,
        step,
        event,
    )


def _judge_after_carry(trajectory: Trajectory, carry: Grasp) -> Verdict:
    left = carry.end
    event = name_loss(trajectory, carry)
    if trajectory.finally_("over_goal"):
        stage = "placed" if trajectory.finally_("released") else "released"
        return Verdict(
            Outcome.TIMEOUT,
            stage,
            trajectory.last_step,
            left,
            event,
        )
    down_step = _find_down_step(trajectory, left)
    near_goal_m = trajectory.goal.thresholds["near_goal_m"]
    is_beside_goal = trajectory.measures["goal_distance_m"][down_step] <= near_goal_m
    outcome = Outcome.DROPPED_DURING_TRANSPORT
    if event is Event.LET_GO and is_beside_goal:
        outcome = Outcome.MISSED_GOAL
    stage = "placed" if trajectory.ever("over_goal", left - 1) else "over_goal"
    if trajectory.ever("placed", left):
        _, end = find_stretches(trajectory.stages["placed"])[-1]
        return Verdict(outcome, stage, down_step, end, Event.UNDONE)
    return Verdict(outcome, stage, down_step, left, event)


def _find_down_step(trajectory: Trajectory, left: int) -> int:
    """Return the step at which the object came down after it left the gripper.

    If it never did, it may have been put on something tall, and this is the step at which it left.
    """
    height_m = trajectory.measures["object_height_m"][left:]
    low = np.flatnonzero(height_m < trajectory.goal.thresholds["dropped_m"])
    return left + int(low[0]) if len(low) else left


def _find_reaching_event(trajectory: Trajectory) -> tuple[int, Event]:
    """Return where the gripper had first closed near an object that it never held.

    If it never closed near it, this is where it came closest.
    """
    thresholds = trajectory.goal.thresholds
    is_close = trajectory.gripper_distance_m < thresholds["near_gripper_m"]
    near = trajectory.stages["reached"] | is_close
    closing_steps = int(thresholds["closing_steps"])
    for begin in find_closings(trajectory.closes_gripper, closing_steps):
        closed = begin + closing_steps
        if near[begin : closed + 1].any():
            return closed, Event.CLOSED_ON_NOTHING
    return find_closest_approach(trajectory)


def name_loss(trajectory: Trajectory, grasp: Grasp) -> Event:
    """Return whether the gripper let go of the object or lost it.

    It lost the object if the action that ended the grasp commanded it closed.
    """
    closes = trajectory.closes_gripper[grasp.end - 1]
    return Event.LOST_GRASP if closes else Event.LET_GO
