"""Compares the plan quality that `whiskers --table` measured in two runs."""

from functools import partial

from eval.compared_runs import ComparedRun, Comparison, Key, PairedMean
from eval.plan_quality_means import load_plan_quality_means


def compare_plan_quality(pair: Comparison) -> dict[str, PairedMean]:
    """Return measure → its means over the shared episodes, if `whiskers --table` wrote both."""
    first = load_plan_quality_means(pair.first.run.path)
    second = load_plan_quality_means(pair.second.run.path)
    means = {pair.first.name: first, pair.second.name: second}

    def read(
        name: str,
        run: ComparedRun,
        key: Key,
    ) -> float | None:
        return means[run.name].get(key, {}).get(name)

    compared: dict[str, PairedMean] = {}
    for key in pair.shared:
        for name in first.get(key, {}):
            if name in compared or name not in second.get(key, {}):
                continue
            mean = pair.compare_means(partial(read, name))
            if mean is not None:
                compared[name] = mean
    return compared
