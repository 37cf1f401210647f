"""Compares two runs of the list episode by episode, for the page that shows both side by side."""

from pathlib import Path

from eval.compare_words import describe_comparison
from eval.compared_runs import ComparedRun, Comparison, Key
from eval.comparison import compare
from viz.page_data import episode_key, row_data


def describe_pair(runs: dict[str, Path]) -> dict:
    """Return what `eval-compare` says about two runs, and their shared episodes, JSON-ready.

    Args:
        runs: name in the list → folder of the run. There are two, and the first comes first.

    Raises:
        WhiskerError: a run cannot be read, or the two cannot be compared.
    """
    compared = compare(list(runs.values()))
    pair = compared.comparisons[0, 1]
    first, second = runs
    counts = pair.counts
    return {
        "first": _describe_run(first, pair.first),
        "second": _describe_run(second, pair.second),
        "verdict": describe_comparison(pair),
        "remarks": list(compared.remarks),
        "counts": {
            "only_first": counts.only_first,
            "only_second": counts.only_second,
            "neither": counts.neither,
            "both": counts.both,
        },
        "episodes": [_describe_episode(pair, key) for key in pair.shared],
    }


def _describe_run(name: str, compared: ComparedRun) -> dict:
    return {"run": name, "name": compared.name}


def _describe_episode(pair: Comparison, key: Key) -> dict:
    """Return a shared episode, in the group of those that the same runs solve."""
    row = pair.first.rows[key]
    other = pair.second.rows[key]
    if row.success == other.success:
        group = "both" if row.success else "neither"
    else:
        group = "only_first" if row.success else "only_second"
    return {
        "key": episode_key(*key),
        "group": group,
        "first": row_data(row),
        "second": row_data(other),
    }
