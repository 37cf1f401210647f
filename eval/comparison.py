"""Compares runs episode by episode: the rows of two runs with one task and episode index began alike."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from math import nan, sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from eval.comparability import find_conflicts, find_remarks
from eval.episode_row import EpisodeRow
from eval.outcome import Outcome, rank_outcome
from eval.paired_statistics import (
    PairedCounts,
    compute_difference_interval,
    compute_macro_difference,
    compute_mcnemar_p,
    correct_by_holm,
    find_letters,
)
from eval.proportions import compute_t_quantile
from eval.run import Run
from eval.run_folders import find_run_folders, is_run_folder
from eval.run_name import name_policy_in_folder
from sim.command_words import write_command
from sim.errors import WhiskerError

SIGNIFICANT = 0.05

Key = tuple[str, int]


@dataclass(frozen=True)
class ComparedRun:
    """A run whose episodes are compared with another's.

    Attributes:
        name: tells it from the others: policy and checkpoint, else the folder.
        rows: (task, episode index) → row, of the episodes that ran to their end.
        crashed: likewise, of those that ended in an error.
        n_missing: episodes that were asked for and have no row.
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


class PairedMean(NamedTuple):
    """The mean of a number over the episodes for which both runs have it; the interval is Student's, of 95 %."""

    n: int
    first: float
    second: float
    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """Two runs on the episodes that both have judged.

    Attributes:
        tasks: task → counts, of the tasks that share an episode, in the first run's order.
        p: of McNemar's exact test.
        corrected_p: the same as corrected by Holm for the number of pairs that are compared.
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
        """Return the first run's success rate less the second's; of several tasks, the mean of theirs."""
        return compute_macro_difference(self.tasks.values())

    @cached_property
    def interval(self) -> tuple[float, float]:
        return compute_difference_interval(list(self.tasks.values()))

    @property
    def better(self) -> ComparedRun | None:
        """Return the run that is better, or None where these episodes do not tell.

        The pooled counts, which the test looks at, and the mean over tasks must say the same.
        """
        pooled = self.counts.only_first - self.counts.only_second
        if self.corrected_p >= SIGNIFICANT or pooled * self.difference <= 0:
            return None
        return self.first if pooled > 0 else self.second

    @property
    def differing(self) -> list[tuple[EpisodeRow, EpisodeRow]]:
        """Return the rows of the episodes that only one of the two solves."""
        pairs = ((self.first.rows[key], self.second.rows[key]) for key in self.shared)
        return [(one, other) for one, other in pairs if one.success != other.success]

    def count_outcomes(self) -> dict[str, PairedCounts]:
        """Return outcome → in how many shared episodes both, only one or neither ended so; of those that occur."""
        pairs = Counter(
            (self.first.rows[key].outcome, self.second.rows[key].outcome) for key in self.shared
        )
        firsts, seconds = Counter[str](), Counter[str]()
        for (one, other), n in pairs.items():
            firsts[one] += n
            seconds[other] += n
        return {
            outcome: _count_pairs(
                pairs[outcome, outcome], firsts[outcome], seconds[outcome], len(self.shared)
            )
            for outcome in sorted(firsts | seconds, key=rank_outcome)
        }

    def compare_steps(self) -> PairedMean | None:
        """Return the steps to success, of the episodes that both solve; None if there are none."""
        return self.compare_means(
            lambda run, key: float(run.rows[key].n_steps) if self._is_solved_by_both(key) else None
        )

    def compare_means(self, read: Callable[[ComparedRun, Key], float | None]) -> PairedMean | None:
        """Return the mean of a number over the shared episodes in which it is defined for both; None without any."""
        pairs = [(read(self.first, key), read(self.second, key)) for key in self.shared]
        defined = [(one, other) for one, other in pairs if one is not None and other is not None]
        if not defined:
            return None
        differences = [one - other for one, other in defined]
        mean, n = fmean(differences), len(defined)
        half = nan
        if n > 1:
            half = compute_t_quantile(0.95, n - 1) * stdev(differences) / sqrt(n)
        firsts, seconds = zip(*defined, strict=True)
        return PairedMean(n, fmean(firsts), fmean(seconds), mean, (mean - half, mean + half))

    def _is_solved_by_both(self, key: Key) -> bool:
        return self.first.rows[key].success and self.second.rows[key].success


@dataclass(frozen=True)
class ComparedRuns:
    """Every pair of several runs.

    Attributes:
        runs: in the order in which they were given.
        comparisons: (index, index) → the pair; without those that share no episode.
        remarks: sentences on what is not as it might be taken for.
    """

    runs: Sequence[ComparedRun]
    comparisons: dict[tuple[int, int], Comparison]
    remarks: Sequence[str]

    @cached_property
    def ranking(self) -> list[int]:
        """Return the runs' indices, the best first.

        Each task counts alike, however many of its episodes there are.
        """
        rates = [_compute_rate(run) for run in self.runs]
        return sorted(range(len(self.runs)), key=lambda index: (-rates[index], index))

    @cached_property
    def letters(self) -> dict[int, str]:
        """Return run → its letters (`find_letters`).

        Runs that share no episode are not told apart.
        """
        place = {index: k for k, index in enumerate(self.ranking)}
        told_apart = {
            (min(place[i], place[j]), max(place[i], place[j]))
            for (i, j), pair in self.comparisons.items()
            if pair.better is not None
        }
        return dict(zip(self.ranking, find_letters(len(self.runs), told_apart), strict=True))


def compare(paths: Sequence[Path]) -> ComparedRuns:
    """Compare the runs in these folders, each of which is a run or has runs in it.

    Raises:
        WhiskerError: fewer than two runs, one that cannot be read or compared with the first, one
            that is named twice, or nothing shared. Runs that were only found in a folder are left
            out instead, with a remark.
    """
    runs, remarks = _open_runs(paths)
    compared = _name_runs(runs)
    comparisons = _compare_pairs(compared)
    if not comparisons:
        raise WhiskerError(
            " and ".join(repr(run.name) for run in compared[:3]),
            expected="episodes that both have judged",
            got="none: other tasks or episode indices, or every one crashed",
            hint="Run them with the same --env, --first-episode and --episodes.",
        )
    for run in compared:
        remarks += _describe_gaps(run)
    for (i, j), pair in comparisons.items():
        if i == 0:
            remarks += [
                f"{compared[0].name} and {compared[j].name}: {sentence}"
                for sentence in _describe_pair(pair)
            ]
    return ComparedRuns(compared, comparisons, remarks)


def _open_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs that can be compared, and a sentence for each that was found in a folder and can not be."""
    runs: list[Run] = []
    remarks: list[str] = []
    named: set[Path] = set()
    for path in paths:
        is_folder_of_runs = path.is_dir() and not is_run_folder(path)
        for candidate in (
            list(find_run_folders(path).runs.values()) if is_folder_of_runs else [path]
        ):
            resolved = candidate.resolve()
            if resolved in named:
                if is_folder_of_runs:
                    continue
                raise WhiskerError(
                    f"run {str(candidate)!r}", expected="every run once", got="it twice"
                )
            try:
                run = Run.open(candidate)
                _check_fits(runs[0] if runs else None, run)
            except WhiskerError as error:
                if not is_folder_of_runs:
                    raise
                remarks.append(f"Left out: {error}")
                continue
            named.add(resolved)
            runs.append(run)
    if len(runs) < 2:
        got = f"{len(runs)}" + (f" ({remarks[0]})" if remarks else "")
        raise WhiskerError(
            "eval-compare", expected="two runs or more, or a folder of them", got=got
        )
    return runs, remarks


