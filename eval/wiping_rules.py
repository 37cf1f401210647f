"""The rules for goals in which a tool wipes markers off a surface.

An episode that did not succeed is a timeout. Its decisive step says why markers are left:

- The tool was never at a marker: where it came closest to them.
- It was at a marker, wiped none off and never touched anything there: where it first was at one.
- It left the surface and never came back: where it touched it last, if it had wiped until then.
- It touched the surface and wiped no more: where it wiped off the last marker.
"""

import numpy as np

from eval.outcome import Event, Outcome
from eval.trajectory import (
    Trajectory,
    Verdict,
    find_best,
    find_closest_approach,
    find_failed_stage,
    or_end,
)


def judge_wiping(trajectory: Trajectory) -> Verdict:
    """Return the verdict on an episode that did not succeed."""
    step, event = _find_decisive_step(trajectory)
    return Verdict(
        Outcome.TIMEOUT,
        find_failed_stage(trajectory),
        trajectory.last_step,
        step,
        event,
    )


def _find_decisive_step(trajectory: Trajectory) -> tuple[int, Event]:
    at_marker = trajectory.stages["reached"]
    if not at_marker.any():
        return find_closest_approach(trajectory)
    # A tool that rests on the surface presses with less than 1 N.
    touches = trajectory.measures["force_n"] > 0
    if not trajectory.ever("begun") and not touches[at_marker].any():
        return int(np.argmax(at_marker)), Event.NOT_PRESSED
    thresholds = trajectory.goal.thresholds
    last_wiped = find_best(-trajectory.measures["markers_left"], thresholds["stalled"])
    step, event = or_end(trajectory, last_wiped, Event.STALLED)
    if event == Event.STALLED and touches[last_wiped:].any():
        last_touched = last_wiped + int(np.flatnonzero(touches[last_wiped:])[-1])
        wiped_until_then = last_touched < last_wiped + thresholds["stalled_steps"]
        left = or_end(trajectory, last_touched, Event.LEFT_SURFACE)
        if wiped_until_then and left[1] == Event.LEFT_SURFACE:
            return left
    return step, event
