"""Reads what `whiskers --table` wrote beside a run: the means of how good an episode's plans were."""

import json
from contextlib import suppress
from pathlib import Path

# `viz.plan_quality` writes it.
PLAN_QUALITY_FILE = "plan_quality.jsonl"
_NOT_MEASURES = {"episode_index", "n_steps", "n_predictions", "decisive_step"}


def load_plan_quality_means(run: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Return (task, episode index) → measure → its mean over the episode's predictions, of those that are defined.

    Empty where `whiskers --table` has not written the file, or it is damaged: a comparison does
    without it.
    """
    means: dict[tuple[str, int], dict[str, float]] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        for line in (run / PLAN_QUALITY_FILE).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["kind"] == "episode":
                means[row["task"], row["episode_index"]] = {
                    name: value
                    for name, value in row.items()
                    if isinstance(value, float) and name not in _NOT_MEASURES
                }
    return means
