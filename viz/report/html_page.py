"""The report as one HTML page, with nothing to be fetched."""

from importlib.metadata import version
from importlib.resources import files
from statistics import median

import jinja2
from markupsafe import Markup

from eval.outcome import label_outcome
from sim.errors import WhiskerError
from viz.outcome_style import format_css_variables, format_fill_rules, name_class
from viz.plan_quality import COLUMNS, get_value
from viz.report import charts
from viz.report.content import ReportContent, RunContent
from viz.report.start_map import StartMap, StartPoint
from viz.report.start_map_svg import start_map_svg
from viz.report.wording import UNDEFINED, format_interval, format_number, format_percent, in_words

_FILES = files("viz") / "report"
_DARK = """--page: #101317; --panel: #171b20; --line: #2b3138; --text: #e4e8ec; --soft: #9ba6b2; --hover: #222830;
--accent: #6ea3f5; --accent-soft: #1f3150; --warning: #e0a94a; --stage: #47719f; --rail: #262c33; color-scheme: dark;"""


def render_html(report: ReportContent) -> str:
    """Return the page. All that comes from a run is escaped."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "words": in_words,
        "outcome": label_outcome,
        "outcome_class": name_class,
        "percent": format_percent,
        "interval": format_interval,
        "number": format_number,
    }
    subjects = ", ".join(dict.fromkeys(run.subject for run in report.runs))
    return environment.from_string(_read("report.html.j2")).render(
        report=report,
        title=f"{subjects}: report",
        style=Markup(_make_style()),
        script=Markup(_read("report.js")),
        charts=charts,
        start_map_svg=_draw_start_map,
        plan_quality_table=_make_plan_quality_table,
        version=version("whisker-eval"),
    )


def _make_style() -> str:
    """Return the style sheet with the colours of both themes: the system's, unless the page says otherwise."""
    light, dark = format_css_variables("light"), format_css_variables("dark")
    names = "--failure: var(--never_picked_up);"
    at_dusk = f':root:not([data-theme="light"]) {{ {_DARK} {dark} }}'
    return "\n".join(
        [
            _read("report.css"),
            f":root {{ {light} {names} }}",
            f"@media screen and (prefers-color-scheme: dark) {{ {at_dusk} }}",
            f'@media screen {{ :root[data-theme="dark"] {{ {_DARK} {dark} }} }}',
            format_fill_rules(),
        ]
    )


def _draw_start_map(run: RunContent, start_map: StartMap) -> Markup:
    def link(point: StartPoint) -> str:
        return "#" + run.find_episode(point.row).anchor

    return Markup(start_map_svg(start_map, link))


def _make_plan_quality_table(run: RunContent) -> Markup:
    """Return a line an episode with the columns that have a number, and the medians below."""
    assert run.plan_quality is not None
    shown = [
        column
        for column in COLUMNS
        if any(get_value(e, column[0]) is not None for e in run.plan_quality)
    ]
    listed = {(episode.row.task, episode.row.episode_index): episode for episode in run.episodes}
    return Markup(
        jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        .from_string(_read("plan_quality.html.j2"))
        .render(
            columns=[meaning for _, _, meaning in shown],
            medians=[
                _format_cell(
                    name,
                    median(v for e in run.plan_quality if (v := get_value(e, name)) is not None),
                )
                for name, _, _ in shown
            ],
            lines=[
                (episode, [_format_cell(name, get_value(quality, name)) for name, _, _ in shown])
                for quality in run.plan_quality
                if (episode := listed.get((quality.task, quality.episode_index)))
            ],
        )
    )


def _format_cell(name: str, value: float | None) -> str:
    """Return a length in cm, any other number as it is."""
    return UNDEFINED if value is None else f"{100 * value if name.endswith('_m') else value:.1f}"


def _read(name: str) -> str:
    file = _FILES / name
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        expected, got = "a file that comes with Whisker", error.strerror or str(error)
        raise WhiskerError(
            f"file {str(file)!r}", expected=expected, got=got, hint="Install Whisker again."
        ) from error
