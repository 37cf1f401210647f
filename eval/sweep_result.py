"""Describes a sweep: how often each point succeeds, and which cannot be told from the best."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table

from eval.compare_words import count_of
from eval.comparison import compare
from eval.proportions import compute_interval
from eval.run import Run
from eval.statistics import RunSummary, summarise
from eval.sweep import Sweep
from sim.errors import WhiskerError

type Standing = Literal["best", "like the best", "worse", "left out", ""]


@dataclass(frozen=True)
class SweepPoint:
    """One point of a sweep, as far as it has run.

    Attributes:
        label: value of the swept flag, or what tells its checkpoint apart.
        interval: 95 % interval of the success rate, as `eval-compare` gives it.
        standing: against the point that succeeds most often. "" where points cannot be compared,
            since their episodes do not end alike.
        n_missing: episodes to come.
    """

    label: str
    run: Run
    summary: RunSummary
    interval: tuple[float, float]
    standing: Standing
    n_missing: int

    @property
    def n_crashed(self) -> int:
        return len(self.run.rows) - self.summary.n_judged


def read_points(folder: Path, sweep: Sweep) -> dict[int, SweepPoint]:
    """Return the index of a point → the point, for those that have an episode."""
    runs = {index: run for index, run in sweep.find_runs(folder).items() if run.rows}
    summaries = {index: summarise(run.rows) for index, run in runs.items()}
    standings = _find_standings(runs)
    points = {}
    for index in sorted(runs):
        summary = summaries[index]
        points[index] = SweepPoint(
            label=sweep.labels[index],
            run=runs[index],
            summary=summary,
            interval=compute_interval(summary.n_success, summary.n_judged),
            standing=standings.get(index, ""),
            n_missing=len(runs[index].missing),
        )
    return points


def make_sweep_table(sweep: Sweep, points: Mapping[int, SweepPoint]) -> Table:
    """Return a table with a row for each point, in the order of the sweep."""
    flag = sweep.flag.replace("_", " ")
    table = Table(title=f"success by {flag}", title_justify="left")
    for column in (flag, "successes", "rate", "95 % interval", "steps of a success"):
        table.add_column(column, justify="right")
    table.add_column("against the best")
    for point in points.values():
        summary = point.summary
        low, high = point.interval
        table.add_row(
            point.label,
            f"{summary.n_success} of {summary.n_judged}",
            f"{summary.success_rate:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{summary.mean_success_steps:.1f}" if summary.n_success else "–",
            point.standing,
        )
    return table


def describe_sweep(sweep: Sweep, points: Mapping[int, SweepPoint]) -> Iterator[str]:
    """Yield sentences: the best point, those like it, and what ran, was saved or failed."""
    by_standing: dict[str, list[str]] = {}
    for point in points.values():
        by_standing.setdefault(point.standing, []).append(point.label)
    best = by_standing.get("best", [])
    alike = by_standing.get("like the best", [])
    if best:
        flag = sweep.flag.replace("_", " ")
        cannot = f"These episodes cannot tell {', '.join(alike)} from it." if alike else ""
        yield f"{flag} {best[0]} succeeds most often. {cannot}".strip()
    elif len(points) > 1:
        yield "The points are not compared: their episodes do not begin and end alike."
    if sweep.best_by == "racing":
        n_run = sum(len(point.run.rows) for point in points.values())
        n_tasks = max(len(point.run.description.tasks) for point in points.values())
        n_planned = len(sweep.points) * sweep.points[0].episodes * n_tasks
        yield (
            f"Racing ran {n_run} of {n_planned} episodes, "
            f"and left out {count_of(len(by_standing.get('left out', [])), 'point')} early."
        )
    unfinished = [point.label for point in points.values() if point.n_missing]
    if unfinished:
        yield f"Unfinished: {', '.join(unfinished)}."
    absent = [sweep.labels[index] for index in range(len(sweep.points)) if index not in points]
    if absent:
        yield f"Could not run: {', '.join(absent)}."


def _find_standings(runs: Mapping[int, Run]) -> dict[int, Standing]:
    """Compare every point with the one that succeeds most often; {} if they are not alike."""
    left_out = {index for index, run in runs.items() if run.description.decision is not None}
    racing = [index for index in runs if index not in left_out]
    standings: dict[int, Standing] = dict.fromkeys(left_out, "left out")
    if len(racing) == 1:
        return standings | {racing[0]: "best"}
    try:
        compared = compare([runs[index].path for index in racing])
    except WhiskerError:
        return standings
    best = compared.ranking[0]
    for place, index in enumerate(racing):
        pair = compared.comparisons.get((min(best, place), max(best, place)))
        if place == best:
            standings[index] = "best"
        elif pair is not None:
            standings[index] = "like the best" if pair.better is None else "worse"
    return standings
