"""The report as JUnit XML, which build servers read: a suite for each task, a test case for each episode."""

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from eval.outcome import label_outcome
from viz.report.content import Episode, ReportContent, RunContent, TaskContent
from viz.report.wording import format_interval, format_percent, in_words

# What XML 1.0 has no way to write.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: ReportContent) -> str:
    """Return the file.

    Failures of the policy are failures, crashes are errors, and episodes still to run skipped.
    """
    root = ElementTree.Element("testsuites", name="whisker")
    for run in report.runs:
        missing: dict[str, list[int]] = {}
        for task, episode_index in run.run.missing:
            missing.setdefault(task, []).append(episode_index)
        for task_content in run.tasks:
            _add_suite(root, run, task_content, missing.pop(task_content.task, []))
        for task, indices in missing.items():
            _add_suite(root, run, task, indices)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ElementTree.indent(root)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + ElementTree.tostring(root, encoding="unicode")
        + "\n"
    )


def _add_suite(
    root: ElementTree.Element, run: RunContent, task: TaskContent | str, missing: list[int]
) -> None:
    """Add a task of a run.

    Args:
        task: its name alone if no episode of it has ended.
        missing: indices of the episodes that were asked for and have not ended.
    """
    episodes = () if isinstance(task, str) else task.episodes
    name = f"{run.name}/{task if isinstance(task, str) else task.task}"
    counts = {
        "tests": len(episodes) + len(missing),
        "failures": sum(e.row.is_failure for e in episodes),
        "errors": sum(not e.row.is_judged for e in episodes),
        "skipped": len(missing),
    }
    attributes = {"name": name, "time": f"{sum(e.row.duration_s for e in episodes):.3f}"}
    attributes |= {key: str(n) for key, n in counts.items()}
    if run.run.description.started_utc:
        attributes["timestamp"] = run.run.description.started_utc
    suite = _add(root, "testsuite", attributes)
    if not isinstance(task, str):
        _add_properties(suite, run, task)
    for episode in episodes:
        _add_case(suite, name, episode)
    for episode_index in missing:
        case = _add(suite, "testcase", {"classname": name, "name": f"episode {episode_index}"})
        _add(case, "skipped", {"message": "has not ended"})


def _add_properties(suite: ElementTree.Element, run: RunContent, task: TaskContent) -> None:
    properties = _add(suite, "properties", {})
    for name, value in {
        "policy and environment": run.subject,
        "success rate": format_percent(task.summary.success_rate),
        "95 % interval": format_interval(task.summary.success_interval),
        "n": str(task.summary.n_judged),
    }.items():
        _add(properties, "property", {"name": name, "value": value})


def _add_case(suite: ElementTree.Element, name: str, episode: Episode) -> None:
    row = episode.row
    attributes = {
        "classname": name,
        "name": f"episode {row.episode_index}",
        "time": f"{row.duration_s:.3f}",
    }
    case = _add(suite, "testcase", attributes)
    if not row.is_judged:
        _add(case, "error", {"type": "error", "message": row.error}).text = _clean(row.error)
    elif row.is_failure:
        message = (
            f"{label_outcome(row.outcome)}: {in_words(episode.event)} at step {row.shown_step}"
        )
        _add(case, "failure", {"type": str(row.outcome), "message": message}).text = _clean(
            episode.command
        )


def _add(
    parent: ElementTree.Element, tag: str, attributes: Mapping[str, str]
) -> ElementTree.Element:
    return ElementTree.SubElement(
        parent, tag, {name: _clean(value) for name, value in attributes.items()}
    )


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
