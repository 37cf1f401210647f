"""The report as Markdown, for a comment or the summary of a CI job: tables, without plots and film strips."""

import re
from collections.abc import Iterable, Sequence

from eval.outcome import label_outcome
from viz.report.content import Episode, ReportContent, RunContent
from viz.report.wording import format_interval, format_number, format_percent, in_words

# Failures that are named one by one.
_LISTED = 50


def render_markdown(report: ReportContent) -> str:
    """Return the report."""
    parts = [f"> {_escape(sentence)}" for sentence in report.refused]
    if len(report.runs) > 1:
        parts.append(_make_overview(report.runs))
    for run in report.runs:
        parts += _describe_run(run)
    return "\n\n".join(parts) + "\n"


def _make_overview(runs: Sequence[RunContent]) -> str:
    head = ("run", "policy and environment", "succeed", "rate", "95 % interval", "errors")
    lines = [
        (
            run.name,
            run.subject,
            f"{run.summary.n_success} of {run.summary.n_judged}",
            format_percent(run.summary.success_rate),
            format_interval(run.summary.success_interval),
            str(len(run.crashed)),
        )
        for run in runs
    ]
    return _make_table(head, lines)


def _describe_run(run: RunContent) -> list[str]:
    sentences = (run.rate_sentence, run.region_sentence, run.stage_sentence, run.failure_sentence)
    parts = [f"# {_escape(run.subject)}", _escape(" ".join(filter(None, sentences)))]
    parts += [f"> {_escape(remark)}" for remark in run.remarks]
    parts += ["## What was run", _make_code(run.command)]
    facts = [
        (title, fact.name, fact.value) for title in run.main_facts for fact in run.facts[title]
    ]
    parts.append(_make_table(("", "", ""), facts))
    if run.findings:
        parts += [
            "The doctor:",
            "\n".join(f"- {finding.level}: {_escape(str(finding))}" for finding in run.findings),
        ]
    outcomes = [(label_outcome(outcome), str(n)) for outcome, n in run.summary.outcomes.items()]
    parts += ["## Outcomes", _make_table(("outcome", "episodes"), outcomes)]
    if run.events:
        events = [
            (in_words(count.event), str(len(count.episodes)), ", ".join(map(str, count.steps)))
            for count in run.events
        ]
        parts += [
            "## What decided the failures",
            _make_table(("event", "failures", "at steps"), events),
        ]
    if run.stages:
        stages = [
            (in_words(s.stage), f"{s.n_through} of {s.n_episodes}", str(s.n_lost))
            for s in run.stages
        ]
        parts += [
            "## How far the episodes came",
            _make_table(("stage", "came through", "lost here"), stages),
        ]
    if len(run.tasks) > 1:
        parts += ["## By task", _make_task_table(run)]
    parts += list(_describe_starts(run))
    if run.features and run.features.scores:
        parts += ["## CKNNA", _make_score_table(run)]
    parts += list(_list_episodes("Crashes", run.crashed))
    parts += list(_list_episodes("Failures", run.failed))
    return parts


def _describe_starts(run: RunContent) -> Iterable[str]:
    if run.start_maps:
        yield "## Success by where the object begins"
    for task in run.tasks:
        start_map = run.start_maps.get(task.task)
        if start_map is not None:
            yield _escape(
                f"{task.name.short}: {start_map.sentence}"
                if len(run.tasks) > 1
                else start_map.sentence
            )
            head, lines = start_map.table
            if lines and not start_map.remark:
                yield _make_table(head, lines)


def _make_task_table(run: RunContent) -> str:
    lines = [
        (
            task.name.short,
            task.name.words,
            f"{task.summary.n_success} of {task.summary.n_judged}",
            format_percent(task.summary.success_rate),
            format_interval(task.summary.success_interval),
        )
        for task in run.tasks
    ]
    lines.append(
        ("", "macro average", f"{len(run.tasks)} tasks", format_percent(run.macro_average), "")
    )
    return _make_table(("task", "", "succeed", "rate", "95 % interval"), lines)


def _make_score_table(run: RunContent) -> str:
    assert run.features is not None
    lines = [
        (
            score.hook_point,
            str(score.k),
            str(score.n),
            format_number(score.cknna, ".3f"),
            f"{format_number(score.low, '.3f')} to {format_number(score.high, '.3f')}",
            format_number(score.null_high, ".3f"),
            format_number(score.p_value, ".3f"),
        )
        for score in run.features.scores or ()
    ]
    return _make_table(
        ("hook point", "k", "rows", "score", "95 %", "null, 95th percentile", "p"), lines
    )


def _list_episodes(title: str, episodes: Sequence[Episode]) -> Iterable[str]:
    """Yield a heading and a table of the first episodes."""
    if not episodes:
        return
    yield f"## {title}"
    lines = []
    for episode in episodes[:_LISTED]:
        row = episode.row
        is_crash = not row.is_judged
        what = row.error if is_crash else f"{in_words(episode.event)} at step {row.shown_step}"
        lines.append((episode.task.short, str(row.episode_index), label_outcome(row.outcome), what))
    yield _make_table(("task", "episode", "outcome", "what happened"), lines)
    if len(episodes) > _LISTED:
        yield f"and {len(episodes) - _LISTED} more."
    yield f"One of them: {_make_code(episodes[0].command)}"


def _make_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows)


def _make_code(text: str) -> str:
    """Return a span of code whose fence is longer than any run of backticks in the text."""
    flat = " ".join(text.split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", flat)), default=0))
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def _escape(text: str) -> str:
    """Return text that Markdown shows as it is, in a table too."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split())).replace("&", "&amp;")
