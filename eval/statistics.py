"""Numbers over the rows of a run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy.stats import binomtest

from eval.episode_row import EpisodeRow
from eval.outcome import Outcome
from sim.env import STAGES

# A drop of either kind: the object came down where it should not.
_DROPS = (Outcome.DROPPED_DURING_TRANSPORT, Outcome.MISSED_GOAL)


@dataclass(frozen=True)
class RunSummary:
    """A run in numbers. Rows that crashed are counted, and in nothing else but the time; undefined is nan.

    Attributes:
        n_judged: episodes that ran to their end.
        success_interval: Wilson 95 % interval of the success rate.
        pick_rate: share in which the object was picked up, of those that rest on a pick and place goal.
        drop_rate: share of the picked-up in which it came down outside the goal.
        ik_failure_rate: share of all their control steps; nan where the environment takes joints.
    """

    n_judged: int
    n_success: int
    success_rate: float
    success_interval: tuple[float, float]
    outcomes: dict[Outcome, int]
    pick_rate: float
    drop_rate: float
    mean_success_steps: float
    mean_max_object_height_m: float
    mean_duration_s: float
    ik_failure_rate: float


def summarise(rows: Sequence[EpisodeRow]) -> RunSummary:
    counts = Counter(row.outcome for row in rows)
    judged = [row for row in rows if row.outcome != Outcome.ERROR]
    n_picks = sum(row.final_joint_progress is None for row in judged)
    n_picked = n_picks - counts[Outcome.NEVER_PICKED_UP]
    n_success = counts[Outcome.SUCCESS]
    return RunSummary(
        n_judged=len(judged),
        n_success=n_success,
        success_rate=_ratio(n_success, len(judged)),
        success_interval=compute_wilson_interval(n_success, len(judged)),
        outcomes={outcome: counts[outcome] for outcome in Outcome},
        pick_rate=_ratio(n_picked, n_picks),
        drop_rate=_ratio(sum(counts[outcome] for outcome in _DROPS), n_picked),
        mean_success_steps=_mean([row.n_steps for row in judged if row.success]),
        mean_max_object_height_m=_mean([h for row in judged if (h := row.max_object_height_m) is not None]),
        mean_duration_s=_mean([row.duration_s for row in rows]),
        ik_failure_rate=_compute_ik_failure_rate(judged),
    )


def summarise_tasks(rows: Iterable[EpisodeRow]) -> dict[str, RunSummary]:
    """Task → its summary, in the order in which the tasks come."""
    of_task: dict[str, list[EpisodeRow]] = {}
    for row in rows:
        of_task.setdefault(row.task, []).append(row)
    return {task: summarise(of_task[task]) for task in of_task}


def compute_macro_average(summaries: Iterable[RunSummary]) -> float:
    """Mean of the tasks' success rates: each counts alike, however many of its episodes were judged.

    nan where a task has none that was judged: without it the mean would be one of other tasks.
    """
    return _mean([summary.success_rate for summary in summaries])


def compute_wilson_interval(n_success: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion; (nan, nan) for n = 0.

    Unlike the normal approximation it does not collapse at 0 % and 100 %, where policies like to be.
    """
    if n == 0:
        return nan, nan
    interval = binomtest(n_success, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def _compute_ik_failure_rate(rows: Sequence[EpisodeRow]) -> float:
    counted = [(row.ik_failure_rate, row.n_steps) for row in rows if row.ik_failure_rate is not None]
    n_steps = sum(n for _, n in counted)
    return sum(rate * n for rate, n in counted) / n_steps if n_steps else nan


def count_stages(rows: Iterable[EpisodeRow]) -> dict[str, int]:
    """Return how many episodes came through each stage of pick and place, in order; {} if no episode has stages."""
    through = [n for row in rows if (n := count_met_stages(row)) is not None]
    return {stage: sum(n > i for n in through) for i, stage in enumerate(STAGES)} if through else {}


def count_met_stages(row: EpisodeRow) -> int | None:
    """Return how many stages of pick and place an episode came through; None for one that crashed or has no stages."""
    if row.outcome == Outcome.ERROR or row.final_joint_progress is not None:
        return None
    return len(STAGES) if row.success else STAGES.index(row.failed_stage or STAGES[0])


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else nan


def _mean(values: Sequence[float] | Sequence[int]) -> float:
    return float(np.mean(values)) if values else nan
