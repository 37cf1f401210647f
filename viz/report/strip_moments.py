"""Chooses the moments of a failed episode that its film strip shows."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np

from eval.episode_row import EpisodeRow
from eval.outcome import caption_event, label_outcome
from viz.whiskers import Steps

# Frames with a smaller gap would look alike.
_LEAST_GAP_S = 0.1
# The plan that led to the decisive step was made at least this long before it.
_BEFORE_S = 0.3
# The consequence of the decisive step is visible this long after it.
_AFTER_S = 1.0


@dataclass(frozen=True)
class Moment:
    """The world before a control step, with a caption.

    Attributes:
        caption: e.g. "step 66 · lost grasp".
        is_decisive: whether this is the decisive step.
    """

    step: int
    caption: str
    is_decisive: bool = False


def choose_moments(
    row: EpisodeRow,
    prediction_step: Steps,
    control_dt_s: float,
    n_moments: int = 5,
) -> list[Moment]:
    """Return at most `n_moments` distinct moments of an episode, in order of time.

    The moments are the start, the prediction before the decisive step, the decisive step, one
    second after it, and the end. Of two that would look alike, the more important one is kept. If
    some are missing, the middles of the longest gaps take their places.
    """
    least_gap = ceil(_LEAST_GAP_S / control_dt_s)
    wanted = _rank_moments(row, prediction_step, control_dt_s)
    moments = _drop_similar(wanted, least_gap)
    moments.sort(key=lambda moment: moment.step)
    while len(moments) < n_moments:
        gaps = np.diff([moment.step for moment in moments])
        if not len(gaps) or gaps.max() < 2 * least_gap:
            break
        longest = int(gaps.argmax())
        middle = moments[longest].step + int(gaps[longest]) // 2
        moments.insert(longest + 1, Moment(middle, f"step {middle}"))
    return moments


def _rank_moments(
    row: EpisodeRow,
    prediction_step: Steps,
    control_dt_s: float,
) -> list[Moment]:
    """Return the moments to show, the most important first."""
    decisive = min(row.shown_step, row.n_steps)
    event = row.decisive_event
    words = caption_event(event) if event else label_outcome(row.outcome)
    moments = [
        Moment(decisive, f"step {decisive} · {words}", is_decisive=True),
        Moment(row.n_steps, f"step {row.n_steps} · end"),
        Moment(0, "step 0 · start"),
    ]
    before = prediction_step[prediction_step <= decisive - _BEFORE_S / control_dt_s]
    if len(before):
        step = int(before[-1])
        moments.append(Moment(step, f"step {step} · plan before"))
    after = decisive + round(_AFTER_S / control_dt_s)
    if after < row.n_steps:
        caption = f"step {after} · {_AFTER_S:g} s later"
        moments.append(Moment(after, caption))
    return moments


def _drop_similar(moments: Iterable[Moment], least_gap: int) -> list[Moment]:
    """Return the moments without those that are too close to an earlier one of the list."""
    kept: list[Moment] = []
    for moment in moments:
        if all(abs(moment.step - other.step) >= least_gap for other in kept):
            kept.append(moment)
    return kept
