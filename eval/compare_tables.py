"""Prints what `eval-compare` found: the pairs, the tasks, the outcomes, and the episodes that ended otherwise."""

from collections.abc import Iterator
from functools import partial
from math import isnan

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.comparability import have_same_rules
from eval.compare_words import (
    describe_comparison,
    format_difference,
    format_open_command,
    format_p,
    format_percent,
)
from eval.comparison import ComparedRun, ComparedRuns, Comparison, Key, PairedMean
from eval.paired_statistics import compute_correlation, compute_difference_interval
from eval.plan_quality_means import load_plan_quality_means
from eval.proportions import IntervalMethod, compute_interval, uses_clopper_pearson

# How many episodes, and how many pairs of runs, are listed unless all are asked for.
_LISTED_EPISODES, _LISTED_PAIRS = 8, 15


def print_comparison(
    console: Console, compared: ComparedRuns, method: IntervalMethod, *, shows_all: bool
) -> None:
    """Print everything that is known of the runs, and the verdict last."""
    console.print(_make_run_table(compared, method))
    pairs = list(compared.comparisons.values())
    if len(compared.runs) == 2:
        _print_pair(console, pairs[0], shows_all=shows_all)
    else:
        _print_pairs(console, compared, shows_all=shows_all)
    if compared.remarks:
        console.print()
    for remark in compared.remarks:
        console.print(f"Note: {remark}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    if len(pairs) == 1:
        console.print(
            describe_comparison(pairs[0]),
            highlight=False,
            markup=False,
            soft_wrap=True,
            style="bold",
        )
    else:
        console.print(
            _describe_best(compared), highlight=False, markup=False, soft_wrap=True, style="bold"
        )


def _make_run_table(compared: ComparedRuns, method: IntervalMethod) -> Table:
    has_letters = len(compared.runs) > 2
    table = Table(title="runs, each over all its episodes", title_justify="left")
    table.add_column("run", overflow="fold")
    for column in (
        "successes",
        "rate",
        "95 % interval",
        "crashed",
        *(["letters"] if has_letters else []),
    ):
        table.add_column(column, justify="right", no_wrap=True)
    is_exact = False
    for index in compared.ranking if has_letters else range(2):
        run = compared.runs[index]
        n, n_success = len(run.rows), run.n_success
        exact = n > 0 and uses_clopper_pearson(n_success, n, method)
        is_exact = is_exact or exact
        low, high = compute_interval(n_success, n, method)
        interval = f"{format_percent(low)} to {format_percent(high)}{' *' if exact else ''}"
        rate = n_success / n if n else float("nan")
        cells = [
            escape(run.name),
            f"{n_success} of {n}",
            format_percent(rate),
            interval,
            str(len(run.crashed) or ""),
        ]
        table.add_row(*cells, *([compared.letters[index]] if has_letters else []))
    notes = ["Wilson intervals" + (", * the exact one of Clopper and Pearson" if is_exact else "")]
    notes += ["runs that share a letter cannot be told apart"] if has_letters else []
    table.caption, table.caption_justify = "; ".join(notes), "left"
    return table


def _print_pair(console: Console, pair: Comparison, *, shows_all: bool) -> None:
    console.print(_make_count_table(pair))
    if len(pair.tasks) > 1:
        console.print(_make_task_table(pair))
    if have_same_rules(pair.first.run.description, pair.second.run.description):
        console.print(_make_outcome_table(pair))
    means = list(_compare_numbers(pair))
    if means:
        console.print(_make_mean_table(pair, means))
    _print_differing(console, pair, shows_all=shows_all)


def _make_count_table(pair: Comparison) -> Table:
    counts, correlation = pair.counts, compute_correlation(pair.counts)
    table = Table(title="the same episodes, side by side", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("shared episodes", str(counts.n))
    table.add_row("  both solve", str(counts.both))
    table.add_row(f"  only {escape(pair.first.name)}", str(counts.only_first))
    table.add_row(f"  only {escape(pair.second.name)}", str(counts.only_second))
    table.add_row("  neither", str(counts.neither))
    table.add_section()
    of = "macro average, stratified score" if len(pair.tasks) > 1 else "Tango's score"
    names = f"{escape(pair.first.name)} less {escape(pair.second.name)}"
    table.add_row(
        f"difference of success, {names}", format_difference(pair.difference, pair.interval)
    )
    table.add_row(f"  95 % interval: {of}", "")
    table.add_row("McNemar's exact test", format_p(pair.p))
    if not isnan(correlation):
        table.add_row("correlation over episodes", f"{correlation:.2f}")
    return table


def _make_task_table(pair: Comparison) -> Table:
    table = Table(title="tasks", title_justify="left")
    table.add_column("task")
    first, second = escape(pair.first.name), escape(pair.second.name)
    for column in (
        "episodes",
        first,
        second,
        f"only {first}",
        f"only {second}",
        "difference in points",
    ):
        table.add_column(column, justify="right")
    for task, counts in pair.tasks.items():
        interval = compute_difference_interval([counts])
        rates = [format_percent(k / counts.n) for k in (counts.n_first, counts.n_second)]
        alone = [str(counts.only_first), str(counts.only_second)]
        difference = format_difference(counts.difference, interval).replace(" points", "")
        table.add_row(escape(task), str(counts.n), *rates, *alone, difference)
    return table


def _make_outcome_table(pair: Comparison) -> Table:
    table = Table(title="outcomes of the shared episodes", title_justify="left")
    table.add_column("outcome")
    for column in (
        escape(pair.first.name),
        escape(pair.second.name),
        "difference in points, 95 % interval",
    ):
        table.add_column(column, justify="right")
    for outcome, counts in pair.count_outcomes().items():
        difference = format_difference(
            counts.difference, compute_difference_interval([counts])
        ).replace(" points", "")
        table.add_row(outcome, str(counts.n_first), str(counts.n_second), difference)
    return table


def _compare_numbers(pair: Comparison) -> Iterator[tuple[str, PairedMean]]:
    """Yield the steps to success, and the measures of plans where both runs have them."""
    steps = pair.compare_steps()
    if steps:
        yield "steps to success", steps
    yield from compare_plan_quality(pair).items()


def compare_plan_quality(pair: Comparison) -> dict[str, PairedMean]:
    """Return measure → its means over the shared episodes, as `whiskers --table` wrote them for both runs."""
    means = {run.name: load_plan_quality_means(run.run.path) for run in (pair.first, pair.second)}
    first, second = means.values()
    names = dict.fromkeys(
        name for key in pair.shared for name in first.get(key, {}) if name in second.get(key, {})
    )

    def read(name: str, run: ComparedRun, key: Key) -> float | None:
        return means[run.name].get(key, {}).get(name)

    compared = {name: pair.compare_means(partial(read, name)) for name in names}
    return {name: mean for name, mean in compared.items() if mean is not None}


def _make_mean_table(pair: Comparison, means: list[tuple[str, PairedMean]]) -> Table:
    table = Table(title="means over shared episodes", title_justify="left")
    table.add_column("")
    for column in (
        "episodes",
        escape(pair.first.name),
        escape(pair.second.name),
        "difference, 95 % interval",
    ):
        table.add_column(column, justify="right")
    for name, mean in means:
        interval = (
            "" if isnan(mean.interval[0]) else f", {mean.interval[0]:.3g} to {mean.interval[1]:.3g}"
        )
        cells = f"{mean.first:.4g}", f"{mean.second:.4g}", f"{mean.difference:.3g}{interval}"
        table.add_row(name.replace("_", " "), str(mean.n), *cells)
    table.caption = (
        "steps: of the episodes that both solve; intervals: Student's, of the paired differences"
    )
    table.caption_justify = "left"
    return table


def _print_differing(console: Console, pair: Comparison, *, shows_all: bool) -> None:
    """Print the episodes that only one of the two solves, each with the command that opens the failure."""
    differing = pair.differing
    for solver, other in ((pair.first, pair.second), (pair.second, pair.first)):
        rows = [(one, two) if solver is pair.first else (two, one) for one, two in differing]
        rows = [(won, lost) for won, lost in rows if won.success]
        if not rows:
            continue
        console.print(
            f"\nonly {solver.name} solves, and {other.name} fails in:", style="bold", markup=False
        )
        for won, lost in rows if shows_all else rows[:_LISTED_EPISODES]:
            at = f"{lost.outcome} at step {lost.shown_step}"
            where = (
                f"{won.task} {won.episode_index}" if len(pair.tasks) > 1 else f"{won.episode_index}"
            )
            line = f"  {where}: {at}: {format_open_command(other, lost)}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if not shows_all and len(rows) > _LISTED_EPISODES:
            console.print(
                f"  and {len(rows) - _LISTED_EPISODES} more: --all lists them", highlight=False
            )


def _print_pairs(console: Console, compared: ComparedRuns, *, shows_all: bool) -> None:
    pairs = list(compared.comparisons.items())
    title = "pairs of runs, p corrected by Holm"
    if len(pairs) > _LISTED_PAIRS and not shows_all:
        best = compared.ranking[0]
        pairs = [(key, pair) for key, pair in pairs if best in key]
        title += f": those with the best, of {len(compared.comparisons)} (--all shows them)"
    table = Table(title=title, title_justify="left")
    table.add_column("pair", overflow="fold")
    for column in ("shared", "only the one", "only the other", "difference in points", "p"):
        table.add_column(column, justify="right")
    for _, pair in pairs:
        difference = format_difference(pair.difference, pair.interval).replace(" points", "")
        counts = [str(n) for n in (pair.counts.n, pair.counts.only_first, pair.counts.only_second)]
        names = f"{escape(pair.first.name)} - {escape(pair.second.name)}"
        style = "" if pair.better is None else "bold"
        table.add_row(
            names, *counts, difference, format_p(pair.corrected_p).removeprefix("p = "), style=style
        )
    table.caption, table.caption_justify = (
        "bold: told apart. Compare two alone for outcomes and episodes.",
        "left",
    )
    console.print(table)


def _describe_best(compared: ComparedRuns) -> str:
    """Return which run is best, and which cannot be told from it."""
    best = compared.ranking[0]
    of_best = {
        (set(key) - {best}).pop(): pair for key, pair in compared.comparisons.items() if best in key
    }
    untold = [
        index for index in compared.ranking if index in of_best and of_best[index].better is None
    ]
    name = compared.runs[best].name
    if not untold:
        return f"{name} is better than each of the other {len(of_best)}."
    listed = ", ".join(compared.runs[index].name for index in untold)
    n_worse = len(of_best) - len(untold)
    worse = (
        f"It is better than {n_worse} of the others"
        if n_worse
        else "It is not shown to be better than any"
    )
    return f"{name} has the highest success. {worse}; these episodes cannot tell it from {listed}."
