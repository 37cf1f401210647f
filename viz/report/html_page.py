"""Writes the report as one HTML page that fetches nothing."""

from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from statistics import median
from typing import Any

import jinja2
from markupsafe import Markup

from eval.outcome import label_outcome
from sim.errors import WhiskerError
from viz.outcome_style import format_css_variables, format_fill_rules, name_class
from viz.plan_quality import COLUMNS, format_cell, get_value, list_values
from viz.report import charts
from viz.report.comparison import compare_contents
from viz.report.content import ReportContent, RunContent
from viz.report.start_map import StartMap
from viz.report.start_map_svg import start_map_svg
from viz.report.wording import UNDEFINED, format_interval, format_number, format_percent, in_words

_FILES = files("viz") / "report"
_DARK = """\
--page: #101317; --panel: #171b20; --line: #2b3138; --text: #e4e8ec; --soft: #9ba6b2;
--hover: #222830; --accent: #6ea3f5; --accent-soft: #1f3150; --warning: #e0a94a;
--stage: #47719f; --rail: #262c33; color-scheme: dark;"""
_FILTERS: dict[str, Callable[..., str]] = {
    "words": in_words,
    "outcome": label_outcome,
    "outcome_class": name_class,
    "percent": format_percent,
    "interval": format_interval,
    "number": format_number,
}


def render_html(report: ReportContent) -> str:
    """Return the page. Everything that comes from a run is escaped."""
    subjects = dict.fromkeys(run.subject for run in report.runs)
    return render(
        "report.html.j2",
        report=report,
        comparison=compare_contents(report.runs),
        title=f"{', '.join(subjects)}: report",
        style=Markup(make_style()),
        script=Markup(_read("report.js")),
        charts=charts,
        start_map_svg=_draw_start_map,
        plan_quality_table=_make_plan_quality_table,
        version=version("whisker-eval"),
    )


def render(template: str, **values: Any) -> str:
    """Return a page from a template of this folder, with every value escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    return environment.from_string(_read(template)).render(values)


def make_style() -> str:
    """Return the style sheet of the pages, with the colours of both themes.

    The system's theme applies unless the page sets one.
    """
    light = format_css_variables("light")
    dark = f"{_DARK} {format_css_variables('dark')}"
    system_dark = f':root:not([data-theme="light"]) {{ {dark} }}'
    parts = [
        _read("report.css"),
        f":root {{ {light} --failure: var(--never_picked_up); }}",
        f"@media screen and (prefers-color-scheme: dark) {{ {system_dark} }}",
        f'@media screen {{ :root[data-theme="dark"] {{ {dark} }} }}',
        format_fill_rules(),
    ]
    return "\n".join(parts)


def _draw_start_map(run: RunContent, start_map: StartMap) -> Markup:
    svg = start_map_svg(start_map, lambda point: f"#{run.find_episode(point.row).anchor}")
    return Markup(svg)


def _make_plan_quality_table(run: RunContent) -> Markup:
    """Return the medians and a line for each episode, without columns that hold no number."""
    assert run.plan_quality is not None
    medians = {}
    meanings = []
    for name, _, meaning in COLUMNS:
        values = list_values(run.plan_quality, name)
        if values:
            medians[name] = median(values)
            meanings.append(meaning)
    lines = []
    for quality in run.plan_quality:
        episode = run.by_key.get((quality.task, quality.episode_index))
        if episode:
            cells = [format_cell(name, get_value(quality, name), UNDEFINED) for name in medians]
            lines.append((episode, cells))
    median_cells = [format_cell(name, value, UNDEFINED) for name, value in medians.items()]
    table = render(
        "plan_quality.html.j2",
        columns=meanings,
        medians=median_cells,
        lines=lines,
    )
    return Markup(table)


def _read(name: str) -> str:
    file = _FILES / name
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise WhiskerError(
            f"file {str(file)!r}",
            expected="a file that is part of Whisker",
            got=error.strerror or str(error),
            hint="Install Whisker again.",
        ) from error
