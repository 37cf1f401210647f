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

TOPPLED = OutcomeFacts(
    "#123456",
    "#abcdef",
    "P",
    "M0 0H1V1Z",
    picked_up=True,
    dropped=True,
)


def make_rows(outcome="toppled", n=3):
    """Return the rows of a run with every kind of result.

    There are two successes, `n` failures with that outcome, one episode that never picked the
    object up, and one crash.
    """
    rows = [make_row("t", i) for i in range(2)]
    failed = {"success": False, "failed_stage": "over_goal", "decisive_step": 60}
    rows += [
        make_row(
            "t",
            2 + i,
            outcome=outcome,
            decisive_event="tipped_over",
            **failed,
        )
        for i in range(n)
    ]
    rows.append(
        make_row(
            "t",
            2 + n,
            **failed
            | {
                "outcome": Outcome.NEVER_PICKED_UP,
                "failed_stage": "reached",
            },
        )
    )
    rows.append(
        make_row(
            "t",
            3 + n,
            **failed
            | {
                "outcome": Outcome.ERROR,
                "failed_stage": None,
                "error": "boom",
            },
        )
    )
    return rows


@pytest.fixture
def toppled(monkeypatch):
    """Add an outcome and an event with one line each."""
    monkeypatch.setitem(OUTCOMES, "toppled", TOPPLED)
    monkeypatch.setitem(
        EVENTS, "tipped_over", EventFacts("the object fell over", caption="it fell")
    )


def printed(rows):
    written = StringIO()
    print_summary(
        Console(file=written, width=120),
        "run",
        summarise(rows),
        rows,
        {"t": "so101/0"},
    )
    return written.getvalue()


def draw_map(rows):
    at = np.linspace(0, 1, len(rows))
    return start_map_svg(
        compute_start_map(
            rows,
            StartScalar("object x", "m", at),
        )
    )


@pytest.mark.usefixtures("toppled")
def test_statistics_take_it_from_the_table():
    summary = summarise(make_rows())
    assert (
        list(summary.outcomes)[-1] == "toppled"
        and summary.outcomes["toppled"] == 3
        and summary.n_unknown == 0
    )
    assert sum(summary.outcomes.values()) == 7 and summary.n_judged == 6
    assert summary.pick_rate == pytest.approx(5 / 6) and summary.drop_rate == pytest.approx(3 / 5)
    assert re.search(r"toppled[ │]+3", printed(make_rows())) and "unknown" not in printed(
        make_rows()
    )


def test_a_kind_of_crash_is_in_no_rate(monkeypatch):
    monkeypatch.setitem(
        OUTCOMES,
        "toppled",
        replace(TOPPLED, is_judged=False),
    )
    summary = summarise(make_rows())
    assert (summary.n_judged, summary.success_rate) == (3, pytest.approx(2 / 3))
    assert summary.pick_rate == pytest.approx(2 / 3)


@pytest.mark.usefixtures("toppled")
def test_reports_colour_list_filter_and_explain_it(make_run):  # noqa: F811
    report = ReportContent((content_of(make_run(make_rows())),))
    html = render_html(report)
    assert "--toppled: #123456;" in html and "--toppled: #abcdef;" in html
    assert (
        ".toppled { fill: var(--toppled); }" in html
        and "outcome=toppled" in html
        and ">P</text>" in html
    )
    assert "the object fell over" in html and 'class="unknown"' not in html
    assert "| toppled | 3 |" in render_markdown(report)
    cases = list(ElementTree.fromstring(render_junit(report)).iter("failure"))
    assert sum(case.get("type") == "toppled" for case in cases) == 3
    assert f'class="mark failure" d="{TOPPLED.mark}"' in draw_map(make_rows())
    shown = [
        row.outcome for row in sort_by_outcome([row for row in make_rows() if not row.success])
    ]
    assert shown == [Outcome.NEVER_PICKED_UP, Outcome.ERROR, *["toppled"] * 3]
    moments = choose_moments(make_rows()[2], np.array([0, 20, 50]), 1 / 30)
    assert [moment.caption for moment in moments if moment.is_decisive] == ["step 60 · it fell"]


@pytest.mark.usefixtures("toppled")
def test_the_viewer_is_told_its_colour_and_its_place():
    rules = format_page_rules()
    assert '\n[data-outcome="toppled"] { --outcome: #123456; --on-outcome: #fff; }' in rules
    assert (
        '[data-theme="dark"] [data-outcome="toppled"] { --outcome: #abcdef; --on-outcome: #000; }'
        in rules
    )
    page = Page(render_page(None))
    (app,) = page.select("div", id="app")
    assert app["data-outcomes"].split() == list(OUTCOMES) and rules in page.text


def test_what_is_unknown_is_said_and_counted_apart(make_run):  # noqa: F811
    rows = [EpisodeRow.from_json(json.dumps(row.to_json())) for row in make_rows()]
    summary = summarise(rows)
    assert summary.n_unknown == summary.outcomes["toppled"] == 3
    assert sum(summary.outcomes.values()) == 7 and (summary.n_judged, summary.n_success) == (6, 2)
    # The rates count two successes and one episode without a pick. The other three are unknown.
    assert summary.pick_rate == pytest.approx(2 / 3) and summary.drop_rate == 0
    words = printed(rows)
    assert re.search(r"toppled \(unknown to this version\)[ │]+3", words)
    assert re.search(r"unknown outcomes, in neither[ │]+3", words)
    assert "does not know toppled" in check_outcomes(rows).evidence
    content = content_of(make_run(rows))
    assert "does not know the outcome of 3 episodes" in " ".join(content.remarks)
    html = render_html(ReportContent((content,)))
    assert 'class="toppled"' not in html and 'class="unknown"' in html and "outcome=toppled" in html
    suite = ElementTree.fromstring(render_junit(ReportContent((content,))))
    counted = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    assert counted == {
        "tests": 7,
        "failures": 4,
        "errors": 1,
        "skipped": 0,
    }
    assert "toppled (unknown to this version)" in draw_map(rows)


def test_an_unknown_outcome_of_a_crash_is_no_failure():
    row = make_row(
        "t",
        0,
        outcome="torn",
        success=False,
        error="boom",
    )
    assert not row.is_judged and not row.is_failure and summarise([row]).n_judged == 0


@pytest.mark.parametrize(
    "name",
    ["../../x", "<b>", "Success", "", "a b", 5],
)
def test_what_cannot_be_a_name_is_no_outcome(name):
    """An outcome becomes part of file names and of HTML pages."""
    line = json.dumps(make_row("t", 0).to_json() | {"outcome": name})
    with pytest.raises(ValueError, match="as a name"):
        EpisodeRow.from_json(line)
