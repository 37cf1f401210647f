"""Writes numbers, names and commands for a report.

A number that is undefined is a dash, never 0.
"""

import shlex
from math import isnan
from pathlib import Path

from eval.episode_row import EpisodeRow
from eval.statistics import RunSummary
from sim.command_words import RUN

UNDEFINED = "–"
# How a person calls a command.

NO_EVENT = "not recorded"
NO_EVENT_MEANING = (
    "the run is older than decisive events: the steps are those at which the outcome was settled"
)


def format_number(value: float | None, form: str, unit: str = "") -> str:
    return UNDEFINED if value is None or isnan(value) else f"{value:{form}}{unit}"


def format_percent(share: float) -> str:
    return format_number(100 * share, ".1f", " %")


def format_interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return UNDEFINED if isnan(low) else f"{format_percent(low)} to {format_percent(high)}"


def in_words(name: str) -> str:
    return name.replace("_", " ")


def count_of(n: int, noun: str) -> str:
    """Return e.g. "1 episode" or "2 episodes"."""
    return f"{n} {noun}{'s' * (n != 1)}"


def format_command(*words: str | Path) -> str:
    """Return a command of this project as a person types it, e.g. "uv run whiskers runs/x"."""
    return f"{RUN} {shlex.join(map(str, words))}"


def format_episode_flags(row: EpisodeRow, *, has_tasks: bool) -> str:
    """Return the flags by which `whiskers` opens an episode: a failure at its decisive step."""
    which = ("--task", row.task) if has_tasks else ()
    return shlex.join(["--episode", str(row.episode_index), *which])


def describe_rate(summary: RunSummary) -> str:
    """Return the success rate in one sentence."""
    if not summary.n_judged:
        return "No episode ran to its end, so there is no success rate (n = 0)."
    verb = "succeeds" if summary.n_judged == 1 else "succeed"
    rate, interval = format_percent(summary.success_rate), format_interval(summary.success_interval)
    counted = f"{summary.n_success} of {count_of(summary.n_judged, 'episode')} {verb}"
    return f"{counted}: {rate} (95 % interval {interval})."