def _check_fits(first: Run | None, run: Run) -> None:
    """Raise unless the run has episodes and can be compared with the first."""
    if not run.rows:
        hint = f"Finish it: {write_command('eval', '--resume', run.path)}"
        raise WhiskerError(
            f"run {str(run.path)!r}", expected="finished episodes", got="none", hint=hint
        )
    conflicts = find_conflicts(first.description, run.description) if first else []
    if first and conflicts:
        raise WhiskerError(
            f"runs {str(first.path)!r} and {str(run.path)!r}",
            expected="episodes that begin and end alike",
            got=f"other {', '.join(conflicts)}",
            hint="Compare runs of one environment with the same flags.",
        )


def _name_runs(runs: Sequence[Run]) -> list[ComparedRun]:
    """Return the runs, named by policy where that tells them apart, else by folder, else by path."""
    policies = [run.description.policy for run in runs]
    by_policy = [name_policy_in_folder(policy.type, policy.checkpoint or "") for policy in policies]
    by_folder, by_path = [run.path.resolve().name for run in runs], [str(run.path) for run in runs]
    names = next((each for each in (by_policy, by_folder) if len(set(each)) == len(each)), by_path)
    return [_sort_rows(run, name) for run, name in zip(runs, names, strict=True)]


def _sort_rows(run: Run, name: str) -> ComparedRun:
    rows: dict[Key, EpisodeRow] = {}
    crashed: dict[Key, EpisodeRow] = {}
    for row in run.rows:
        (crashed if row.outcome is Outcome.ERROR else rows)[row.task, row.episode_index] = row
    return ComparedRun(run, name, rows, crashed, len(run.missing))


