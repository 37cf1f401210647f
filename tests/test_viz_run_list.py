"""Tests of the list of runs and of opening a run in it.

They cover complete, unfinished, torn and foreign folders.
"""

import math
import shutil
from contextlib import ExitStack, closing
from dataclasses import replace
from unittest.mock import Mock
from urllib.parse import quote

import pytest

from eval.config import EvalConfig
from eval.doctor.finding import Finding, Level
from eval.episode_arrays import EpisodeRecord
from eval.episode_row import ROWS_FILE, make_row
from eval.outcome import Outcome
from eval.run_description import RUN_FILE
from eval.run_folder import RunFolder
from eval.run_folders import MOST_LEVELS, find_run_folders
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.runs import describe_run
from tests.test_viz_server import answer, ask, serving, status_of
from viz import run_list
from viz.report.cli import REPORT_FILE
from viz.run_list import RunList

SUCCESS = Outcome.SUCCESS
FAILURE = Outcome.NEVER_PICKED_UP
ERROR = Outcome.ERROR


def append(run, *outcomes):
    """Write episodes with the given outcomes, without arrays."""
    for outcome in outcomes:
        error = "MemoryError: none left" if outcome is ERROR else ""
        record = EpisodeRecord(
            "pick_place",
            len(run.rows),
            outcome is SUCCESS,
            error,
            0.1,
            None,
        )
        run.append(
            record,
            replace(make_row(record), outcome=outcome),
        )


@pytest.fixture
def make_run(tmp_path, blind_env):
    """Yield a function that makes a run folder with the given outcomes.

    It returns the run, open for writing. `episodes` is the number that was asked for.
    """
    with ExitStack() as opened:

        def make(*outcomes, episodes=1, folder=tmp_path, policy="random", **parts):
            config = make_config(
                EvalConfig,
                policy=policy,
                env="so101/pick_place",
                episodes=episodes,
            )
            description = describe_run(blind_env, policy, config=config, **parts)
            run = opened.enter_context(closing(RunFolder.create(folder, description)))
            append(run, *outcomes)
            return run

        yield make


@pytest.fixture
def list_runs(tmp_path):
    """Return a function that lists the runs in the folder as the page receives them."""
    return lambda: RunList(tmp_path).listing()["runs"]


def remarks_of(folder):
    return {each["name"]: each["remark"] for each in RunList(folder).listing()["remarks"]}


def test_a_run_is_told_in_numbers(make_run, list_runs):
    make_run(
        SUCCESS,
        FAILURE,
        SUCCESS,
        ERROR,
        SUCCESS,
        episodes=5,
    )
    (run,) = list_runs()
    assert run == run | {
        "policy": "random",
        "env": "so101/pick_place",
        "n_done": 5,
        "n_asked": 5,
        "outcomes": {
            "success": 3,
            "never_picked_up": 1,
            "error": 1,
        },
        "n_success": 3,
        "n_judged": 4,
        "success_rate": 0.75,
        "has_report": False,
    }
    # The bounds of Wilson's interval solve its equation: the rate lies 1.96 standard errors from
    # what was seen.
    z = 1.959963984540054
    for bound in run["success_interval"]:
        assert abs(bound - 0.75) == pytest.approx(z * math.sqrt(bound * (1 - bound) / 4))


def test_a_run_without_an_end_has_no_rate(make_run, list_runs):
    make_run(ERROR, episodes=3)
    (run,) = list_runs()
    assert run["success_rate"] is None
    assert run["success_interval"] is None
    assert run["n_done"] == 1


def test_the_newest_run_comes_first_and_nested_ones_have_their_path_for_a_name(
    make_run, list_runs, tmp_path
):
    old = make_run(
        folder=tmp_path / "ablation" / "lr",
        started_utc="2020-01-01T00:00:00+00:00",
    )
    new = make_run()
    # This folder is too deep.
    make_run(folder=tmp_path.joinpath("a", *"b" * (MOST_LEVELS - 1)))
    names = [run["name"] for run in list_runs()]
    assert names == [new.path.name, f"ablation/lr/{old.path.name}"]
    assert remarks_of(tmp_path) == {"a": "This folder is no run: it has no run.json."}


