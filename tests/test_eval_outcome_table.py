"""Tests that an outcome or event is known everywhere once it is in its table.

One that is not in the table is reported as unknown.
"""

import json
import re
from dataclasses import replace
from io import StringIO
from xml.etree import ElementTree

import numpy as np
import pytest
from pytest import approx
from rich.console import Console

from eval.doctor.row_checks import check_outcomes
from eval.episode_row import EpisodeRow
from eval.outcome import EVENTS, OUTCOMES, EventFacts, Outcome, OutcomeFacts
from eval.statistics import summarise
from eval.tables import print_summary
from tests.test_viz_report import Page, content_of, make_row, make_run  # noqa: F401  a fixture
from viz.outcome_style import format_page_rules
from viz.page import render_page
from viz.report.content import ReportContent
from viz.report.film_strips import sort_by_outcome
from viz.report.html_page import render_html
from viz.report.junit import render_junit
from viz.report.markdown import render_markdown
from viz.report.start_map import StartScalar, compute_start_map
from viz.report.start_map_svg import start_map_svg
from viz.report.strip_moments import choose_moments

TOPPLED = OutcomeFacts("#123456", "#abcdef", "P", "M0 0H1V1Z", picked_up=True, dropped=True)
FAILED = {"success": False, "failed_stage": "over_goal", "decisive_step": 60}
TOPPLED_ROW = FAILED | {"outcome": "toppled", "decisive_event": "tipped_over"}
UNPICKED_ROW = FAILED | {"outcome": Outcome.NEVER_PICKED_UP, "failed_stage": "reached"}
CRASHED_ROW = FAILED | {"outcome": Outcome.ERROR, "failed_stage": None, "error": "boom"}
# The run has every kind of result.
ROWS = [
    make_row("t", index, **parts)
    for index, parts in enumerate([{}, {}, *[TOPPLED_ROW] * 3, UNPICKED_ROW, CRASHED_ROW])
]


@pytest.fixture
def toppled(monkeypatch):
    """Add an outcome and an event with one line each."""
    event = EventFacts("the object fell over", caption="it fell")
    monkeypatch.setitem(OUTCOMES, "toppled", TOPPLED)
    monkeypatch.setitem(EVENTS, "tipped_over", event)


def printed(rows):
    written = StringIO()
    console = Console(file=written, width=120)
    print_summary(
        console,
        "run",
        summarise(rows),
        rows,
        {"t": "so101/0"},
    )
    return written.getvalue()


def draw_map(rows):
    at = StartScalar("object x", "m", np.linspace(0, 1, len(rows)))
    return start_map_svg(compute_start_map(rows, at))


@pytest.mark.usefixtures("toppled")
def test_statistics_take_it_from_the_table():
    summary = summarise(ROWS)
    assert list(summary.outcomes)[-1] == "toppled"
    assert summary.outcomes["toppled"] == 3
    assert summary.n_unknown == 0
    assert sum(summary.outcomes.values()) == 7
    assert summary.n_judged == 6
    assert summary.pick_rate == approx(5 / 6)
    assert summary.drop_rate == approx(3 / 5)
    words = printed(ROWS)
    assert re.search(r"toppled[ │]+3", words)
    assert "unknown" not in words


def test_a_kind_of_crash_is_in_no_rate(monkeypatch):
    monkeypatch.setitem(OUTCOMES, "toppled", replace(TOPPLED, is_judged=False))
    summary = summarise(ROWS)
    assert summary.n_judged == 3
    assert summary.success_rate == approx(2 / 3)
    assert summary.pick_rate == approx(2 / 3)


@pytest.mark.usefixtures("toppled")
def test_reports_colour_list_filter_and_explain_it(make_run):  # noqa: F811
    report = ReportContent((content_of(make_run(ROWS)),))
    html = render_html(report)
    for said in (
        "--toppled: #123456;",
        "--toppled: #abcdef;",
        ".toppled { fill: var(--toppled); }",
        "outcome=toppled",
        ">P</text>",
        "the object fell over",
    ):
        assert said in html
    assert 'class="unknown"' not in html
    assert "| toppled | 3 |" in render_markdown(report)
    assert render_junit(report).count('<failure type="toppled"') == 3
    assert f'class="mark failure" d="{TOPPLED.mark}"' in draw_map(ROWS)
    assert sort_by_outcome(ROWS[2:]) == [
        ROWS[5],
        ROWS[6],
        *ROWS[2:5],
    ]
    moments = choose_moments(
        ROWS[2],
        np.array([0, 20, 50]),
        1 / 30,
    )
    assert [moment.caption for moment in moments if moment.is_decisive] == ["step 60 · it fell"]


@pytest.mark.usefixtures("toppled")
def test_the_viewer_is_told_its_colour_and_its_place():
    rules = format_page_rules()
    selector = '[data-outcome="toppled"]'
    assert f"\n{selector} {{ --outcome: #123456; --on-outcome: #fff; }}" in rules
    dark = f'[data-theme="dark"] {selector}'
    assert f"{dark} {{ --outcome: #abcdef; --on-outcome: #000; }}" in rules
    page = Page(render_page(None))
    (app,) = page.select("div", id="app")
    assert app["data-outcomes"].split() == list(OUTCOMES)
    assert rules in page.text


def test_what_is_unknown_is_said_and_counted_apart(make_run):  # noqa: F811
    rows = [EpisodeRow.from_json(json.dumps(row.to_json())) for row in ROWS]
    summary = summarise(rows)
    assert summary.n_unknown == summary.outcomes["toppled"] == 3
    assert sum(summary.outcomes.values()) == 7
    assert summary.n_judged == 6
    assert summary.n_success == 2
    # The rates count two successes and one episode without a pick. The other three are unknown.
    assert summary.pick_rate == approx(2 / 3)
    assert summary.drop_rate == 0
    words = printed(rows)
    assert re.search(r"toppled \(unknown to this version\)[ │]+3", words)
    assert re.search(r"unknown outcomes, in neither[ │]+3", words)
    assert "does not know toppled" in check_outcomes(rows).evidence
    content = content_of(make_run(rows))
    assert "does not know the outcome of 3 episodes" in " ".join(content.remarks)
    report = ReportContent((content,))
    html = render_html(report)
    assert 'class="toppled"' not in html
    assert 'class="unknown"' in html
    assert "outcome=toppled" in html
    counts = {"tests": "7", "failures": "4", "errors": "1", "skipped": "0"}
    assert counts.items() <= ElementTree.fromstring(render_junit(report)).attrib.items()
    assert "toppled (unknown to this version)" in draw_map(rows)


def test_an_unknown_outcome_of_a_crash_is_no_failure():
    row = make_row(
        "t",
        0,
        outcome="torn",
        success=False,
        error="boom",
    )
    assert not row.is_judged
    assert not row.is_failure
    assert summarise([row]).n_judged == 0


@pytest.mark.parametrize("name", ["../../x", "<b>", "Success", "", "a b", 5])
def test_what_cannot_be_a_name_is_no_outcome(name):
    """An outcome becomes part of file names and of HTML pages."""
    line = json.dumps(ROWS[0].to_json() | {"outcome": name})
    with pytest.raises(ValueError, match="as a name"):
        EpisodeRow.from_json(line)
