"""Writes numbers, names and commands for a report. An undefined number is a dash, never 0."""

import shlex
from math import isnan
from pathlib import Path

from eval.episode_row import EpisodeRow
from eval.statistics import RunSummary
from sim.command_words import RUN

UNDEFINED = "–"
NO_EVENT = "not recorded"
NO_EVENT_MEANING = (
    "the run predates decisive events: the steps are those at which the outcome was settled"
)


def format_number(
    value: float | None,
    form: str,
    unit: str = "",
) -> str:
    """Return a number with its unit, or the sign for an undefined one."""
    if value is None or isnan(value):
        return UNDEFINED
    return f"{value:{form}}{unit}"


def format_percent(share: float) -> str:
    """Return a share in percent."""
    return format_number(100 * share, ".1f", " %")


def format_interval(interval: tuple[float, float]) -> str:
    """Return an interval of shares in percent."""
    low, high = interval
    if isnan(low):
        return UNDEFINED
    return f"{format_percent(low)} to {format_percent(high)}"


def in_words(name: str) -> str:
    """Return a name without underscores."""
    return name.replace("_", " ")


def count_of(n: int, noun: str) -> str:
    """Return a number with its noun, e.g. "1 episode" or "2 episodes"."""
    plural = "" if n == 1 else "s"
    return f"{n} {noun}{plural}"


def format_command(*words: str | Path) -> str:
    """Return a command of this project as a person types it, e.g. "uv run whiskers runs/x"."""
    return f"{RUN} {shlex.join(map(str, words))}"


def format_episode_flags(row: EpisodeRow, *, has_tasks: bool) -> str:
    """Return the flags with which `whiskers` opens an episode, a failure at its decisive step."""
    flags = ["--episode", str(row.episode_index)]
    if has_tasks:
        flags += ["--task", row.task]
    return shlex.join(flags)


def describe_rate(summary: RunSummary) -> str:
    """Return the success rate in one sentence."""
    if not summary.n_judged:
        return "No episode ran to its end, so there is no success rate (n = 0)."
    verb = "succeeds" if summary.n_judged == 1 else "succeed"
    rate = format_percent(summary.success_rate)
    interval = format_interval(summary.success_interval)
    episodes = count_of(summary.n_judged, "episode")
    counted = f"{summary.n_success} of {episodes} {verb}"
    return f"{counted}: {rate} (95 % interval {interval})."
