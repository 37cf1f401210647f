"""Reads the plan quality that `whiskers --table` wrote beside a run, as means over each episode."""

import json
from contextlib import suppress
from pathlib import Path

# `viz.plan_quality` writes it.
PLAN_QUALITY_FILE = "plan_quality.jsonl"
_NOT_MEASURES = {"episode_index", "n_steps", "n_predictions", "decisive_step"}


def load_plan_quality_means(run: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Return (task, episode index) → measure → its mean over the episode's predictions.

    Undefined means are left out. The result is empty if `whiskers --table` has not written the
    file, or it is damaged, because a comparison does not need it.
    """
    means: dict[tuple[str, int], dict[str, float]] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        text = (run / PLAN_QUALITY_FILE).read_text(encoding="utf-8")
        for line in text.splitlines():
            row = json.loads(line)
            if row["kind"] == "episode":
                means[row["task"], row["episode_index"]] = {
                    name: value
                    for name, value in row.items()
                    if isinstance(value, float) and name not in _NOT_MEASURES
                }
    return means
