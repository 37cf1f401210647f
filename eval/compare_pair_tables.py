"""Prints the tables of two runs that are compared alone."""

from collections.abc import Iterable
from math import isnan

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.comparability import have_same_rules
from eval.compare_words import format_difference, format_open_command, format_p, format_percent
from eval.compared_plan_quality import compare_plan_quality
from eval.compared_runs import Comparison, PairedMean
from eval.paired_statistics import (
    PairedCounts,
    compute_correlation,
    compute_difference_interval,
)

# So many episodes are listed, unless all are asked for.
_LISTED_EPISODES = 8


def print_pair(
    console: Console,
    pair: Comparison,
    *,
    shows_all: bool,
) -> None:
    """Print the counts, tasks, outcomes and means of a pair, and the episodes that differ."""
    console.print(_make_count_table(pair))
    if len(pair.tasks) > 1:
        console.print(_make_task_table(pair))
    if have_same_rules(pair.first.run.description, pair.second.run.description):
        console.print(_make_outcome_table(pair))
    means = _compare_means(pair)
    if means:
        console.print(_make_mean_table(pair, means))
    _print_differing(console, pair, shows_all=shows_all)


def format_points(difference: float, interval: tuple[float, float]) -> str:
    """Return a difference for a column that has the unit "points" in its head."""
    return format_difference(difference, interval).replace(" points", "")


def _make_table(
    title: str,
    first_column: str,
    columns: Iterable[str],
) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first_column)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _make_count_table(pair: Comparison) -> Table:
    counts = pair.counts
    first = escape(pair.first.name)
    second = escape(pair.second.name)
    table = Table(title="the same episodes, side by side", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("shared episodes", str(counts.n))
    table.add_row("  both solve", str(counts.both))
    table.add_row(f"  only {first}", str(counts.only_first))
    table.add_row(f"  only {second}", str(counts.only_second))
    table.add_row("  neither", str(counts.neither))
    table.add_section()
    difference = format_difference(pair.difference, pair.interval)
    table.add_row(f"difference of success, {first} minus {second}", difference)
    method = "macro average, stratified score" if len(pair.tasks) > 1 else "Tango's score"
    table.add_row(f"  95 % interval: {method}", "")
    table.add_row("McNemar's exact test", format_p(pair.p))
    correlation = compute_correlation(counts)
    if not isnan(correlation):
        table.add_row("correlation over episodes", f"{correlation:.2f}")
    return table


def _make_task_table(pair: Comparison) -> Table:
    first = escape(pair.first.name)
    second = escape(pair.second.name)
    columns = [
        "episodes",
        first,
        second,
        f"only {first}",
        f"only {second}",
        "difference in points",
    ]
    table = _make_table("tasks", "task", columns)
    for task, counts in pair.tasks.items():
        table.add_row(
            escape(task),
            str(counts.n),
            format_percent(counts.n_first / counts.n),
            format_percent(counts.n_second / counts.n),
            str(counts.only_first),
            str(counts.only_second),
            _format_count_difference(counts),
        )
    return table


def _make_outcome_table(pair: Comparison) -> Table:
    columns = [
        escape(pair.first.name),
        escape(pair.second.name),
        "difference in points, 95 % interval",
    ]
    table = _make_table("outcomes of the shared episodes", "outcome", columns)
    for outcome, counts in pair.count_outcomes().items():
        table.add_row(
            outcome,
            str(counts.n_first),
            str(counts.n_second),
            _format_count_difference(counts),
        )
    return table


def _format_count_difference(counts: PairedCounts) -> str:
    return format_points(counts.difference, compute_difference_interval([counts]))


def _compare_means(pair: Comparison) -> dict[str, PairedMean]:
    """Return the steps to success, and the measures of plans if both runs have them."""
    means = {}
    steps = pair.compare_steps()
    if steps:
        means["steps to success"] = steps
    return means | compare_plan_quality(pair)


def _make_mean_table(pair: Comparison, means: dict[str, PairedMean]) -> Table:
    columns = [
        "episodes",
        escape(pair.first.name),
        escape(pair.second.name),
        "difference, 95 % interval",
    ]
    table = _make_table("means over shared episodes", "", columns)
    for name, mean in means.items():
        low, high = mean.interval
        interval = "" if isnan(low) else f", {low:.3g} to {high:.3g}"
        table.add_row(
            name.replace("_", " "),
            str(mean.n),
            f"{mean.first:.4g}",
            f"{mean.second:.4g}",
            f"{mean.difference:.3g}{interval}",
        )
    table.caption = (
        "steps: of the episodes that both solve; intervals: Student's, of the paired differences"
    )
    table.caption_justify = "left"
    return table


def _print_differing(
    console: Console,
    pair: Comparison,
    *,
    shows_all: bool,
) -> None:
    """Print the episodes that only one run solves, each with the command that opens the failure."""
    for solver, other in ((pair.first, pair.second), (pair.second, pair.first)):
        failed = []
        for key in pair.shared:
            if solver.rows[key].success and not other.rows[key].success:
                failed.append(other.rows[key])
        if not failed:
            continue
        title = f"\nonly {solver.name} solves, and {other.name} fails in:"
        console.print(title, style="bold", markup=False)
        n_listed = len(failed) if shows_all else _LISTED_EPISODES
        for row in failed[:n_listed]:
            task = f"{row.task} " if len(pair.tasks) > 1 else ""
            command = format_open_command(other, row)
            line = f"  {task}{row.episode_index}: {row.outcome} at step {row.shown_step}: {command}"
            console.print(
                line,
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        if len(failed) > n_listed:
            console.print(f"  and {len(failed) - n_listed} more: --all lists them", highlight=False)
