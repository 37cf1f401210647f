"""A comparison as JSON, for other programs. What is undefined is null."""

from math import isnan
from typing import Any

from eval.comparability import have_same_rules
from eval.compare_tables import compare_plan_quality
from eval.compare_words import describe_comparison, format_open_command
from eval.comparison import ComparedRun, ComparedRuns, Comparison, PairedMean
from eval.paired_statistics import PairedCounts, compute_correlation, compute_difference_interval
from eval.proportions import IntervalMethod, compute_interval, uses_clopper_pearson

VERSION = 1


def describe_as_json(compared: ComparedRuns, method: IntervalMethod) -> dict[str, Any]:
    """Return the comparison as `json.dumps` takes it."""
    has_letters = len(compared.runs) > 2
    runs = [_describe_run(run, method) for run in compared.runs]
    for index, run in enumerate(runs if has_letters else []):
        run["letters"] = compared.letters[index]
    pairs = [
        _describe_pair(pair, with_detail=not has_letters) for pair in compared.comparisons.values()
    ]
    return {
        "version": VERSION,
        "runs": runs,
        "comparisons": pairs,
        "remarks": list(compared.remarks),
    }


def _describe_run(run: ComparedRun, method: IntervalMethod) -> dict[str, Any]:
    n, n_success = len(run.rows), run.n_success
    return {
        "name": run.name,
        "path": str(run.run.path),
        "policy": run.run.description.policy.type,
        "checkpoint": run.run.description.policy.checkpoint,
        "n_judged": n,
        "n_success": n_success,
        "n_crashed": len(run.crashed),
        "n_missing": run.n_missing,
        "success_rate": n_success / n if n else None,
        "success_interval": _as_pair(compute_interval(n_success, n, method)),
        "interval_method": "clopper-pearson"
        if uses_clopper_pearson(n_success, n, method)
        else "wilson",
    }


def _describe_pair(pair: Comparison, *, with_detail: bool) -> dict[str, Any]:
    described = {
        "first": pair.first.name,
        "second": pair.second.name,
        **_describe_counts(pair.counts),
        "difference": pair.difference,
        "difference_interval": _as_pair(pair.interval),
        "mcnemar_p": pair.p,
        "corrected_p": pair.corrected_p,
        "correlation": _unless_nan(compute_correlation(pair.counts)),
        "better": pair.better.name if pair.better else None,
        "verdict": describe_comparison(pair),
        "tasks": {
            task: _describe_counts(counts) | _describe_difference(counts)
            for task, counts in pair.tasks.items()
        },
    }
    return described | (_describe_detail(pair) if with_detail else {})


def _describe_detail(pair: Comparison) -> dict[str, Any]:
    """Return what is said of two runs that are compared alone."""
    is_comparable = have_same_rules(pair.first.run.description, pair.second.run.description)
    steps = pair.compare_steps()
    return {
        "outcomes": {
            str(outcome): _describe_counts(counts) | _describe_difference(counts)
            for outcome, counts in (pair.count_outcomes() if is_comparable else {}).items()
        },
        "steps_to_success": _describe_mean(steps) if steps else None,
        "plan_quality": {
            name: _describe_mean(mean) for name, mean in compare_plan_quality(pair).items()
        },
        "differing_episodes": [
            {
                "task": one.task,
                "episode_index": one.episode_index,
                "first_outcome": str(one.outcome),
                "second_outcome": str(other.outcome),
                "open_first": format_open_command(pair.first, one),
                "open_second": format_open_command(pair.second, other),
            }
            for one, other in pair.differing
        ],
    }


def _describe_counts(counts: PairedCounts) -> dict[str, int]:
    names = ("both", "only_first", "only_second", "neither")
    return {"n": counts.n, **{name: getattr(counts, name) for name in names}}


def _describe_difference(counts: PairedCounts) -> dict[str, Any]:
    interval = compute_difference_interval([counts])
    return {"difference": counts.difference, "difference_interval": _as_pair(interval)}


def _describe_mean(mean: PairedMean) -> dict[str, Any]:
    return mean._asdict() | {"interval": _as_pair(mean.interval)}


def _as_pair(interval: tuple[float, float]) -> list[float] | None:
    return None if isnan(interval[0]) else list(interval)


def _unless_nan(value: float) -> float | None:
    return None if isnan(value) else value
