"""Compares runs episode by episode.

The episodes of two runs that have the same task and index began alike, so they form a pair.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from eval.comparability import find_conflicts, find_remarks
from eval.compared_runs import ComparedRun, ComparedRuns, Comparison, Key
from eval.episode_row import EpisodeRow
from eval.outcome import Outcome
from eval.paired_statistics import PairedCounts, compute_mcnemar_p, correct_by_holm
from eval.run import Run
from eval.run_folders import find_run_folders, is_run_folder
from eval.run_name import name_policy_in_folder
from sim.command_words import write_command
from sim.errors import WhiskerError


def compare(paths: Sequence[Path]) -> ComparedRuns:
    """Compare the runs in these folders, each of which is a run or has runs in it.

    Raises:
        WhiskerError: there are fewer than two runs, a run cannot be read or compared with the first
            one, a run is named twice, or no episode is shared. Runs that were only found in a
            folder are left out instead, with a remark.
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
    for (i, _), pair in comparisons.items():
        if i == 0:
            names = f"{pair.first.name} and {pair.second.name}"
            remarks += [f"{names}: {sentence}" for sentence in _describe_pair(pair)]
    return ComparedRuns(compared, comparisons, remarks)


def _open_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs to compare, and a sentence for each run in a folder that cannot be."""
    runs: dict[Path, Run] = {}
    remarks: list[str] = []
    for path in paths:
        if path.is_dir() and not is_run_folder(path):
            for folder in find_run_folders(path).runs.values():
                if folder.resolve() not in runs:
                    remarks += _add_if_comparable(folder, runs)
        elif path.resolve() in runs:
            raise WhiskerError(
                f"run {str(path)!r}",
                expected="each run to be named once",
                got="it twice",
            )
        else:
            _add_run(path, runs)
    if len(runs) < 2:
        reason = f" ({remarks[0]})" if remarks else ""
        raise WhiskerError(
            "eval-compare",
            expected="two runs or more, or a folder of them",
            got=f"{len(runs)}{reason}",
        )
    return list(runs.values()), remarks


def _add_if_comparable(folder: Path, runs: dict[Path, Run]) -> list[str]:
    """Add the run if it can be compared; return a sentence if it cannot."""
    try:
        _add_run(folder, runs)
    except WhiskerError as error:
        return [f"Left out: {error}"]
    return []


def _add_run(folder: Path, runs: dict[Path, Run]) -> None:
    run = Run.open(folder)
    first = next(iter(runs.values()), None)
    check_run(run, first)
    runs[folder.resolve()] = run


def check_run(run: Run, first: Run | None = None) -> None:
    """Raise unless the run has episodes and can be compared with the first one, if there is one."""
    if not run.rows:
        raise WhiskerError(
            f"run {str(run.path)!r}",
            expected="finished episodes",
            got="none",
            hint=f"Finish it: {write_command('eval', '--resume', run.path)}",
        )
    if first is None:
        return
    conflicts = find_conflicts(first.description, run.description)
    if conflicts:
        raise WhiskerError(
            f"runs {str(first.path)!r} and {str(run.path)!r}",
            expected="episodes that begin and end alike",
            got=f"other {', '.join(conflicts)}",
            hint="Compare runs of one environment with the same flags.",
        )


def _name_runs(runs: Sequence[Run]) -> list[ComparedRun]:
    """Name the runs by policy if these names differ, else by folder, else by path."""
    policies = [run.description.policy for run in runs]
    by_policy = [name_policy_in_folder(policy.type, policy.checkpoint or "") for policy in policies]
    by_folder = [run.path.resolve().name for run in runs]
    names = [str(run.path) for run in runs]
    for candidates in (by_policy, by_folder):
        if len(set(candidates)) == len(candidates):
            names = candidates
            break
    return [_sort_rows(run, name) for run, name in zip(runs, names, strict=True)]


def _sort_rows(run: Run, name: str) -> ComparedRun:
    rows: dict[Key, EpisodeRow] = {}
    crashed: dict[Key, EpisodeRow] = {}
    for row in run.rows:
        key = row.task, row.episode_index
        if row.outcome is Outcome.ERROR:
            crashed[key] = row
        else:
            rows[key] = row
    return ComparedRun(
        run,
        name,
        rows,
        crashed,
        len(run.missing),
    )


def _compare_pairs(runs: Sequence[ComparedRun]) -> dict[tuple[int, int], Comparison]:
    shared = {}
    tasks = {}
    p_values = {}
    for i, j in combinations(range(len(runs)), 2):
        keys = [key for key in runs[i].successes if key in runs[j].successes]
        if keys:
            counts = _count_tasks(runs[i], runs[j], keys)
            shared[i, j] = keys
            tasks[i, j] = counts
            total = sum(counts.values(), PairedCounts(0, 0, 0, 0))
            p_values[i, j] = compute_mcnemar_p(total)
    corrected = correct_by_holm(p_values)
    comparisons = {}
    for i, j in shared:
        comparisons[i, j] = Comparison(
            first=runs[i],
            second=runs[j],
            shared=shared[i, j],
            tasks=tasks[i, j],
            p=p_values[i, j],
            corrected_p=corrected[i, j],
        )
    return comparisons


def _count_tasks(
    first: ComparedRun,
    second: ComparedRun,
    shared: Sequence[Key],
) -> dict[str, PairedCounts]:
    """Return task → the paired counts of its shared episodes."""
    n = Counter[tuple[str, bool, bool]]()
    for key in shared:
        task, _ = key
        n[task, first.successes[key], second.successes[key]] += 1
    tasks = {}
    for task, _ in shared:
        if task not in tasks:
            tasks[task] = PairedCounts(
                both=n[task, True, True],
                only_first=n[task, True, False],
                only_second=n[task, False, True],
                neither=n[task, False, False],
            )
    return tasks


def _describe_gaps(run: ComparedRun) -> list[str]:
    """Return a sentence on episodes that were not needed, are missing, or crashed."""
    remarks = []
    decision = run.run.description.decision
    if decision is not None:
        remarks.append(
            f"{run.name}: {decision} Differences, intervals and p values below are too favourable "
            "to it as well."
        )
    if run.n_missing:
        n = len(run.rows) + len(run.crashed)
        remarks.append(
            f"{run.name} is unfinished: {n} of {n + run.n_missing} episodes have ended, "
            "and only these count."
        )
    if run.crashed:
        first_keys = list(run.crashed)[:3]
        listed = ", ".join(f"{task} {index}" for task, index in first_keys)
        more = " and more" if len(run.crashed) > 3 else ""
        remarks.append(
            f"{run.name}: {len(run.crashed)} crashed ({listed}{more}); "
            "they are neither successes nor failures, and are in no pair."
        )
    return remarks


def _describe_pair(pair: Comparison) -> list[str]:
    """Return sentences on the episodes that only one run has, and on other differences."""
    remarks = []
    shared = set(pair.shared)
    for run in (pair.first, pair.second):
        alone = [row.success for key, row in run.rows.items() if key not in shared]
        if alone:
            remarks.append(
                f"{len(alone)} episodes of {run.name} have no partner "
                f"({sum(alone)} succeed); they are not used."
            )
    return remarks + find_remarks(pair.first.run.description, pair.second.run.description)
