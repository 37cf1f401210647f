"""What a person reads in the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from eval.episode_row import EpisodeRow
from eval.outcome import OUTCOMES, Outcome, find_facts, label_outcome
from eval.statistics import RunSummary, compute_macro_average, summarise_tasks

# How many failed episodes are named one by one.
_LISTED_FAILURES = 8


def summary_table(title: str, summary: RunSummary, n_tasks: int = 1) -> Table:
    """Success with its interval, every outcome with its count, and the means: of all tasks' episodes together."""
    table = Table(title=escape(title), title_justify="left", show_header=False, min_width=60)
    table.add_column(style="bold")
    table.add_column(justify="right")
    rate = "success rate" if n_tasks == 1 else f"success rate, {n_tasks} tasks pooled"
    table.add_row(
        rate, f"{_percent(summary.success_rate)}  ({summary.n_success} of {summary.n_judged})"
    )
    table.add_row("  Wilson 95 % interval", _interval(summary))
    table.add_section()
    for outcome, count in summary.outcomes.items():
        style = (
            "green"
            if outcome == Outcome.SUCCESS
            else "yellow"
            if find_facts(outcome).is_judged
            else "red"
        )
        name = outcome if outcome in OUTCOMES else label_outcome(outcome)
        table.add_row(f"  {name}", str(count), style=style if count else "dim")
    table.add_section()
    table.add_row("pick rate", _percent(summary.pick_rate))
    table.add_row("drop rate (of the picked-up)", _percent(summary.drop_rate))
    if summary.n_unknown:
        table.add_row("  unknown outcomes, in neither", str(summary.n_unknown))
    table.add_row("mean steps of the successes", _number(summary.mean_success_steps, ".1f"))
    table.add_row(
        "mean maximum object height", _number(100 * summary.mean_max_object_height_m, ".1f", " cm")
    )
    if not isnan(summary.ik_failure_rate):
        table.add_row(
            "inverse kinematics failed in", f"{_percent(summary.ik_failure_rate)} of the steps"
        )
    table.add_row("mean time an episode", _number(summary.mean_duration_s, ".2f", " s"))
    return table


def task_table(tasks: Mapping[str, str], summaries: Mapping[str, RunSummary]) -> Table:
    """One line a task, then their macro average, in which each task counts alike.

    Args:
        tasks: task → its environment, which is a name to evaluate it by.
        summaries: of the tasks that have rows.
    """
    suites = {env.partition("/")[0] for env in tasks.values()}
    suite = f"{suites.pop()}/" if len(suites) == 1 else ""
    table = Table(title=f"tasks {escape(suite)}", title_justify="left", min_width=60)
    table.add_column("", no_wrap=True)
    table.add_column("task")
    for column in ("successes", "rate", "Wilson 95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    for task, summary in summaries.items():
        env = tasks.get(task, "").removeprefix(suite)
        # What is left of a name is cut to one line where the terminal is narrow.
        words = Text(task.removeprefix(suite), no_wrap=True, overflow="ellipsis")
        successes = f"{summary.n_success} of {summary.n_judged}"
        table.add_row(
            escape(env), words, successes, _percent(summary.success_rate), _interval(summary)
        )
    table.add_section()
    average = _percent(compute_macro_average(summaries.values()))
    table.add_row("", "macro average", f"{len(summaries)} tasks", average, "", style="bold")
    return table


def event_table(rows: Iterable[EpisodeRow]) -> Table | None:
    """Return what the failures were decided by: how many by each event, and at which steps. None below two failures.

    A single one is in `failure_table`. Rows of older runs do not say their event; their steps are
    those at which the outcome was settled.
    """
    steps: dict[str, list[int]] = {}
    for row in rows:
        if not row.success:
            event = str(row.decisive_event or "not recorded").replace("_", " ")
            steps.setdefault(event, []).append(row.shown_step)
    if sum(map(len, steps.values())) < 2:
        return None
    table = Table(title="where the failures went wrong", title_justify="left", min_width=60)
    table.add_column("what happened")
    table.add_column("episodes", justify="right")
    table.add_column("when")
    for event, when in sorted(steps.items(), key=lambda item: -len(item[1])):
        first, last = min(when), max(when)
        table.add_row(
            event, str(len(when)), f"step {first}" if first == last else f"steps {first} to {last}"
        )
    return table


def failure_table(rows: Iterable[EpisodeRow], tasks: Mapping[str, str]) -> Table | None:
    """Return the first failed episodes: what failed, and where each went wrong. None if there are none.

    Args:
        tasks: as for `task_table`; of several each row says which, by the name to evaluate it by.
    """
    failed = [row for row in rows if not row.success]
    if not failed:
        return None
    table = Table(title="failures", title_justify="left", min_width=60)
    has_tasks = len(tasks) > 1
    for column in (
        *(["task"] if has_tasks else []),
        "episode",
        "outcome",
        "stage not met",
        "went wrong at step",
    ):
        table.add_column(column, overflow="fold")
    for row in failed[:_LISTED_FAILURES]:
        what = row.failed_stage or "" if row.is_judged else row.error
        event = f", {row.decisive_event}" if row.decisive_event and not row.error else ""
        cells = (str(row.episode_index), row.outcome, escape(what), f"{row.shown_step}{event}")
        table.add_row(*([escape(tasks.get(row.task, row.task))] if has_tasks else []), *cells)
    if len(failed) > _LISTED_FAILURES:
        table.caption = f"and {len(failed) - _LISTED_FAILURES} more, in episodes.jsonl"
    return table


def one_line(summary: RunSummary, rows: Iterable[EpisodeRow]) -> str:
    tasks = summarise_tasks(rows)
    average = (
        f"; macro average over {len(tasks)} tasks {_percent(compute_macro_average(tasks.values()))}"
    )
    return (
        f"{_percent(summary.success_rate)} success ({summary.n_success} of {summary.n_judged}, "
        f"95 % interval {_interval(summary)}, {summary.outcomes[Outcome.ERROR]} errors)"
        f"{average if len(tasks) > 1 else ''}"
    )


def print_summary(
    console: Console,
    title: str,
    summary: RunSummary,
    rows: Sequence[EpisodeRow],
    tasks: Mapping[str, str],
) -> None:
    """Everything about a run.

    Args:
        summary: of all its rows together.
        tasks: task → its environment.
    """
    summaries = summarise_tasks(rows)
    console.print(summary_table(title, summary, len(summaries)))
    if len(summaries) > 1:
        console.print(task_table(tasks, summaries))
    for table in (event_table(rows), failure_table(rows, tasks)):
        if table is not None:
            console.print(table)


def _interval(summary: RunSummary) -> str:
    low, high = summary.success_interval
    return f"{_percent(low)} to {_percent(high)}"


def _percent(share: float) -> str:
    return _number(100 * share, ".1f", " %")


def _number(value: float, form: str, unit: str = "") -> str:
    return "-" if isnan(value) else f"{value:{form}}{unit}"
