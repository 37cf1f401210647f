"""Numbers over the rows of a run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from eval.episode_row import EpisodeRow
from eval.outcome import OUTCOMES, find_facts
from eval.proportions import compute_wilson_interval
from sim.goals.pick_and_place import PICK_AND_PLACE


@dataclass(frozen=True)
class RunSummary:
    """A run in numbers. Rows that crashed are counted, and in nothing else but the time; undefined is nan.

    Attributes:
        n_judged: episodes that ran to their end.
        success_interval: Wilson 95 % interval of the success rate.
        outcomes: outcome → how many rows, those of the table first, then those that this version
            does not know: all rows together.
        n_unknown: rows whose outcome this version does not know. They count as judged and as no
            success, and are in neither of the next two rates.
        pick_rate: share in which the object was picked up, of those that rest on a pick and place
            goal.
        drop_rate: share of the picked-up in which it came down outside the goal.
        ik_failure_rate: share of all their control steps; nan where the environment takes joints.
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
    """Counts the episodes that came through a stage, and those that came to it and did not.

    Attributes:
        kind: of the goals.
        number: of the stage in its kind; the first is 1.
        n_episodes: all that ran to their end and rest on a goal of that kind.
    """

    kind: str
    stage: str
    number: int
    n_through: int
    n_lost: int
    n_episodes: int


def summarise(rows: Sequence[EpisodeRow]) -> RunSummary:
    counts = Counter(str(row.outcome) for row in rows)
    names = [*map(str, OUTCOMES), *sorted(counts.keys() - OUTCOMES.keys())]
    judged = [row for row in rows if row.is_judged]
    picks = [find_facts(row.outcome) for row in judged if row.kind_of_goal == PICK_AND_PLACE.name]
    n_picked = sum(facts.picked_up is True for facts in picks)
    n_success = sum(row.success for row in judged)
    return RunSummary(
        n_judged=len(judged),
        n_success=n_success,
        success_rate=_ratio(n_success, len(judged)),
        success_interval=compute_wilson_interval(n_success, len(judged)),
        outcomes={name: counts[name] for name in names},
        n_unknown=sum(not row.is_known for row in rows),
        pick_rate=_ratio(n_picked, sum(facts.picked_up is not None for facts in picks)),
        drop_rate=_ratio(sum(facts.dropped for facts in picks), n_picked),
        mean_success_steps=_mean([row.n_steps for row in judged if row.success]),
        mean_max_object_height_m=_mean(
            [h for row in judged if (h := row.max_object_height_m) is not None]
        ),
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


def _compute_ik_failure_rate(rows: Sequence[EpisodeRow]) -> float:
    counted = [
        (row.ik_failure_rate, row.n_steps) for row in rows if row.ik_failure_rate is not None
    ]
    n_steps = sum(n for _, n in counted)
    return sum(rate * n for rate, n in counted) / n_steps if n_steps else nan


def count_stages(rows: Iterable[EpisodeRow]) -> tuple[StageCount, ...]:
    """Return how many episodes came through each stage of their kind of goal, in order; () if no episode has stages."""
    through: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for row in rows:
        if (n := count_met_stages(row)) is not None:
            through.setdefault((row.kind_of_goal, row.goal_stages), []).append(n)
    counts = []
    for (kind, stages), met in through.items():
        n_before = len(met)
        for number, stage in enumerate(stages, start=1):
            n_through = sum(n >= number for n in met)
            counts.append(
                StageCount(kind, stage, number, n_through, n_before - n_through, len(met))
            )
            n_before = n_through
    return tuple(counts)


def count_met_stages(row: EpisodeRow) -> int | None:
    """Return how many stages of its goal an episode came through.

    None for one that crashed, whose goal has no stages, or whose failed stage is not known.
    """
    stages = row.goal_stages
    if not row.is_judged or not stages:
        return None
    if row.success:
        return len(stages)
    return stages.index(row.failed_stage) if row.failed_stage in stages else None


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else nan


def _mean(values: Sequence[float] | Sequence[int]) -> float:
    return float(np.mean(values)) if values else nan