def test_torn_and_foreign_folders_are_said_and_the_list_goes_on(make_run, list_runs, tmp_path):
    good = make_run(SUCCESS)
    shutil.copytree(good.path, tmp_path / "rows")
    remarks = {
        "torn": "expected JSON",
        "newer": "expected version 1, got 99",
        "list": "a version",
        "lost": "expected a run folder with a run.json",
        "rows": "line 1: expected a row of JSON",
        "photos": "no run: it has no run.json",
    }
    for name in (*remarks, ".unfinished-x", ".git"):
        (tmp_path / name).mkdir(exist_ok=True)
    for file, content in (
        (f"torn/{RUN_FILE}", '{"version": 1, "config": {'),
        (f"newer/{RUN_FILE}", '{"version": 99}'),
        (f"list/{RUN_FILE}", "[1]"),
        (f"lost/{ROWS_FILE}", ""),
        (f"rows/{ROWS_FILE}", "no row\n"),
        ("photos/a.jpg", ""),
        ("notes.txt", ""),
        (f".unfinished-x/{RUN_FILE}", "{}"),
        (f".git/{RUN_FILE}", "{}"),
    ):
        (tmp_path / file).write_text(content)
    assert [run["name"] for run in list_runs()] == [good.path.name]
    said = remarks_of(tmp_path)
    assert set(said) == set(remarks)
    for name, remark in remarks.items():
        assert remark in said[name]


def test_old_rules_and_findings_are_told(make_run, list_runs, blind_env):
    findings = (
        Finding("gripper", Level.WARNING, "it never closes"),
        Finding("cameras", Level.ERROR, "exchanged"),
    )
    of_old_rules = replace(describe_run(blind_env).resolved, outcome_rules=1)
    make_run(policy="zero", doctor=findings, resolved=of_old_rules)
    make_run(policy="random", doctor=())
    make_run(policy="scripted")
    runs = {run["policy"]: run for run in list_runs()}
    doctor = runs["zero"]["doctor"]
    assert doctor["level"] == "error"
    assert doctor["n_errors"] == doctor["n_warnings"] == 1
    assert doctor["findings"][0] == "warning: gripper: it never closes."
    assert "outcomes by rules 1" in runs["zero"]["old_rules"]
    assert runs["random"]["doctor"]["level"] == "fine"
    assert runs["scripted"]["doctor"]["level"] == "unknown"


def test_an_empty_folder_has_no_runs(tmp_path):
    listing = RunList(tmp_path).listing()
    assert listing["runs"] == listing["remarks"] == []
    command = f"eval --policy act --episodes 30 --run-dir {tmp_path}"
    assert listing["first_command"].endswith(command)


def test_only_what_has_changed_is_read_again(make_run, tmp_path, monkeypatch):
    growing = make_run(SUCCESS, episodes=3)
    make_run(SUCCESS)
    describe = Mock(wraps=run_list.describe_in_list)
    monkeypatch.setattr(run_list, "describe_in_list", describe)
    runs = RunList(tmp_path)
    assert runs.listing() == runs.listing()
    assert describe.call_count == 2
    append(growing, FAILURE)
    assert sorted(run["n_done"] for run in runs.listing()["runs"]) == [1, 2]
    assert describe.call_count == 3
    assert describe.call_args.args[0].path == growing.path


def test_a_run_that_is_written_is_followed(make_run, tmp_path):
    run = make_run(episodes=3)
    with closing(RunList(tmp_path)) as runs:
        source = runs.open(run.path.name)
        page = source.page()
        assert page["key"] is None
        assert page["episodes"] == []
        assert (page["n_rows"], page["n_missing"]) == (0, 3)
        append(run, SUCCESS, FAILURE)
        with (run.path / ROWS_FILE).open("a") as file:
            # The next row is still being written.
            file.write('{"task": "pick_pl')
        grown = source.rows(1)
        (row,) = grown["rows"]
        assert row["key"] == "pick_place/1"
        assert (grown["n_rows"], grown["n_missing"]) == (2, 1)
        assert source.rows(2)["rows"] == []
        (listed,) = runs.listing()["runs"]
        assert listed["n_done"] == 2
        assert source.page()["run"] == run.path.name


