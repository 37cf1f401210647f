"""Prints the result of `eval-compare`: the runs, their pairs, and the verdict."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.compare_pair_tables import format_points, print_pair
from eval.compare_words import (
    describe_best,
    describe_comparison,
    format_p,
    format_percent,
)
from eval.compared_runs import ComparedRun, ComparedRuns, Comparison
from eval.proportions import IntervalMethod, compute_interval, uses_clopper_pearson

# So many pairs of runs are listed, unless all are asked for.
_LISTED_PAIRS = 15


def print_comparison(
    console: Console,
    compared: ComparedRuns,
    method: IntervalMethod,
    *,
    shows_all: bool,
) -> None:
    """Print the runs, their pairs, the remarks, and the verdict last."""
    console.print(_make_run_table(compared, method))
    pairs = list(compared.comparisons.values())
    if len(compared.runs) == 2:
        print_pair(console, pairs[0], shows_all=shows_all)
    else:
        console.print(_make_pair_table(compared, shows_all=shows_all))
    if compared.remarks:
        console.print()
    for remark in compared.remarks:
        console.print(
            f"Note: {remark}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    console.print()
    verdict = describe_comparison(pairs[0]) if len(pairs) == 1 else describe_best(compared)
    console.print(
        verdict,
        highlight=False,
        markup=False,
        soft_wrap=True,
        style="bold",
    )


def _make_run_table(compared: ComparedRuns, method: IntervalMethod) -> Table:
    has_letters = len(compared.runs) > 2
    columns = ["successes", "rate", "95 % interval", "crashed"]
    notes = "Wilson intervals"
    if any(_is_exact(run, method) for run in compared.runs):
        notes += ", * the exact one of Clopper and Pearson"
    if has_letters:
        columns.append("letters")
        notes += "; runs that share a letter cannot be told apart"
    table = Table(
        title="runs, each over all its episodes",
        title_justify="left",
        caption=notes,
        caption_justify="left",
    )
    table.add_column("run", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for index in compared.ranking if has_letters else range(2):
        cells = list(_format_run(compared.runs[index], method))
        if has_letters:
            cells.append(compared.letters[index])
        table.add_row(*cells)
    return table


def _is_exact(run: ComparedRun, method: IntervalMethod) -> bool:
    n = len(run.rows)
    return n > 0 and uses_clopper_pearson(run.n_success, n, method)


def _format_run(run: ComparedRun, method: IntervalMethod) -> Iterator[str]:
    n = len(run.rows)
    n_success = run.n_success
    low, high = compute_interval(n_success, n, method)
    mark = " *" if _is_exact(run, method) else ""
    yield escape(run.name)
    yield f"{n_success} of {n}"
    yield format_percent(n_success / n if n else float("nan"))
    yield f"{format_percent(low)} to {format_percent(high)}{mark}"
    yield str(len(run.crashed) or "")


def _make_pair_table(compared: ComparedRuns, *, shows_all: bool) -> Table:
    title = "pairs of runs, p corrected by Holm"
    pairs = list(compared.comparisons.values())
    if len(pairs) > _LISTED_PAIRS and not shows_all:
        title += f": those with the best, of {len(pairs)} (--all shows them)"
        best = compared.ranking[0]
        pairs = [pair for key, pair in compared.comparisons.items() if best in key]
    table = Table(
        title=title,
        title_justify="left",
        caption="bold: told apart. Compare two alone for outcomes and episodes.",
        caption_justify="left",
    )
    table.add_column("pair", overflow="fold")
    for column in ("shared", "only the one", "only the other", "difference in points", "p"):
        table.add_column(column, justify="right")
    for pair in pairs:
        table.add_row(*_format_pair(pair), style="" if pair.better is None else "bold")
    return table


def _format_pair(pair: Comparison) -> Iterator[str]:
    yield f"{escape(pair.first.name)} - {escape(pair.second.name)}"
    yield str(pair.counts.n)
    yield str(pair.counts.only_first)
    yield str(pair.counts.only_second)
    yield format_points(pair.difference, pair.interval)
    yield format_p(pair.corrected_p).removeprefix("p = ")
