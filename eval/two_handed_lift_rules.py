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

from eval.outcome import Event, Outcome
from eval.pick_and_place_rules import find_held, judge_never_picked_up, name_loss
from eval.trajectory import Trajectory, Verdict, find_best, or_end


def judge_two_handed_lift(trajectory: Trajectory) -> Verdict:
    """Return the verdict on an episode that did not succeed."""
    grasps = find_held(trajectory)
    carries = [grasp for grasp in grasps if grasp.lifted]
    if not carries:
        return judge_never_picked_up(trajectory, grasps, _find_closest_approach)
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


def _find_closest_approach(trajectory: Trajectory) -> tuple[int, Event]:
    """Return where the farther hand came closest to its handle."""
    nearness_m = -trajectory.measures["farther_hand_m"]
    closest = find_best(nearness_m, trajectory.goal.thresholds["stalled_m"])
    return or_end(trajectory, closest, Event.CLOSEST_APPROACH)
