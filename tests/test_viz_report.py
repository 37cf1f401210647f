"""Tests of the report of runs.

Its numbers are compared with a direct count of the rows. The tests also read its files.
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from eval.config import EvalConfig
from eval.episode_row import ROWS_FILE, EpisodeRow
from eval.outcome import OUTCOME_RULES, OUTCOMES, Event, Outcome
from eval.proportions import compute_wilson_interval
from eval.run import Run
from eval.run_description import save_description
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from sim.goals.pick_and_place import PICK_AND_PLACE
from tests.runs import describe_run
from viz.plan_quality import load_plan_quality, save_plan_quality
from viz.report.cli import write_quick_report
from viz.report.content import ReportContent, compute_run_content
from viz.report.html_page import render_html
from viz.report.junit import render_junit
from viz.report.markdown import render_markdown

FAILURES = [
    (Outcome.NEVER_PICKED_UP, "grasped", Event.CLOSED_ON_NOTHING),
    (Outcome.NEVER_PICKED_UP, "reached", Event.CLOSEST_APPROACH),
    (Outcome.DROPPED_DURING_TRANSPORT, "over_goal", Event.LOST_GRASP),
    (Outcome.MISSED_GOAL, "placed", Event.LET_GO),
    (Outcome.TIMEOUT, "released", Event.NOT_RELEASED),
]
# The text has markup, the end of an attribute and an entity. It is put into every name that a user
# can choose.
NASTY = "<b>&amp;\"x'</b>"

STAGES = tuple(PICK_AND_PLACE.stages)


def make_row(task: str, index: int, **parts) -> EpisodeRow:
    """Return the row of a success, with the fields in `parts` replaced."""
    plain = {
        "outcome": Outcome.SUCCESS,
        "success": True,
        "n_steps": 100 + index,
        "decided_at_step": 100 + index,
        "failed_stage": None,
        "decisive_step": 100 + index,
        "decisive_event": Event.SUCCESS,
        "max_object_height_m": 0.1,
        "final_goal_distance_m": 0.02,
        "n_predictions": 5,
        "n_clipped_steps": 0,
        "error": "",
        "duration_s": 0.5,
    }
    return EpisodeRow(
        task=task,
        episode_index=index,
        **(plain | parts),
    )


def make_rows(task: str, n: int, first: int = 0) -> list[EpisodeRow]:
    """Return rows of every outcome in turn.

    Every fifth episode is a success and every eleventh a crash.
    """
    rows = []
    for i in range(first, first + n):
        outcome, stage, event = FAILURES[i % len(FAILURES)]
        failure = {
            "outcome": outcome,
            "success": False,
            "failed_stage": stage,
            "n_steps": 300,
        }
        failure |= {
            "decisive_step": 40 + 7 * i % 200,
            "decisive_event": event,
        }
        crash = failure | {
            "outcome": Outcome.ERROR,
            "failed_stage": None,
            "error": f"ValueError: {NASTY} | \x1b[0m",
        }
        rows.append(
            make_row(
                task,
                i,
                **({} if i % 5 == 0 else crash if i % 11 == 3 else failure),
            )
        )
    return rows


@pytest.fixture
def make_run(tmp_path, blind_env):
    """Return a function that writes a run folder with rows and no episode files."""

    def make(rows, name="run", tasks=None, episodes=None, **parts) -> Path:
        path = tmp_path / name
        path.mkdir()
        description = describe_run(blind_env, max_steps=300, **parts)
        n = episodes or len({row.episode_index for row in rows})
        config = replace_flags(description.config, episodes=n)
        tasks = tasks or {row.task: f"so101/{i}" for i, row in enumerate(rows)}
        save_description(
            path,
            replace(description, config=config, tasks=tasks),
        )
        (path / ROWS_FILE).write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))
        return path

    return make


def content_of(path: Path):
    return compute_run_content(Run.open(path), is_quick=True)


class Page(HTMLParser):
    """Collects the elements of a page, and checks that they are nested correctly."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data

    def select(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.elements if t == tag and attributes.items() <= a.items()]


