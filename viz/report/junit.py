"""Writes the report as JUnit XML for build servers: a suite per task, a case per episode."""

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from eval.outcome import label_outcome
from viz.report.content import ReportContent, RunContent
from viz.report.episodes import Episode, TaskContent
from viz.report.wording import format_interval, format_percent, in_words

# Characters that XML 1.0 cannot contain.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_COUNTS = ("tests", "failures", "errors", "skipped")


def render_junit(report: ReportContent) -> str:
    """Return the file.

    Failures of the policy are failures, crashes are errors, and missing episodes are skipped.
    """
    root = ElementTree.Element("testsuites", name="whisker")
    for run in report.runs:
        _add_run(root, run)
    for name in _COUNTS:
        counts = [suite.get(name, "0") for suite in root]
        root.set(name, str(sum(map(int, counts))))
    ElementTree.indent(root)
    content = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{content}\n'


def _add_run(root: ElementTree.Element, run: RunContent) -> None:
    missing: dict[str, list[int]] = {}
    for task, episode_index in run.run.missing:
        missing.setdefault(task, []).append(episode_index)
    contents = {content.task: content for content in run.tasks}
    for task in dict.fromkeys([*contents, *missing]):
        content = contents.get(task)
        episodes = content.episodes if content else ()
        indices = missing.get(task, [])
        suite = _add_suite(root, run, task, episodes, indices)
        if content:
            _add_properties(suite, run, content)
        _add_cases(suite, episodes, indices)


def _add_suite(
    root: ElementTree.Element,
    run: RunContent,
    task: str,
    episodes: Sequence[Episode],
    missing: Sequence[int],
) -> ElementTree.Element:
    """Add the suite of a task, without its cases.

    Args:
        missing: indices of the episodes that were requested and have not ended.
    """
    duration_s = sum(episode.row.duration_s for episode in episodes)
    attributes = {
        "name": f"{run.name}/{task}",
        "time": f"{duration_s:.3f}",
        "tests": str(len(episodes) + len(missing)),
        "failures": str(sum(episode.row.is_failure for episode in episodes)),
        "errors": str(sum(not episode.row.is_judged for episode in episodes)),
        "skipped": str(len(missing)),
    }
    started_utc = run.run.description.started_utc
    if started_utc:
        attributes["timestamp"] = started_utc
    return _add(root, "testsuite", attributes)


def _add_properties(
    suite: ElementTree.Element,
    run: RunContent,
    task: TaskContent,
) -> None:
    values = {
        "policy and environment": run.subject,
        "success rate": format_percent(task.summary.success_rate),
        "95 % interval": format_interval(task.summary.success_interval),
        "n": str(task.summary.n_judged),
    }
    properties = _add(suite, "properties", {})
    for name, value in values.items():
        _add(properties, "property", {"name": name, "value": value})


def _add_cases(
    suite: ElementTree.Element,
    episodes: Sequence[Episode],
    missing: Sequence[int],
) -> None:
    for episode in episodes:
        case = _add_case(suite, episode.row.episode_index)
        case.set("time", f"{episode.row.duration_s:.3f}")
        _add_result(case, episode)
    for episode_index in missing:
        case = _add_case(suite, episode_index)
        _add(case, "skipped", {"message": "has not ended"})


def _add_case(suite: ElementTree.Element, episode_index: int) -> ElementTree.Element:
    name = f"episode {episode_index}"
    return _add(
        suite,
        "testcase",
        {"classname": suite.get("name", ""), "name": name},
    )


def _add_result(case: ElementTree.Element, episode: Episode) -> None:
    row = episode.row
    if not row.is_judged:
        result = _add(case, "error", {"type": "error", "message": row.error})
        result.text = _clean(row.error)
    elif row.is_failure:
        event = f"{in_words(episode.event)} at step {row.shown_step}"
        message = f"{label_outcome(row.outcome)}: {event}"
        result = _add(
            case,
            "failure",
            {"type": str(row.outcome), "message": message},
        )
        result.text = _clean(episode.command)


def _add(
    parent: ElementTree.Element,
    tag: str,
    attributes: Mapping[str, str],
) -> ElementTree.Element:
    cleaned = {name: _clean(value) for name, value in attributes.items()}
    return ElementTree.SubElement(parent, tag, cleaned)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
