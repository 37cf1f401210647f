"""Makes the tables of a run for the terminal."""

from collections.abc import Iterable, Mapping
from math import isnan

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from eval.episode_row import EpisodeRow, Rows
from eval.outcome import OUTCOMES, Outcome, find_facts, label_outcome
from eval.statistics import RunSummary, compute_macro_average, summarise_tasks

# So many failed episodes are listed.
_LISTED_FAILURES = 8


def summary_table(
    title: str,
    summary: RunSummary,
    n_tasks: int = 1,
    remark: str = "",
) -> Table:
    """Return the success rate with its interval, the outcomes, and the means.

    The episodes of all tasks are pooled.

    Args:
        remark: what a reader must know to read the rate; "" for nothing.
    """
    table = _make_table(title)
    table.caption = escape(remark) or None
    table.show_header = False
    table.add_column(style="bold")
    table.add_column(justify="right")
    label = "success rate" if n_tasks == 1 else f"success rate, {n_tasks} tasks pooled"
    rate = _percent(summary.success_rate)
    table.add_row(label, f"{rate}  ({summary.n_success} of {summary.n_judged})")
    table.add_row("  Wilson 95 % interval", _interval(summary))
    table.add_section()
    for outcome, count in summary.outcomes.items():
        name = outcome if outcome in OUTCOMES else label_outcome(outcome)
        table.add_row(f"  {name}", str(count), style=_style_of(outcome) if count else "dim")
    table.add_section()
    table.add_row("pick rate", _percent(summary.pick_rate))
    table.add_row("drop rate (of the picked-up)", _percent(summary.drop_rate))
    if summary.n_unknown:
        table.add_row("  unknown outcomes, in neither", str(summary.n_unknown))
    table.add_row("mean steps of the successes", _number(summary.mean_success_steps, ".1f"))
    height_cm = 100 * summary.mean_max_object_height_m
    table.add_row("mean maximum object height", _number(height_cm, ".1f", " cm"))
    if not isnan(summary.ik_failure_rate):
        failed = _percent(summary.ik_failure_rate)
        table.add_row("inverse kinematics failed in", f"{failed} of the steps")
    table.add_row("mean time an episode", _number(summary.mean_duration_s, ".2f", " s"))
    return table


def task_table(tasks: Mapping[str, str], summaries: Mapping[str, RunSummary]) -> Table:
    """Return a row for each task, then their macro average, in which each task counts alike.

    Args:
        tasks: task → the name of its environment, with which it can be evaluated.
        summaries: summaries of the tasks that have rows.
    """
    suites = {env.partition("/")[0] for env in tasks.values()}
    suite = f"{suites.pop()}/" if len(suites) == 1 else ""
    table = _make_table(f"tasks {suite}")
    table.add_column("", no_wrap=True)
    table.add_column("task")
    for column in ("successes", "rate", "Wilson 95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    for task, summary in summaries.items():
        env = tasks.get(task, "").removeprefix(suite)
        # In a narrow terminal, the name is cut to one line.
        name = Text(task.removeprefix(suite), no_wrap=True, overflow="ellipsis")
        table.add_row(
            escape(env),
            name,
            f"{summary.n_success} of {summary.n_judged}",
            _percent(summary.success_rate),
            _interval(summary),
        )
    table.add_section()
    average = _percent(compute_macro_average(summaries.values()))
    table.add_row("", "macro average", f"{len(summaries)} tasks", average, style="bold")
    return table


def event_table(rows: Iterable[EpisodeRow]) -> Table | None:
    """Return how many failures each decisive event caused, and at which steps.

    It is None below two failures, since `failure_table` shows a single one. Rows of older runs have
    no event; their steps are those at which the outcome was decided.
    """
    failures = [row for row in rows if not row.success]
    if len(failures) < 2:
        return None
    steps_by_event: dict[str, list[int]] = {}
    for row in failures:
        event = str(row.decisive_event or "not recorded").replace("_", " ")
        steps_by_event.setdefault(event, []).append(row.shown_step)
    table = _make_table("where the failures went wrong")
    table.add_column("what happened")
    table.add_column("episodes", justify="right")
    table.add_column("when")
    for event, steps in sorted(steps_by_event.items(), key=lambda item: -len(item[1])):
        first = min(steps)
        last = max(steps)
        when = f"step {first}" if first == last else f"steps {first} to {last}"
        table.add_row(event, str(len(steps)), when)
    return table


def failure_table(rows: Iterable[EpisodeRow], tasks: Mapping[str, str]) -> Table | None:
    """Return the first failed episodes, with what failed and when. None if there are none.

    Args:
        tasks: as for `task_table`. If there are several, each row has the environment's name.
    """
    failed = [row for row in rows if not row.success]
    if not failed:
        return None
    # The task is left out if there is only one.
    first = 0 if len(tasks) > 1 else 1
    table = _make_table("failures")
    for column in ("task", "episode", "outcome", "stage not met", "went wrong at step")[first:]:
        table.add_column(column, overflow="fold")
    for row in failed[:_LISTED_FAILURES]:
        cells = [escape(tasks.get(row.task, row.task)), *_list_failure_cells(row)]
        table.add_row(*cells[first:])
    if len(failed) > _LISTED_FAILURES:
        table.caption = f"and {len(failed) - _LISTED_FAILURES} more, in episodes.jsonl"
    return table


def one_line(summary: RunSummary, rows: Iterable[EpisodeRow]) -> str:
    """Return the result of a run in one line."""
    tasks = summarise_tasks(rows)
    line = (
        f"{_percent(summary.success_rate)} success ({summary.n_success} of {summary.n_judged}, "
        f"95 % interval {_interval(summary)}, {summary.outcomes[Outcome.ERROR]} errors)"
    )
    if len(tasks) > 1:
        average = _percent(compute_macro_average(tasks.values()))
        line += f"; macro average over {len(tasks)} tasks {average}"
    return line


def print_summary(
    console: Console,
    title: str,
    summary: RunSummary,
    rows: Rows,
    tasks: Mapping[str, str],
    remark: str = "",
) -> None:
    """Print all tables of a run.

    Args:
        summary: summary of all its rows together.
        tasks: task → the name of its environment.
        remark: as for `summary_table`.
    """
    summaries = summarise_tasks(rows)
    console.print(summary_table(title, summary, len(summaries), remark))
    if len(summaries) > 1:
        console.print(task_table(tasks, summaries))
    for table in (event_table(rows), failure_table(rows, tasks)):
        if table is not None:
            console.print(table)


def _make_table(title: str) -> Table:
    return Table(title=escape(title), title_justify="left", min_width=60)


def _style_of(outcome: str) -> str:
    if outcome == Outcome.SUCCESS:
        return "green"
    return "yellow" if find_facts(outcome).is_judged else "red"


def _list_failure_cells(row: EpisodeRow) -> list[str]:
    failed_stage = row.failed_stage or ""
    event = f", {row.decisive_event}" if row.decisive_event and not row.error else ""
    return [
        str(row.episode_index),
        row.outcome,
        escape(failed_stage if row.is_judged else row.error),
        f"{row.shown_step}{event}",
    ]


def _interval(summary: RunSummary) -> str:
    low, high = summary.success_interval
    return f"{_percent(low)} to {_percent(high)}"


def _percent(share: float) -> str:
    return _number(100 * share, ".1f", " %")


def _number(value: float, form: str, unit: str = "") -> str:
    return "-" if isnan(value) else f"{value:{form}}{unit}"
