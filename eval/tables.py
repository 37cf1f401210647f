"""What a person reads in the terminal."""

from collections.abc import Iterable
from math import isnan

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.outcome import Outcome
from eval.run_folder import EpisodeRow
from eval.statistics import RunSummary

# How many failed episodes are named one by one.
_LISTED_FAILURES = 8


def summary_table(title: str, summary: RunSummary) -> Table:
    """Success with its interval, every outcome with its count, and the means."""
    table = Table(title=escape(title), title_justify="left", show_header=False, min_width=60)
    table.add_column(style="bold")
    table.add_column(justify="right")
    low, high = summary.success_interval
    table.add_row("success rate", f"{_percent(summary.success_rate)}  ({summary.n_success} of {summary.n_judged})")
    table.add_row("  Wilson 95 % interval", f"{_percent(low)} to {_percent(high)}")
    table.add_section()
    for outcome, count in summary.outcomes.items():
        style = "" if count == 0 else {"success": "green", "error": "red"}.get(outcome, "yellow")
        table.add_row(f"  {outcome}", str(count), style=style or "dim")
    table.add_section()
    table.add_row("pick rate", _percent(summary.pick_rate))
    table.add_row("drop rate (of the picked-up)", _percent(summary.drop_rate))
    table.add_row("mean steps of the successes", _number(summary.mean_success_steps, ".1f"))
    table.add_row("mean maximum object height", _number(100 * summary.mean_max_object_height_m, ".1f", " cm"))
    if not isnan(summary.ik_failure_rate):
        table.add_row("inverse kinematics failed in", f"{_percent(summary.ik_failure_rate)} of the steps")
    table.add_row("mean time an episode", _number(summary.mean_duration_s, ".2f", " s"))
    return table


def failure_table(rows: Iterable[EpisodeRow]) -> Table | None:
    """The first failed episodes: where and when each went wrong. None if there are none."""
    failed = [row for row in rows if not row.success]
    if not failed:
        return None
    table = Table(title="failures", title_justify="left", min_width=60)
    for column in ("episode", "outcome", "stage not met", "decided at step"):
        table.add_column(column)
    for row in failed[:_LISTED_FAILURES]:
        what = row.error if row.outcome is Outcome.ERROR else row.failed_stage or ""
        table.add_row(str(row.episode_index), row.outcome, escape(what), str(row.decided_at_step))
    if len(failed) > _LISTED_FAILURES:
        table.caption = f"and {len(failed) - _LISTED_FAILURES} more, in episodes.jsonl"
    return table


def one_line(summary: RunSummary) -> str:
    low, high = summary.success_interval
    return (
        f"{_percent(summary.success_rate)} success ({summary.n_success} of {summary.n_judged}, "
        f"95 % interval {_percent(low)} to {_percent(high)}, {summary.outcomes[Outcome.ERROR]} errors)"
    )


def print_summary(console: Console, title: str, summary: RunSummary, rows: Iterable[EpisodeRow]) -> None:
    console.print(summary_table(title, summary))
    failures = failure_table(rows)
    if failures is not None:
        console.print(failures)


def _percent(share: float) -> str:
    return _number(100 * share, ".1f", " %")


def _number(value: float, form: str, unit: str = "") -> str:
    return "-" if isnan(value) else f"{value:{form}}{unit}"
