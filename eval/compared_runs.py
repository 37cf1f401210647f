"""Holds runs that are compared episode by episode, and computes their paired numbers."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import nan, sqrt
from statistics import fmean, stdev
from typing import NamedTuple

from eval.episode_row import EpisodeRow
from eval.outcome import rank_outcome
from eval.paired_statistics import (
    PairedCounts,
    compute_difference_interval,
    compute_macro_difference,
    find_letters,
)
from eval.proportions import compute_t_quantile
from eval.run import Run

SIGNIFICANT = 0.05

# Task and episode index.
Key = tuple[str, int]


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        name: differs from the other runs' names: policy and checkpoint, else the folder.
        rows: (task, episode index) → row, of the episodes that ran to their end.
        crashed: likewise, of the episodes that ended in an error.
        n_missing: number of planned episodes that have no row.
    """

    run: Run
    name: str
    rows: dict[Key, EpisodeRow]
    crashed: dict[Key, EpisodeRow]
    n_missing: int

    @property
    def n_success(self) -> int:
        return sum(row.success for row in self.rows.values())

    @cached_property
    def successes(self) -> dict[Key, bool]:
        return {key: row.success for key, row in self.rows.items()}

    @cached_property
    def macro_success_rate(self) -> float:
        """Return the mean of the tasks' success rates; 0 without episodes."""
        by_task: dict[str, list[bool]] = {}
        for (task, _), success in self.successes.items():
            by_task.setdefault(task, []).append(success)
        if not by_task:
            return 0.0
        return fmean(fmean(successes) for successes in by_task.values())


class PairedMean(NamedTuple):
    """Holds the means of a number over the episodes in which both runs define it.

    The interval is Student's, of 95 %, for the mean of the paired differences.
    """

    n: int
    first: float
    second: float
    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Compares two runs on the episodes that both have judged.

    Attributes:
        tasks: task → counts, of the tasks that share an episode, in the first run's order.
        p: p value of McNemar's exact test.
        corrected_p: p, corrected by Holm for the number of pairs that are compared.
    """

    first: ComparedRun
    second: ComparedRun
    shared: Sequence[Key] = field(repr=False)
    tasks: dict[str, PairedCounts]
    p: float
    corrected_p: float

    @cached_property
    def counts(self) -> PairedCounts:
        return sum(self.tasks.values(), PairedCounts(0, 0, 0, 0))

    @cached_property
    def difference(self) -> float:
        """Return the first run's success rate minus the second's, averaged over tasks."""
        return compute_macro_difference(self.tasks.values())

    @cached_property
    def interval(self) -> tuple[float, float]:
        return compute_difference_interval(list(self.tasks.values()))

    @property
    def better(self) -> ComparedRun | None:
        """Return the better run, or None if the episodes do not show one.

        The pooled counts, which the test uses, and the mean over tasks must have the same sign.
        """
        pooled = self.counts.only_first - self.counts.only_second
        if self.corrected_p >= SIGNIFICANT or pooled * self.difference <= 0:
            return None
        return self.first if pooled > 0 else self.second

    @property
    def differing(self) -> list[tuple[EpisodeRow, EpisodeRow]]:
        """Return both runs' rows of the episodes that only one of the runs solves."""
        differing = []
        for key in self.shared:
            row = self.first.rows[key]
            other = self.second.rows[key]
            if row.success != other.success:
                differing.append((row, other))
        return differing

    def count_outcomes(self) -> dict[str, PairedCounts]:
        """Return outcome → its paired counts over the shared episodes, for outcomes that occur."""
        n_first = Counter[str]()
        n_second = Counter[str]()
        n_both = Counter[str]()
        for key in self.shared:
            outcome = self.first.rows[key].outcome
            other = self.second.rows[key].outcome
            n_first[outcome] += 1
            n_second[other] += 1
            if outcome == other:
                n_both[outcome] += 1
        counts = {}
        for outcome in sorted(n_first | n_second, key=rank_outcome):
            both = n_both[outcome]
            only_first = n_first[outcome] - both
            only_second = n_second[outcome] - both
            neither = len(self.shared) - both - only_first - only_second
            counts[outcome] = PairedCounts(
                both,
                only_first,
                only_second,
                neither,
            )
        return counts

    def compare_steps(self) -> PairedMean | None:
        """Return the mean steps to success of the episodes that both solve; None without any."""

        def read_steps(run: ComparedRun, key: Key) -> float | None:
            is_solved = self.first.rows[key].success and self.second.rows[key].success
            return float(run.rows[key].n_steps) if is_solved else None

        return self.compare_means(read_steps)

    def compare_means(self, read: Callable[[ComparedRun, Key], float | None]) -> PairedMean | None:
        """Return the means of a number over the shared episodes; None if it is never defined.

        Args:
            read: returns the number in an episode of a run, or None if it is not defined. Only
                episodes in which both runs define it are used.
        """
        firsts = []
        seconds = []
        for key in self.shared:
            value = read(self.first, key)
            other = read(self.second, key)
            if value is not None and other is not None:
                firsts.append(value)
                seconds.append(other)
        if not firsts:
            return None
        differences = [value - other for value, other in zip(firsts, seconds, strict=True)]
        n = len(differences)
        mean = fmean(differences)
        half = nan
        if n > 1:
            half = compute_t_quantile(0.95, n - 1) * stdev(differences) / sqrt(n)
        return PairedMean(
            n=n,
            first=fmean(firsts),
            second=fmean(seconds),
            difference=mean,
            interval=(mean - half, mean + half),
        )


@dataclass(frozen=True)
class ComparedRuns:
    """Holds every pair of several runs.

    Attributes:
        runs: in the order in which they were given.
        comparisons: (index, index) → the pair; without the pairs that share no episode.
        remarks: sentences on differences and gaps that a reader should know.
    """

    runs: Sequence[ComparedRun]
    comparisons: dict[tuple[int, int], Comparison]
    remarks: Sequence[str]

    @cached_property
    def ranking(self) -> list[int]:
        """Return the runs' indices, the best first, by the mean of the tasks' success rates."""
        indices = range(len(self.runs))
        return sorted(indices, key=lambda index: (-self.runs[index].macro_success_rate, index))

    @cached_property
    def letters(self) -> dict[int, str]:
        """Return run → its letters (`find_letters`).

        Runs that share no episode are treated as not different.
        """
        rank_of = {index: rank for rank, index in enumerate(self.ranking)}
        different = set()
        for (i, j), pair in self.comparisons.items():
            if pair.better is not None:
                low, high = sorted((rank_of[i], rank_of[j]))
                different.add((low, high))
        letters = find_letters(len(self.runs), different)
        return dict(zip(self.ranking, letters, strict=True))
