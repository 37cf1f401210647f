"""Describes a comparison as JSON, for other programs. Undefined numbers are null."""

from dataclasses import asdict
from math import isnan
from typing import Any

from eval.comparability import have_same_rules
from eval.compare_words import describe_comparison, format_open_command
from eval.compared_plan_quality import compare_plan_quality
from eval.compared_runs import ComparedRun, ComparedRuns, Comparison, PairedMean
from eval.paired_statistics import PairedCounts, compute_correlation, compute_difference_interval
from eval.proportions import IntervalMethod, compute_interval, uses_clopper_pearson

VERSION = 1


def describe_as_json(compared: ComparedRuns, method: IntervalMethod) -> dict[str, Any]:
    """Return the comparison in a form that `json.dumps` accepts."""
    runs = [_describe_run(run, method) for run in compared.runs]
    pairs = [_describe_pair(pair) for pair in compared.comparisons.values()]
    if len(compared.runs) > 2:
        for index, run in enumerate(runs):
            run["letters"] = compared.letters[index]
    else:
        for pair, described in zip(compared.comparisons.values(), pairs, strict=True):
            described |= _describe_details(pair)
    return {
        "version": VERSION,
        "runs": runs,
        "comparisons": pairs,
        "remarks": list(compared.remarks),
    }


def _describe_run(run: ComparedRun, method: IntervalMethod) -> dict[str, Any]:
    n = len(run.rows)
    n_success = run.n_success
    policy = run.run.description.policy
    is_exact = uses_clopper_pearson(n_success, n, method)
    return {
        "name": run.name,
        "path": str(run.run.path),
        "policy": policy.type,
        "checkpoint": policy.checkpoint,
        "n_judged": n,
        "n_success": n_success,
        "n_crashed": len(run.crashed),
        "n_missing": run.n_missing,
        "success_rate": n_success / n if n else None,
        "success_interval": _list_ends(compute_interval(n_success, n, method)),
        "interval_method": "clopper-pearson" if is_exact else "wilson",
    }


def _describe_pair(pair: Comparison) -> dict[str, Any]:
    return {
        "first": pair.first.name,
        "second": pair.second.name,
        **_describe_counts(pair.counts),
        "difference": pair.difference,
        "difference_interval": _list_ends(pair.interval),
        "mcnemar_p": pair.p,
        "corrected_p": pair.corrected_p,
        "correlation": _null_if_nan(compute_correlation(pair.counts)),
        "better": pair.better.name if pair.better else None,
        "verdict": describe_comparison(pair),
        "tasks": _describe_groups(pair.tasks),
    }


def _describe_details(pair: Comparison) -> dict[str, Any]:
    """Return what is described only if two runs are compared alone."""
    outcomes = {}
    if have_same_rules(pair.first.run.description, pair.second.run.description):
        outcomes = _describe_groups(pair.count_outcomes())
    steps = pair.compare_steps()
    plan_quality = compare_plan_quality(pair).items()
    episodes = []
    for row, other in pair.differing:
        episode = {
            "task": row.task,
            "episode_index": row.episode_index,
            "first_outcome": str(row.outcome),
            "second_outcome": str(other.outcome),
            "open_first": format_open_command(pair.first, row),
            "open_second": format_open_command(pair.second, other),
        }
        episodes.append(episode)
    return {
        "outcomes": outcomes,
        "steps_to_success": _describe_mean(steps) if steps else None,
        "plan_quality": {name: _describe_mean(mean) for name, mean in plan_quality},
        "differing_episodes": episodes,
    }


def _describe_groups(groups: dict[str, PairedCounts]) -> dict[str, Any]:
    """Return the counts of each task or outcome, with the difference and its interval."""
    described = {}
    for name, counts in groups.items():
        interval = compute_difference_interval([counts])
        described[str(name)] = {
            **_describe_counts(counts),
            "difference": counts.difference,
            "difference_interval": _list_ends(interval),
        }
    return described


def _describe_counts(counts: PairedCounts) -> dict[str, int]:
    return {"n": counts.n, **asdict(counts)}


def _describe_mean(mean: PairedMean) -> dict[str, Any]:
    return mean._asdict() | {"interval": _list_ends(mean.interval)}


def _list_ends(interval: tuple[float, float]) -> list[float] | None:
    return None if isnan(interval[0]) else list(interval)


def _null_if_nan(value: float) -> float | None:
    return None if isnan(value) else value