def test_numbers_are_those_of_the_rows(make_run):
    rows = make_rows("suite/a", 23) + make_rows("suite/b", 23)
    content = content_of(
        make_run(
            rows,
            tasks={"suite/a": "suite/10", "suite/b": "suite/9"},
        )
    )
    judged = [row for row in rows if row.outcome != Outcome.ERROR]
    failed = [row for row in judged if not row.success]
    assert content.summary.n_judged == len(judged) < len(rows)
    assert content.rate_sentence.startswith(
        f"{len(judged) - len(failed)} of {len(judged)} episodes succeed"
    )
    assert {e.event: sorted(e.steps) for e in content.events} == {
        event: sorted(row.decisive_step for row in failed if row.decisive_event == event)
        for event in {row.decisive_event for row in failed}
    }
    assert [len(e.episodes) for e in content.events] == sorted(
        (len(e.episodes) for e in content.events), reverse=True
    )
    came = [len(STAGES) if row.success else STAGES.index(row.failed_stage) for row in judged]
    assert [(s.stage, s.n_through) for s in content.stages] == [
        (stage, sum(n >= i for n in came)) for i, stage in enumerate(STAGES, start=1)
    ]
    assert {s.stage: s.n_lost for s in content.stages if s.n_lost} == Counter(
        row.failed_stage for row in failed
    )
    # Tasks are sorted by number, so that task 9 comes before task 10.
    assert [(task.task, task.name.short) for task in content.tasks] == [
        ("suite/b", "9"),
        ("suite/a", "10"),
    ]
    assert sorted(episode.row.shown_step for episode in content.crashed) == sorted(
        row.shown_step for row in rows if row.error
    )


def test_every_number_leads_to_as_many_lines_as_it_says(make_run):
    """The filters of the page, applied here to its lines, find as many lines as the link says."""
    rows = make_rows("suite/a", 23) + make_rows("suite/b", 12)
    html = render_html(ReportContent((content_of(make_run(rows)),)))
    page = Page(html)
    lines = [a for a in page.select("tr") if a.get("id")]
    assert len(lines) == len(rows)
    links = re.findall(r'data-filter="([^"]*)">(\d+)</a>', html)
    assert len(links) > 40

    def matches(line, name, value):
        held = line.get(f"data-{name}")
        return held == value if name != "through" else held is not None and int(held) >= int(value)

    for query, n in links:
        parts = parse_qsl(unescape(query))
        found = [line for line in lines if all(matches(line, *part) for part in parts)]
        assert len(found) == int(n), query
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    targets = {a["href"].removeprefix("#") for a in page.select("a")}
    assert targets <= set(ids) and {line["id"] for line in lines} <= targets


def test_the_page_is_one_file_that_fetches_nothing(make_run):
    page = Page(render_html(ReportContent((content_of(make_run(make_rows("pick_place", 30))),))))
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert not value or value.startswith("#"), (tag, value)
    assert not page.select("link") and "url(http" not in page.text and "@import" not in page.text
    assert (
        "default-src 'none'"
        in page.select(
            "meta",
            **{"http-equiv": "Content-Security-Policy"},
        )[0]["content"]
    )


def test_markup_in_names_and_messages_is_text(make_run, blind_env):
    rows = [replace(row, task=f"{row.task}/{NASTY}") for row in make_rows("suite", 12)]
    spec = replace(describe_run(blind_env).policy, checkpoint=f"{NASTY}/last")
    env = replace(blind_env.spec, instruction=f"do {NASTY}")
    config = make_config(
        EvalConfig, policy="random", checkpoint=f"{NASTY}/last", env=f"so101/pick_place@{NASTY}"
    )
    path = make_run(rows)
    description = replace(
        Run.open(path).description, policy=spec, env=env, config=replace_flags(config, episodes=12)
    )
    save_description(path, description)
    report = ReportContent((content_of(path),), refused=(f"run {NASTY!r}: no.",))
    page = Page(render_html(report))
    assert "<b>&amp;" not in render_html(report)
    assert f"do {NASTY}" in page.text and f"ValueError: {NASTY}" in page.text
    outside_code = re.sub(r"(`+)[^`].*?[^`]?\1", "", render_markdown(report))
    assert NASTY.replace("<", r"\<").replace(">", r"\>").replace("&", "&amp;") in outside_code
    assert not re.search(r"(?<!\\)<", outside_code)
    cases = ElementTree.fromstring(render_junit(report)).iter("error")
    assert all(NASTY in case.get("message") for case in cases)


