"""Computes statistics over the rows of a run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from eval.episode_row import EpisodeRow, Rows
from eval.outcome import OUTCOMES, find_facts
from eval.proportions import compute_wilson_interval


@dataclass(frozen=True)
class RunSummary:
    """Summarises a run. Undefined numbers are nan.

    Crashed rows are counted as outcomes and in the mean duration, and nowhere else.

    Attributes:
        n_judged: episodes that ran to their end.
        success_interval: Wilson 95 % interval of the success rate.
        outcomes: outcome → number of rows, first for the outcomes that goals of these kinds can
            have, then for those that this version does not know. All rows are counted.
        n_unknown: rows whose outcome this version does not know. They count as judged and not as
            successes, and are in neither of the next two rates.
        pick_rate: share of episodes in which the object was picked up, among those that are judged
            by a goal in which one is (`EpisodeRow.is_pick`).
        drop_rate: share of the picked-up in which the object came down outside the goal.
        ik_failure_rate: share of all their control steps; nan if the environment takes joints.
    """

    n_judged: int
    n_success: int
    success_rate: float
    success_interval: tuple[float, float]
    outcomes: dict[str, int]
    n_unknown: int
    pick_rate: float
    drop_rate: float
    mean_success_steps: float
    mean_max_object_height_m: float
    mean_duration_s: float
    ik_failure_rate: float


@dataclass(frozen=True)
class StageCount:
    """Counts the episodes that completed a stage, and those that reached it and did not.

    Attributes:
        kind: kind of the goals.
        number: number of the stage in its kind; the first is 1.
        n_episodes: episodes that ran to their end and are judged by a goal of that kind.
    """

    kind: str
    stage: str
    number: int
    n_through: int
    n_lost: int
    n_episodes: int


def summarise(rows: Rows) -> RunSummary:
    """Return the summary of the rows."""
    judged = [row for row in rows if row.is_judged]
    successes = [row for row in judged if row.success]
    picks = [find_facts(row.outcome) for row in judged if row.is_pick]
    n_picked = sum(facts.picked_up is True for facts in picks)
    n_known_picks = sum(facts.picked_up is not None for facts in picks)
    n_dropped = sum(facts.dropped for facts in picks)
    heights_m = [row.max_object_height_m for row in judged]
    return RunSummary(
        n_judged=len(judged),
        n_success=len(successes),
        success_rate=_divide(len(successes), len(judged)),
        success_interval=compute_wilson_interval(len(successes), len(judged)),
        outcomes=_count_outcomes(rows),
        n_unknown=sum(not row.is_known for row in rows),
        pick_rate=_divide(n_picked, n_known_picks),
        drop_rate=_divide(n_dropped, n_picked),
        mean_success_steps=_mean([row.n_steps for row in successes]),
        mean_max_object_height_m=_mean([height for height in heights_m if height is not None]),
        mean_duration_s=_mean([row.duration_s for row in rows]),
        ik_failure_rate=_compute_ik_failure_rate(judged),
    )


def summarise_tasks(rows: Iterable[EpisodeRow]) -> dict[str, RunSummary]:
    """Return task → its summary, in the order of the rows."""
    by_task: dict[str, list[EpisodeRow]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    return {task: summarise(by_task[task]) for task in by_task}


def compute_macro_average(summaries: Iterable[RunSummary]) -> float:
    """Return the mean of the tasks' success rates, in which each task counts alike.

    It is nan if a task has no judged episode: without it, this would be the mean of other tasks.
    """
    return _mean([summary.success_rate for summary in summaries])


def count_stages(rows: Iterable[EpisodeRow]) -> tuple[StageCount, ...]:
    """Return how many episodes completed each stage of their kind of goal, in order.

    It is () if no episode has stages.
    """
    n_met_by_kind: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for row in rows:
        n_met = count_met_stages(row)
        if n_met is not None:
            kind = (row.kind_of_goal, row.goal_stages)
            n_met_by_kind.setdefault(kind, []).append(n_met)
    counts = []
    for (kind_name, stages), n_met_by_row in n_met_by_kind.items():
        n_before = len(n_met_by_row)
        for number, stage in enumerate(stages, start=1):
            n_through = sum(n_met >= number for n_met in n_met_by_row)
            n_lost = n_before - n_through
            counts.append(
                StageCount(kind_name, stage, number, n_through, n_lost, len(n_met_by_row))
            )
            n_before = n_through
    return tuple(counts)


def count_met_stages(row: EpisodeRow) -> int | None:
    """Return how many stages of its goal an episode completed.

    It is None if the episode crashed, its goal has no stages, or its failed stage is not known.
    """
    stages = row.goal_stages
    if not row.is_judged or not stages:
        return None
    if row.success:
        return len(stages)
    return stages.index(row.failed_stage) if row.failed_stage in stages else None


def _count_outcomes(rows: Rows) -> dict[str, int]:
    counts = Counter(str(row.outcome) for row in rows)
    has_picks = any(row.is_pick for row in rows)
    possible = [
        str(name)
        for name, facts in OUTCOMES.items()
        if counts[name] or has_picks or not facts.needs_pick
    ]
    unknown = sorted(counts.keys() - OUTCOMES.keys())
    return {name: counts[name] for name in [*possible, *unknown]}


def _compute_ik_failure_rate(rows: Rows) -> float:
    n_steps = 0
    n_failures = 0.0
    for row in rows:
        if row.ik_failure_rate is not None:
            n_steps += row.n_steps
            n_failures += row.ik_failure_rate * row.n_steps
    return n_failures / n_steps if n_steps else nan


def _divide(part: int, whole: int) -> float:
    return part / whole if whole else nan


def _mean(values: Sequence[float] | Sequence[int]) -> float:
    return float(np.mean(values)) if values else nan
