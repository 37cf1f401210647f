"""Writes the report as Markdown tables for a comment or a CI summary, without pictures."""

import re
from collections.abc import Iterable, Iterator, Sequence

from eval.outcome import label_outcome
from viz.report.comparison import compare_contents
from viz.report.content import ReportContent, RunContent
from viz.report.episodes import Episode
from viz.report.wording import format_interval, format_number, format_percent, in_words

# At most this many failures are listed.
_LISTED = 50
_SPECIAL_CHARACTERS = re.compile(r"([\\`*_\[\]<>|#])")


def render_markdown(report: ReportContent) -> str:
    """Return the report."""
    parts = [_quote(sentence) for sentence in report.refused]
    if len(report.runs) > 1:
        parts.append(_make_overview(report.runs))
    comparison = compare_contents(report.runs)
    if comparison is not None:
        parts.append(f"**{_escape(comparison.verdict)}**")
        parts += [_quote(remark) for remark in comparison.remarks]
    for run in report.runs:
        parts += _describe_run(run)
    return "\n\n".join(parts) + "\n"


def _make_overview(runs: Sequence[RunContent]) -> str:
    head = ("run", "policy and environment", "succeed", "rate", "95 % interval", "errors")
    lines = []
    for run in runs:
        line = (
            run.name,
            run.subject,
            f"{run.summary.n_success} of {run.summary.n_judged}",
            format_percent(run.summary.success_rate),
            format_interval(run.summary.success_interval),
            str(len(run.crashed)),
        )
        lines.append(line)
    return _make_table(head, lines)


def _describe_run(run: RunContent) -> Iterator[str]:
    """Yield the paragraphs of a run."""
    sentences = (run.rate_sentence, run.region_sentence, run.stage_sentence, run.failure_sentence)
    yield f"# {_escape(run.subject)}"
    yield _escape(" ".join(filter(None, sentences)))
    for remark in run.remarks:
        yield _quote(remark)
    yield from _describe_settings(run)
    yield from _describe_outcomes(run)
    yield from _describe_events(run)
    yield from _describe_stages(run)
    if len(run.tasks) > 1:
        yield "## By task"
        yield _make_task_table(run)
    yield from _describe_starts(run)
    if run.features and run.features.scores:
        yield "## CKNNA"
        yield _make_score_table(run)
    yield from _list_episodes("Crashes", run.crashed)
    yield from _list_episodes("Failures", run.failed)


def _describe_settings(run: RunContent) -> Iterator[str]:
    yield "## What was run"
    yield _make_code(run.command)
    lines = []
    for title in run.main_facts:
        for fact in run.facts[title]:
            lines.append((title, fact.name, fact.value))
    yield _make_table(("", "", ""), lines)
    if run.findings:
        yield "Findings of the doctor before the run:"
        yield "\n".join(f"- {one.level}: {_escape(str(one))}" for one in run.findings)


def _describe_outcomes(run: RunContent) -> Iterator[str]:
    yield "## Outcomes"
    lines = []
    for outcome, n in run.summary.outcomes.items():
        lines.append((label_outcome(outcome), str(n)))
    yield _make_table(("outcome", "episodes"), lines)


def _describe_events(run: RunContent) -> Iterator[str]:
    if not run.events:
        return
    yield "## Decisive events of the failures"
    lines = []
    for count in run.events:
        steps = ", ".join(map(str, count.steps))
        n_failures = str(len(count.episodes))
        lines.append((in_words(count.event), n_failures, steps))
    yield _make_table(("event", "failures", "at steps"), lines)


def _describe_stages(run: RunContent) -> Iterator[str]:
    if not run.stages:
        return
    yield "## Stages"
    lines = []
    for stage in run.stages:
        passed = f"{stage.n_through} of {stage.n_episodes}"
        lines.append((in_words(stage.stage), passed, str(stage.n_lost)))
    yield _make_table(("stage", "passed", "failed here"), lines)


def _describe_starts(run: RunContent) -> Iterator[str]:
    if run.start_maps:
        yield f"## Success by {_escape(run.map_title)}"
    for task in run.tasks:
        start_map = run.start_maps.get(task.task)
        if start_map is None:
            continue
        sentence = start_map.sentence
        if len(run.tasks) > 1:
            sentence = f"{task.name.short}: {sentence}"
        yield _escape(sentence)
        head, lines = start_map.table
        if lines and not start_map.remark:
            yield _make_table(head, lines)


def _make_task_table(run: RunContent) -> str:
    lines = []
    for task in run.tasks:
        line = (
            task.name.short,
            task.name.words,
            f"{task.summary.n_success} of {task.summary.n_judged}",
            format_percent(task.summary.success_rate),
            format_interval(task.summary.success_interval),
        )
        lines.append(line)
    average = format_percent(run.macro_average)
    n_tasks = f"{len(run.tasks)} tasks"
    lines.append(("", "macro average", n_tasks, average, ""))
    return _make_table(("task", "", "succeed", "rate", "95 % interval"), lines)


def _make_score_table(run: RunContent) -> str:
    assert run.features is not None
    head = ("hook point", "k", "rows", "score", "95 %", "null, 95th percentile", "p")
    lines = []
    for score in run.features.scores or ():
        low = format_number(score.low, ".3f")
        high = format_number(score.high, ".3f")
        line = (
            score.hook_point,
            str(score.k),
            str(score.n),
            format_number(score.cknna, ".3f"),
            f"{low} to {high}",
            format_number(score.null_high, ".3f"),
            format_number(score.p_value, ".3f"),
        )
        lines.append(line)
    return _make_table(head, lines)


def _list_episodes(title: str, episodes: Sequence[Episode]) -> Iterator[str]:
    """Yield a heading, a table of the first episodes, and the command that opens one of them."""
    if not episodes:
        return
    yield f"## {title}"
    lines = []
    for episode in episodes[:_LISTED]:
        row = episode.row
        happened = f"{in_words(episode.event)} at step {row.shown_step}"
        line = (
            episode.task.short,
            str(row.episode_index),
            label_outcome(row.outcome),
            happened if row.is_judged else row.error,
        )
        lines.append(line)
    yield _make_table(("task", "episode", "outcome", "what happened"), lines)
    if len(episodes) > _LISTED:
        yield f"and {len(episodes) - _LISTED} more."
    yield f"This command opens the first one: {_make_code(episodes[0].command)}"


def _make_table(
    head: Sequence[str],
    lines: Iterable[Sequence[str]],
) -> str:
    rule = ["---"] * len(head)
    return "\n".join(_make_row(row) for row in (head, rule, *lines))


def _make_row(cells: Sequence[str]) -> str:
    escaped = " | ".join(map(_escape, cells))
    return f"| {escaped} |"


def _make_code(text: str) -> str:
    """Return a span of code whose fence is longer than any run of backticks in the text."""
    flat = " ".join(text.split())
    longest = max(re.findall("`*", flat), key=len)
    fence = f"{longest}`"
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def _quote(sentence: str) -> str:
    return f"> {_escape(sentence)}"


def _escape(text: str) -> str:
    """Return text that Markdown shows as it is, also inside a table."""
    flat = " ".join(text.split())
    return _SPECIAL_CHARACTERS.sub(r"\\\1", flat).replace("&", "&amp;")
