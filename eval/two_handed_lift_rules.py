"""The rules for goals in which two hands lift an object by its handles.

A grasp is a stretch over which both hands hold their handles, as long or as high as in pick and
place. If the object is clear of what it lay on during a grasp, it is carried. An episode that did
not succeed is judged by its grasps:

- Never carried: never picked up. The failed stage is the first of reached, grasped (no grasp
  lasted) and lifted. The decisive step is where the first grasp ended, or where the grasp began
  that lasted to the end; without a grasp, where the farther hand came closest to its handle.
- Carried, and then lost by a hand: dropped. The decisive step is where the last carry ended.
- Carried to the end, but not high enough: timeout. The decisive step is where it was highest.
"""

from eval.grasps import Grasp
from eval.outcome import Event, Outcome
from eval.pick_and_place_rules import find_held, name_loss
from eval.trajectory import Trajectory, Verdict, find_best, or_end


def judge_two_handed_lift(trajectory: Trajectory) -> Verdict:
    """Return the verdict on an episode that did not succeed."""
    grasps = find_held(trajectory)
    carries = [grasp for grasp in grasps if grasp.lifted]
    if not carries:
        return _judge_never_picked_up(trajectory, grasps)
    last_step = trajectory.last_step
    carry = carries[-1]
    if carry.end <= last_step:
        return Verdict(
            Outcome.DROPPED_DURING_TRANSPORT,
            "raised",
            carry.end,
            carry.end,
            name_loss(trajectory, carry),
        )
    height_m = trajectory.measures["object_height_m"][carry.begin :]
    highest = carry.begin + find_best(height_m, trajectory.goal.thresholds["stalled_m"])
    step, event = or_end(trajectory, highest, Event.STALLED)
    return Verdict(
        Outcome.TIMEOUT,
        "raised",
        last_step,
        step,
        event,
    )


def _judge_never_picked_up(trajectory: Trajectory, grasps: list[Grasp]) -> Verdict:
    last_step = trajectory.last_step
    stage = "lifted"
    if not grasps:
        stage = "grasped" if trajectory.ever("reached") else "reached"
        nearness_m = -trajectory.measures["farther_hand_m"]
        closest = find_best(nearness_m, trajectory.goal.thresholds["stalled_m"])
        step, event = or_end(trajectory, closest, Event.CLOSEST_APPROACH)
    elif grasps[-1].end > last_step:
        step = grasps[-1].begin
        event = Event.NOT_LIFTED
    else:
        step = grasps[0].end
        event = name_loss(trajectory, grasps[0])
    return Verdict(
        Outcome.NEVER_PICKED_UP,
        stage,
        last_step,
        step,
        event,
    )
