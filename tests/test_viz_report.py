"""Tests of the report of runs.

Its numbers are compared with a direct count of the rows. The tests also read its files.
"""

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
from scipy.spatial.distance import pdist

from eval.config import EvalConfig
from eval.episode_row import ROWS_FILE, EpisodeRow
from eval.outcome import OUTCOME_RULES, OUTCOMES, Event, Outcome
from eval.proportions import compute_wilson_interval
from eval.run import Run
from eval.run_description import save_description
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from sim.goals.pick_and_place import PICK_AND_PLACE
from tests.recordings import write_rows
from tests.runs import describe_run
from viz.plan_assessment import save_plan_quality
from viz.plan_quality import load_plan_quality
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


def make_row(task, index, **parts):
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


def make_rows(task, n):
    """Return rows of every outcome in turn.

    Every fifth episode is a success and every eleventh a crash.
    """
    rows = []
    for i in range(n):
        row = make_row(task, i)
        if i % 5:
            outcome, stage, event = FAILURES[i % len(FAILURES)]
            row = replace(
                row,
                outcome=outcome,
                success=False,
                failed_stage=stage,
                n_steps=300,
                decisive_step=40 + 7 * i % 200,
                decisive_event=event,
            )
        if i % 5 and i % 11 == 3:
            error = f"ValueError: {NASTY} | \x1b[0m"
            row = replace(
                row,
                outcome=Outcome.ERROR,
                failed_stage=None,
                error=error,
            )
        rows.append(row)
    return rows


@pytest.fixture
def make_run(tmp_path, blind_env):
    """Return a function that writes a run folder with rows and no episode files."""

    def make(rows, name="run", tasks=None, episodes=None, **parts):
        path = tmp_path / name
        path.mkdir()
        description = describe_run(
            blind_env,
            max_steps=300,
            **parts,
        )
        n = episodes or len({row.episode_index for row in rows})
        config = replace_flags(description.config, episodes=n)
        tasks = tasks or {row.task: f"so101/{i}" for i, row in enumerate(rows)}
        save_description(
            path,
            replace(description, config=config, tasks=tasks),
        )
        write_rows(path, rows)
        return path

    return make


def change_description(path, **parts):
    save_description(
        path,
        replace(Run.open(path).description, **parts),
    )


def content_of(path):
    return compute_run_content(Run.open(path), is_quick=True)


@pytest.fixture
def report_of(make_run):
    """Return a function that returns the content of a report of one run."""

    def make(rows, **parts):
        return ReportContent((content_of(make_run(rows, **parts)),))

    return make