@pytest.mark.parametrize(
    "name", ["..", "../secret", "a/../../secret", "/", "", ".", "%2e%2e/secret"]
)
def test_a_name_that_is_not_in_the_list_opens_nothing(make_run, tmp_path, name):
    folder = tmp_path / "runs"
    make_run(folder=folder)
    secret = shutil.copytree(make_run().path, tmp_path / "secret")
    (secret / REPORT_FILE).write_text("secret")
    runs = RunList(folder)
    for ask_for in (runs.open, runs.report):
        for each in (name, str(secret)):
            with pytest.raises(WhiskerError, match="expected one of those in"):
                ask_for(each)


def test_a_run_that_is_left_frees_its_environment(failed_run, tmp_path):
    for name in "ab":
        shutil.copytree(failed_run, tmp_path / name)
    with closing(RunList(tmp_path)) as runs:
        first = runs.open("a")
        assert first.scene("pick_place")["bodies"]
        assert first._env is not None
        second = runs.open("b")
        first._worker.submit(lambda: None).result()
        assert first._env is None
        assert runs.open("b") is second
        assert first.scene("pick_place")["bodies"]
    with pytest.raises(WhiskerError, match="got one that has ended"):
        first.scene("pick_place")


def test_a_search_ends_where_there_are_too_many_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("eval.run_folders.MOST_FOLDERS", 3)
    for index in range(5):
        (tmp_path / str(index)).mkdir()
    assert "Only the first 3 folders were searched" in find_run_folders(tmp_path).remarks["..."]


@pytest.fixture
def server(make_run, tmp_path):
    run = make_run(SUCCESS, episodes=2)
    (run.path / REPORT_FILE).write_text("<h1>report</h1>")
    make_run(folder=tmp_path / "group")
    with closing(RunList(tmp_path)) as runs, serving(runs) as server:
        yield server


@pytest.fixture
def listed(server):
    """Return the run without a report, which is nested, and the one with a report."""
    status, listing = ask(server, "/api/runs")
    assert status == 200
    return sorted(listing["runs"], key=lambda run: run["has_report"])


def test_the_server_is_asked_for_one_run_of_several(server, listed):
    nested, top = (run["name"] for run in listed)
    for name in (nested, top):
        status, page = ask(
            server,
            f"/api/page?run={quote(name, safe='')}",
        )
        assert status == 200
        assert page["run"] == name
    _, grown = ask(server, f"/api/rows?run={top}&after=0")
    assert grown["rows"][0]["key"] == "pick_place/0"
    for path, expected in (
        (f"rows?run={top}&after=-1", ""),
        (f"scene?run={top}&task=fly", "expected one that was run"),
        ("page?run=..%2Fx", "expected one of those in"),
        ("page", "expected one of those in"),
        ("rows?run=nothing&after=0", "expected one of those in"),
        ("events?run=nothing", "expected one of those in"),
    ):
        status, refusal = ask(server, f"/api/{path}")
        assert status == 422
        assert expected in refusal["error"]
    _, refusal = ask(
        server,
        f"/api/command?run={top}",
        "POST",
        b"{}",
    )
    assert "expected a branch under way" in refusal["error"]


def test_a_report_comes_for_the_token_and_may_not_ask_the_server(server, listed):
    without, with_report = listed
    path = f"/report?run={with_report['name']}"
    token = f"&token={server.token}"
    with answer(server, path + token) as response:
        assert response.status == 200
        assert response.read() == b"<h1>report</h1>"
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("sandbox ")
        assert "allow-same-origin" not in policy
        assert "default-src 'none'" in policy
    assert status_of(server, path) == 403
    assert status_of(server, f"{path}&token=wrong") == 403
    assert status_of(server, path + token, Host="evil.example") == 403
    for name in (without["name"], "..", f"{with_report['name']}/.."):
        with answer(server, f"/report?run={name}{token}") as response:
            assert response.status == 404
            assert b"expected" in response.read()
    assert "eval-report" in without["report_command"]


def test_a_page_that_is_still_open_at_the_end_is_told_so(make_run, tmp_path):
    names = [make_run(SUCCESS).path.name for _ in range(2)]
    with closing(RunList(tmp_path)) as runs:
        for name in names:
            runs.open(name)
    for name in names:
        source = runs.open(name)
        with pytest.raises(WhiskerError, match="expected a running server, got one that has ended"):
            source.episode("pick_place/0")