def test_junit_counts_failures_crashes_and_what_is_still_to_run(make_run):
    rows = make_rows("suite/a", 23)
    tasks = {"suite/a": "suite/0", "suite/b": "suite/1"}
    root = ElementTree.fromstring(
        render_junit(
            ReportContent(
                (
                    content_of(
                        make_run(
                            rows,
                            tasks=tasks,
                            episodes=25,
                        )
                    ),
                )
            )
        )
    )
    n_errors = sum(bool(row.error) for row in rows)
    n_failures = sum(not row.success for row in rows) - n_errors
    counted = {name: int(root.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    assert counted == {
        "tests": 50,
        "failures": n_failures,
        "errors": n_errors,
        "skipped": 27,
    }
    for name, tag in (
        ("tests", "testcase"),
        ("failures", "failure"),
        ("errors", "error"),
        ("skipped", "skipped"),
    ):
        assert len(list(root.iter(tag))) == counted[name]
    case = next(case for case in root.iter("testcase") if case.get("name") == "episode 1")
    assert case.find("failure").get("message") == "never picked up: closest approach at step 47"
    assert "whiskers" in case.find("failure").text and float(case.get("time")) == 0.5


def test_markdown_has_the_tables(make_run):
    rows = make_rows("pick_place", 30)
    text = render_markdown(ReportContent((content_of(make_run(rows)),)))
    low, high = compute_wilson_interval(
        6,
        sum(not row.error for row in rows),
    )
    assert f"{100 * low:.1f} % to {100 * high:.1f} %" in text
    n_dropped = sum(row.outcome == Outcome.DROPPED_DURING_TRANSPORT for row in rows)
    assert f"| dropped during transport | {n_dropped} |" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1, table


@pytest.mark.parametrize(
    ("rows", "said", "rate"),
    [
        (make_rows("pick_place", 1), "A single episode ran to its end", "100.0 %"),
        ([make_row("pick_place", i) for i in range(5)], "Every episode succeeds", "100.0 %"),
        ([r for r in make_rows("pick_place", 20) if not r.success], "No episode succeeds", "0.0 %"),
        ([r for r in make_rows("pick_place", 20) if r.error], "2 episodes crashed", "–"),
        (
            [
                replace(r, decisive_event=None, decisive_step=None)
                for r in make_rows("pick_place", 9)
            ],
            "The run predates decisive events",
            "25.0 %",
        ),
    ],
    ids=["single", "all", "none", "crashes", "old"],
)
def test_unusual_runs_are_shown_and_said(make_run, rows, said, rate):
    content = content_of(make_run(rows))
    assert any(said in remark for remark in content.remarks)
    page = Page(render_html(ReportContent((content,))))
    assert said in page.text and rate in page.text and "nan" not in page.text
    markdown = render_markdown(ReportContent((content,)))
    assert said in markdown and "nan" not in markdown


def test_an_unfinished_run_is_used_and_said(make_run):
    path = make_run(make_rows("pick_place", 12), episodes=30)
    content = content_of(path)
    (remark,) = [remark for remark in content.remarks if "unfinished" in remark]
    assert "12 of 30 episodes have ended" in remark and "eval --resume" not in remark, (
        "of old rules"
    )
    resolved = replace(
        Run.open(path).description.resolved,
        outcome_rules=OUTCOME_RULES,
    )
    save_description(
        path,
        replace(Run.open(path).description, resolved=resolved),
    )
    assert any("eval --resume" in remark for remark in content_of(path).remarks)
    assert content.summary.n_judged == sum(not episode.row.error for episode in content.episodes)


def run_report(*arguments):
    command = [sys.executable, "-m", "viz.report", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.slow
def test_folders_that_cannot_be_used_are_named_and_the_others_reported(make_run, tmp_path):
    good = make_run(make_rows("pick_place", 12), "good")
    foreign = tmp_path / "foreign"
    torn = make_run(make_rows("pick_place", 3), "torn")
    empty = make_run([], "empty")
    foreign.mkdir()
    (torn / ROWS_FILE).write_text("{}\n")
    output = tmp_path / "out" / "report.html"
    done = run_report(
        foreign,
        good,
        torn,
        empty,
        good,
        "--output",
        output,
        "--junit",
        tmp_path / "junit.xml",
        "--quick",
    )
    assert done.returncode == 0 and str(output) in done.stdout
    refused = done.stderr.splitlines()
    names = ("foreign", "torn", "empty")
    assert all(name in line for name, line in zip(names, refused, strict=True))
    page = Page(output.read_text())
    assert "1 run" in page.text and all(name in page.text for name in names)
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("tests") == "12"
    done = run_report(foreign, empty, "--output", output)
    assert done.returncode == 2 and done.stderr.count("\n") == 2 and done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected a run folder"),
        (["a", "b"], "expected --output for several runs"),
        (["a", "--output", "report.pdf"], "expected a file that ends in .html or .md"),
    ],
)
def test_what_is_not_clear_is_refused(arguments, said):
    done = run_report(*arguments)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_recorded_run_has_a_report_with_plans_and_starts(failed_run, tmp_path):
    """The command in a failure's line is one that `whiskers` accepts."""
    run = Path(shutil.copytree(failed_run, tmp_path / "run"))
    saved = save_plan_quality(Run.open(run))
    assert load_plan_quality(Run.open(run)) == tuple(saved)
    assert write_quick_report(run) == run / "report.html"
    page = Page((run / "report.html").read_text())
    assert "Plan quality" in page.text and "1 of 2 episodes succeed" in page.text
    (command,) = {
        a["data-command"]
        for a in page.select("button")
        if "--episode 8" in (a.get("data-command") or "")
    }
    words = command.split()[command.split().index("whiskers") + 1 :]
    # The same report with film strips shows pictures of the one failure, which are embedded in the
    # page.
    assert not page.select("img") and run_report(run).returncode == 0
    pictures = Page((run / "report.html").read_text()).select("img")
    assert 3 <= len(pictures) <= 5 and all(
        a["src"].startswith("data:image/jpeg;base64,") for a in pictures
    )
    assert any("closed on nothing" in a["alt"] or "closest approach" in a["alt"] for a in pictures)
    png = tmp_path / "at.png"
    done = subprocess.run(
        [sys.executable, "-m", "viz", *words, "--output", png], capture_output=True, text=True
    )
    assert done.returncode == 0 and png.exists(), done.stderr


def test_a_damaged_file_of_plans_is_named(make_run):
    path = make_run(make_rows("pick_place", 5))
    (path / "plan_quality.jsonl").write_text('{"kind": "episode"}\n')
    with pytest.raises(WhiskerError, match="whiskers --table"):
        content_of(path)


def _simulate_deuteranopia(colour: str):
    """Return the CIELAB values of a colour as a deuteranope sees it.

    The model is that of Machado, Oliveira and Fernandes 2009 at severity 1.
    """
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (
        np.array(
            [
                [0.367322, 0.860646, -0.227968],
                [0.280085, 0.672501, 0.047413],
                [-0.011820, 0.042940, 0.968881],
            ]
        )
        @ linear
    )
    seen = seen.clip(0, 1)
    srgb = np.where(
        seen <= 0.0031308,
        12.92 * seen,
        1.055 * seen ** (1 / 2.4) - 0.055,
    )
    return cv2.cvtColor(
        srgb[None, None].astype(np.float32),
        cv2.COLOR_RGB2LAB,
    )[0, 0]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_outcomes_stay_apart_under_deuteranopia(theme):
    assert set(OUTCOMES) == set(Outcome)
    seen = [_simulate_deuteranopia(getattr(facts, theme)) for facts in OUTCOMES.values()]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(distances) > 20
