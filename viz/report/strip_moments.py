"""Chooses the moments of a failed episode that its film strip shows."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Int64

from eval.episode_row import EpisodeRow
from eval.outcome import caption_event, label_outcome

# Frames that are nearer to each other than the first would look alike. The plan that led to the
# decisive step was made at least the second before it, and what came of it is seen the third after
# it.
_LEAST_GAP_S, _BEFORE_S, _AFTER_S = 0.1, 0.3, 1.0


@dataclass(frozen=True)
class Moment:
    """The world before a control step, and what is said of it.

    Attributes:
        caption: e.g. "step 66 · lost grasp".
        is_decisive: it went wrong here.
    """

    step: int
    caption: str
    is_decisive: bool = False


def choose_moments(
    row: EpisodeRow,
    prediction_step: Int64[np.ndarray, " P"],
    control_dt_s: float,
    n_moments: int = 5,
) -> list[Moment]:
    """Return at most `n_moments` distinct moments of an episode, in order of time.

    These are the start, the prediction before the decisive step, the decisive step, a second later,
    and the end. Of two that would look alike the one that says more is kept; in place of the other,
    and of what there is not, comes the middle of the longest gap.
    """
    decisive, least_gap = min(row.shown_step, row.n_steps), ceil(_LEAST_GAP_S / control_dt_s)
    event = row.decisive_event
    words = caption_event(event) if event else label_outcome(row.outcome)
    before = prediction_step[prediction_step <= decisive - _BEFORE_S / control_dt_s]
    after = decisive + round(_AFTER_S / control_dt_s)
    # What says most comes first.
    wanted = [
        Moment(decisive, _name(decisive, words), is_decisive=True),
        Moment(row.n_steps, _name(row.n_steps, "end")),
    ]
    wanted.append(Moment(0, _name(0, "start")))
    if len(before):
        wanted.append(Moment(int(before[-1]), _name(int(before[-1]), "plan before")))
    if after < row.n_steps:
        wanted.append(Moment(after, _name(after, f"{_AFTER_S:g} s later")))
    moments: list[Moment] = []
    for moment in wanted:
        if all(abs(moment.step - other.step) >= least_gap for other in moments):
            moments.append(moment)
    moments.sort(key=lambda moment: moment.step)
    while len(moments) < n_moments:
        gaps = np.diff([moment.step for moment in moments])
        if not len(gaps) or gaps.max() < 2 * least_gap:
            break
        at = int(gaps.argmax())
        middle = moments[at].step + int(gaps[at]) // 2
        moments.insert(at + 1, Moment(middle, f"step {middle}"))
    return moments


def _name(step: int, words: str) -> str:
    return f"step {step} · {words}"