class Page(HTMLParser):
    """Collects the elements of a page, and checks that they are nested correctly."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, html):
        super().__init__()
        self.elements = []
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

    def select(self, tag, **attributes):
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
    steps = Counter((row.decisive_event, row.decisive_step) for row in failed)
    assert Counter((e.event, step) for e in content.events for step in e.steps) == steps
    sizes = [len(e.episodes) for e in content.events]
    assert sizes == sorted(sizes, reverse=True)
    lost = Counter(row.failed_stage for row in failed)
    assert [stage.stage for stage in content.stages] == list(STAGES)
    n_left = len(judged)
    for stage in content.stages:
        assert stage.n_lost == lost[stage.stage]
        n_left -= stage.n_lost
        assert stage.n_through == n_left
    # Tasks are sorted by number, so that task 9 comes before task 10.
    assert [task.task for task in content.tasks] == ["suite/b", "suite/a"]
    assert [task.name.short for task in content.tasks] == ["9", "10"]
    crashed = Counter(row.shown_step for row in rows if row.error)
    assert Counter(episode.row.shown_step for episode in content.crashed) == crashed


def test_every_number_leads_to_as_many_lines_as_it_says(report_of):
    """The filters of the page, applied here to its lines, find as many lines as the link says."""
    rows = make_rows("suite/a", 23) + make_rows("suite/b", 12)
    html = render_html(report_of(rows))
    page = Page(html)
    lines = [a for a in page.select("tr") if a.get("id")]
    assert len(lines) == len(rows)
    links = re.findall(r'data-filter="([^"]*)">(\d+)</a>', html)
    assert len(links) > 40

    def matches(line, name, value):
        held = line.get(f"data-{name}")
        if name == "through":
            return held is not None and int(held) >= int(value)
        return held == value

    for query, n in links:
        found = lines
        for part in parse_qsl(unescape(query)):
            found = [line for line in found if matches(line, *part)]
        assert len(found) == int(n), query
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    targets = {a["href"].removeprefix("#") for a in page.select("a")}
    assert {line["id"] for line in lines} <= targets <= set(ids)


def test_the_page_is_one_file_that_fetches_nothing(report_of):
    page = Page(render_html(report_of(make_rows("pick_place", 30))))
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith("#"), (tag, value)
    assert not page.select("link")
    assert "url(http" not in page.text
    assert "@import" not in page.text
    (policy,) = page.select(
        "meta",
        **{"http-equiv": "Content-Security-Policy"},
    )
    assert "default-src 'none'" in policy["content"]


def test_markup_in_names_and_messages_is_text(make_run, blind_env):
    path = make_run(make_rows(f"suite/{NASTY}", 12))
    checkpoint = f"{NASTY}/last"
    change_description(
        path,
        policy=replace(
            Run.open(path).description.policy,
            checkpoint=checkpoint,
        ),
        env=replace(blind_env.spec, instruction=f"do {NASTY}"),
        config=make_config(
            EvalConfig,
            policy="random",
            checkpoint=checkpoint,
            env=f"so101/pick_place@{NASTY}",
            episodes=12,
        ),
    )
    report = ReportContent((content_of(path),), refused=(f"run {NASTY!r}: no.",))
    html = render_html(report)
    assert "<b>&amp;" not in html
    page = Page(html)
    assert f"do {NASTY}" in page.text
    assert f"ValueError: {NASTY}" in page.text
    outside_code = re.sub(r"(`+)[^`].*?[^`]?\1", "", render_markdown(report))
    assert NASTY.replace("<", r"\<").replace(">", r"\>").replace("&", "&amp;") in outside_code
    assert not re.search(r"(?<!\\)<", outside_code)
    for case in ElementTree.fromstring(render_junit(report)).iter("error"):
        assert NASTY in case.get("message")


def test_junit_counts_failures_crashes_and_what_is_still_to_run(report_of):
    rows = make_rows("suite/a", 23)
    tasks = {
        "suite/a": "suite/0",
        "suite/b": "suite/1",
    }
    root = ElementTree.fromstring(
        render_junit(
            report_of(
                rows,
                tasks=tasks,
                episodes=25,
            )
        )
    )
    n_errors = sum(bool(row.error) for row in rows)
    n_failures = sum(not row.success for row in rows) - n_errors
    for name, tag, n in (
        ("tests", "testcase", 50),
        ("failures", "failure", n_failures),
        ("errors", "error", n_errors),
        ("skipped", "skipped", 27),
    ):
        assert int(root.get(name)) == n
        assert len(list(root.iter(tag))) == n
    case = root.find(".//testcase[@name='episode 1']")
    failure = case.find("failure")
    assert failure.get("message") == "never picked up: closest approach at step 47"
    assert "whiskers" in failure.text
    assert float(case.get("time")) == 0.5


def test_markdown_has_the_tables(report_of):
    rows = make_rows("pick_place", 30)
    text = render_markdown(report_of(rows))
    outcomes = Counter(row.outcome for row in rows)
    low, high = compute_wilson_interval(6, 30 - outcomes[Outcome.ERROR])
    assert f"{100 * low:.1f} % to {100 * high:.1f} %" in text
    n_dropped = outcomes[Outcome.DROPPED_DURING_TRANSPORT]
    assert f"| dropped during transport | {n_dropped} |" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            n_columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(n_columns) == 1, block


TWENTY = make_rows("pick_place", 20)


@pytest.mark.parametrize(
    ("rows", "said", "rate"),
    [
        (TWENTY[:1], "A single episode ran to its end", "100.0 %"),
        ([row for row in TWENTY if row.success], "Every episode succeeds", "100.0 %"),
        ([row for row in TWENTY if not row.success], "No episode succeeds", "0.0 %"),
        ([row for row in TWENTY if row.error], "2 episodes crashed", "–"),
        (
            [
                replace(
                    row,
                    decisive_event=None,
                    decisive_step=None,
                )
                for row in TWENTY[:9]
            ],
            "The run predates decisive events",
            "25.0 %",
        ),
    ],
    ids=["single", "all", "none", "crashes", "old"],
)
def test_unusual_runs_are_shown_and_said(report_of, rows, said, rate):
    report = report_of(rows)
    assert said in "\n".join(report.runs[0].remarks)
    page = Page(render_html(report))
    assert said in page.text
    assert rate in page.text
    assert "nan" not in page.text
    markdown = render_markdown(report)
    assert said in markdown
    assert "nan" not in markdown


def test_an_unfinished_run_is_used_and_said(make_run):
    path = make_run(make_rows("pick_place", 12), episodes=30)
    content = content_of(path)
    (remark,) = [remark for remark in content.remarks if "unfinished" in remark]
    assert "12 of 30 episodes have ended" in remark and "eval --resume" not in remark, (
        "of old rules"
    )
    resolved = Run.open(path).description.resolved
    change_description(
        path,
        resolved=replace(resolved, outcome_rules=OUTCOME_RULES),
    )
    assert "eval --resume" in "\n".join(content_of(path).remarks)
    assert content.summary.n_judged == sum(not episode.row.error for episode in content.episodes)


def run_report(*arguments):
    command = [sys.executable, "-m", "viz.report", *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
    )
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
    assert done.returncode == 0
    assert str(output) in done.stdout
    refused = done.stderr.splitlines()
    names = ("foreign", "torn", "empty")
    assert all(name in line for name, line in zip(names, refused, strict=True))
    page = Page(output.read_text())
    assert "1 run" in page.text
    assert all(name in page.text for name in names)
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("tests") == "12"
    done = run_report(
        foreign,
        empty,
        "--output",
        output,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 2
    assert done.stdout == ""


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
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_recorded_run_has_a_report_with_plans_and_starts(failed_run, tmp_path):
    """The command in a failure's line is one that `whiskers` accepts."""
    run = Path(shutil.copytree(failed_run, tmp_path / "run"))
    saved = save_plan_quality(Run.open(run))
    assert load_plan_quality(Run.open(run)) == tuple(saved)
    assert write_quick_report(run) == run / "report.html"
    page = Page((run / "report.html").read_text())
    assert "Plan quality" in page.text
    assert "1 of 2 episodes succeed" in page.text
    commands = {a.get("data-command", "") for a in page.select("button")}
    (command,) = (command for command in commands if "--episode 8" in command)
    _, arguments = command.split("whiskers ")
    # The same report with film strips shows pictures of the one failure, which are embedded in the
    # page.
    assert not page.select("img")
    assert run_report(run).returncode == 0
    pictures = Page((run / "report.html").read_text()).select("img")
    assert 3 <= len(pictures) <= 5
    for picture in pictures:
        assert picture["src"].startswith("data:image/jpeg;base64,")
    texts = " ".join(picture["alt"] for picture in pictures)
    assert re.search("closed on nothing|closest approach", texts)
    png = tmp_path / "at.png"
    whiskers = [sys.executable, "-m", "viz", *arguments.split()]
    subprocess.run([*whiskers, "--output", png], check=True)
    assert png.exists()


def test_a_damaged_file_of_plans_is_named(make_run):
    path = make_run(make_rows("pick_place", 5))
    (path / "plan_quality.jsonl").write_text('{"kind": "episode"}\n')
    with pytest.raises(WhiskerError, match="whiskers --table"):
        content_of(path)


DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)


def _simulate_deuteranopia(colour):
    """Return the CIELAB values of a colour as a deuteranope sees it.

    The model is that of Machado, Oliveira and Fernandes 2009 at severity 1.
    """
    rgb = np.array(list(bytes.fromhex(colour[1:]))) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = DEUTERANOPIA @ linear
    image = seen.clip(0, 1).astype(np.float32)[None, None]
    return cv2.cvtColor(image, cv2.COLOR_LRGB2LAB)[0, 0]


@pytest.mark.parametrize(
    "theme",
    ["light", "dark"],
)
def test_outcomes_stay_apart_under_deuteranopia(theme):
    assert set(OUTCOMES) == set(Outcome)
    seen = [_simulate_deuteranopia(getattr(facts, theme)) for facts in OUTCOMES.values()]
    assert pdist(seen).min() > 20