def _compare_pairs(runs: Sequence[ComparedRun]) -> dict[tuple[int, int], Comparison]:
    counted, p_values = {}, {}
    for i, j in combinations(range(len(runs)), 2):
        shared, tasks = _count_shared(runs[i], runs[j])
        if shared:
            counted[i, j] = shared, tasks
            p_values[i, j] = compute_mcnemar_p(sum(tasks.values(), PairedCounts(0, 0, 0, 0)))
    corrected = correct_by_holm(p_values)
    return {
        (i, j): Comparison(runs[i], runs[j], shared, tasks, p_values[i, j], corrected[i, j])
        for (i, j), (shared, tasks) in counted.items()
    }


def _count_shared(
    first: ComparedRun, second: ComparedRun
) -> tuple[list[Key], dict[str, PairedCounts]]:
    """Return the episodes that both have judged, and task → how they ended."""
    successes, others = first.successes, second.successes
    shared = [key for key in successes if key in others]
    ended = Counter((key[0], successes[key], others[key]) for key in shared)
    ends = [(True, True), (True, False), (False, True), (False, False)]
    tasks = dict.fromkeys(task for task, _ in shared)
    return shared, {task: PairedCounts(*(ended[task, *each] for each in ends)) for task in tasks}


def _count_pairs(both: int, first: int, second: int, n: int) -> PairedCounts:
    return PairedCounts(both, first - both, second - both, n - first - second + both)


def _compute_rate(run: ComparedRun) -> float:
    """Return the mean of the tasks' success rates."""
    of_task: dict[str, list[bool]] = {}
    for (task, _), success in run.successes.items():
        of_task.setdefault(task, []).append(success)
    return fmean(fmean(each) for each in of_task.values()) if of_task else 0.0


def _describe_gaps(run: ComparedRun) -> list[str]:
    """Return a sentence on episodes that have not ended, and one on those that crashed."""
    remarks = []
    if run.n_missing:
        n = len(run.rows) + len(run.crashed)
        remarks.append(
            f"{run.name} is unfinished: {n} of {n + run.n_missing} episodes have ended, and only these count."
        )
    if run.crashed:
        which = ", ".join(f"{task} {index}" for task, index in list(run.crashed)[:3])
        more = " and more" if len(run.crashed) > 3 else ""
        remarks.append(
            f"{run.name}: {len(run.crashed)} crashed ({which}{more}); they are neither successes nor failures, "
            "and are in no pair."
        )
    return remarks


def _describe_pair(pair: Comparison) -> list[str]:
    """Return sentences on the episodes that only one of two runs has, and on what else differs."""
    remarks = []
    shared = set(pair.shared)
    for run in (pair.first, pair.second):
        alone = [row.success for key, row in run.rows.items() if key not in shared]
        if alone:
            remarks.append(
                f"{len(alone)} episodes of {run.name} have no partner ({sum(alone)} succeed); unused."
            )
    return remarks + find_remarks(pair.first.run.description, pair.second.run.description)
