"""Tests of the list of runs and of opening a run in it.

They cover complete, unfinished, torn and foreign folders.
"""

import json
import math
import shutil
import threading
from contextlib import closing
from dataclasses import replace

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
from tests.test_viz_server import answer, ask
from viz import run_list
from viz.report.cli import REPORT_FILE
from viz.run_list import RunList
from viz.server import ViewerServer

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
    opened = []

    def make(*outcomes, episodes, folder=tmp_path, policy="random", **parts):
        config = make_config(
            EvalConfig,
            policy=policy,
            env="so101/pick_place",
            episodes=episodes,
        )
        run = RunFolder.create(
            folder,
            describe_run(blind_env, policy, config=config, **parts),
        )
        opened.append(run)
        append(run, *outcomes)
        return run

    yield make
    for run in opened:
        run.close()


def remarks_of(folder):
    return {each["name"]: each["remark"] for each in RunList(folder).listing()["remarks"]}


def test_a_run_is_told_in_numbers(make_run, tmp_path):
    make_run(SUCCESS, FAILURE, SUCCESS, ERROR, SUCCESS, episodes=5)
    (run,) = RunList(tmp_path).listing()["runs"]
    assert (run["policy"], run["env"], run["n_done"], run["n_asked"]) == (
        "random",
        "so101/pick_place",
        5,
        5,
    )
    assert run["outcomes"] == {
        "success": 3,
        "never_picked_up": 1,
        "error": 1,
    }
    assert (run["n_success"], run["n_judged"], run["success_rate"]) == (3, 4, 0.75)
    # The bounds of Wilson's interval solve its equation: the rate lies 1.96 standard errors from
    # what was seen.
    z = 1.959963984540054
    for bound in run["success_interval"]:
        assert abs(bound - 0.75) == pytest.approx(z * math.sqrt(bound * (1 - bound) / 4))
    assert not run["has_report"]


def test_a_run_without_an_end_has_no_rate(make_run, tmp_path):
    make_run(ERROR, episodes=3)
    (run,) = RunList(tmp_path).listing()["runs"]
    assert run["success_rate"] is None and run["success_interval"] is None and run["n_done"] == 1


def test_the_newest_run_comes_first_and_nested_ones_have_their_path_for_a_name(make_run, tmp_path):
    old = make_run(episodes=1, folder=tmp_path / "ablation" / "lr")
    description = json.loads((old.path / RUN_FILE).read_text())
    (old.path / RUN_FILE).write_text(
        json.dumps({**description, "started_utc": "2020-01-01T00:00:00+00:00"})
    )
    new = make_run(episodes=1)
    # This folder is too deep.
    make_run(
        episodes=1,
        folder=tmp_path.joinpath("a", *"b" * (MOST_LEVELS - 1)),
    )
    names = [run["name"] for run in RunList(tmp_path).listing()["runs"]]
    assert names == [new.path.name, f"ablation/lr/{old.path.name}"]
    assert remarks_of(tmp_path) == {"a": "This folder is no run: it has no run.json."}


def test_torn_and_foreign_folders_are_said_and_the_list_goes_on(make_run, tmp_path):
    good = make_run(SUCCESS, episodes=1)
    folders = {}
    for name, file, content in (
        ("torn", RUN_FILE, '{"version": 1, "config": {'),
        ("newer", RUN_FILE, '{"version": 99}'),
        ("list", RUN_FILE, "[1]"),
        ("lost", ROWS_FILE, ""),
        ("rows", ROWS_FILE, "no row\n"),
        ("photos", "a.jpg", ""),
    ):
        folders[name] = (
            shutil.copytree(good.path, tmp_path / name) if name == "rows" else tmp_path / name
        )
        folders[name].mkdir(exist_ok=True)
        (folders[name] / file).write_text(content)
    (tmp_path / "notes.txt").touch()
    for hidden in (".unfinished-x", ".git"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / RUN_FILE).write_text("{}")
    assert [run["name"] for run in RunList(tmp_path).listing()["runs"]] == [good.path.name]
    remarks = remarks_of(tmp_path)
    assert set(remarks) == set(folders)
    assert "expected JSON" in remarks["torn"] and "expected version 1, got 99" in remarks["newer"]
    assert (
        "a version" in remarks["list"]
        and "expected a run folder with a run.json" in remarks["lost"]
    )
    assert (
        "line 1: expected a row of JSON" in remarks["rows"]
        and "no run: it has no run.json" in remarks["photos"]
    )


def test_old_rules_and_findings_are_told(make_run, tmp_path, blind_env):
    findings = (
        Finding("gripper", Level.WARNING, "it never closes"),
        Finding("cameras", Level.ERROR, "exchanged"),
    )
    of_old_rules = replace(describe_run(blind_env).resolved, outcome_rules=1)
    make_run(
        episodes=1,
        policy="zero",
        doctor=findings,
        resolved=of_old_rules,
    )
    make_run(episodes=1, policy="random", doctor=())
    make_run(episodes=1, policy="scripted")
    runs = {run["policy"]: run for run in RunList(tmp_path).listing()["runs"]}
    doctor = runs["zero"]["doctor"]
    assert (doctor["level"], doctor["n_errors"], doctor["n_warnings"]) == ("error", 1, 1)
    assert doctor["findings"][0] == "warning: gripper: it never closes."
    assert "outcomes by rules 1" in runs["zero"]["old_rules"]
    assert [runs[name]["doctor"]["level"] for name in ("random", "scripted")] == ["fine", "unknown"]


def test_an_empty_folder_has_no_runs(tmp_path):
    listing = RunList(tmp_path).listing()
    assert listing["runs"] == listing["remarks"] == []
    assert listing["first_command"].endswith(
        f"eval --policy act --episodes 30 --run-dir {tmp_path}"
    )


def test_only_what_has_changed_is_read_again(make_run, tmp_path, monkeypatch):
    growing = make_run(SUCCESS, episodes=3)
    _ = make_run(SUCCESS, episodes=1)
    read = []
    describe = run_list.describe_in_list
    monkeypatch.setattr(
        run_list, "describe_in_list", lambda run: read.append(run.path) or describe(run)
    )
    runs = RunList(tmp_path)
    assert runs.listing() == runs.listing() and len(read) == 2
    append(growing, FAILURE)
    assert {run["name"]: run["n_done"] for run in runs.listing()["runs"]}[growing.path.name] == 2
    assert read[2:] == [growing.path]


def test_a_run_that_is_written_is_followed(make_run, tmp_path):
    run = make_run(episodes=3)
    with closing(RunList(tmp_path)) as runs:
        source = runs.open(run.path.name)
        page = source.page()
        assert (
            page["key"] is None
            and page["episodes"] == []
            and (page["n_rows"], page["n_missing"]) == (0, 3)
        )
        append(run, SUCCESS, FAILURE)
        with (run.path / ROWS_FILE).open("a") as file:
            # The next row is still being written.
            file.write('{"task": "pick_pl')
        grown = source.rows(1)
        assert [row["key"] for row in grown["rows"]] == ["pick_place/1"]
        assert (grown["n_rows"], grown["n_missing"]) == (2, 1) and source.rows(2)["rows"] == []
        assert runs.listing()["runs"][0]["n_done"] == 2
        assert source.page()["run"] == run.path.name


@pytest.mark.parametrize(
    "name", ["..", "../secret", "a/../../secret", "/", "", ".", "%2e%2e/secret"]
)
def test_a_name_that_is_not_in_the_list_opens_nothing(make_run, tmp_path, name):
    folder = tmp_path / "runs"
    make_run(episodes=1, folder=folder)
    secret = shutil.copytree(make_run(episodes=1).path, tmp_path / "secret")
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
        assert first.scene("pick_place")["bodies"] and first._env is not None
        second = runs.open("b")
        first._worker.submit(lambda: None).result()
        assert first._env is None and runs.open("b") is second
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
    make_run(episodes=1, folder=tmp_path / "group")
    with closing(RunList(tmp_path)) as runs, closing(ViewerServer(runs, "<p>page</p>")) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_server_is_asked_for_one_run_of_several(server):
    status, listing = ask(server, "/api/runs")
    names = [run["name"] for run in listing["runs"]]
    assert status == 200 and len(names) == 2
    for name in names:
        status, page = ask(
            server,
            f"/api/page?run={name.replace('/', '%2F')}",
        )
        assert status == 200 and page["run"] == name
    top = next(name for name in names if "/" not in name)
    assert ask(server, f"/api/rows?run={top}&after=0")[1]["rows"][0]["key"] == "pick_place/0"
    assert (
        ask(
            server,
            f"/api/rows?run={top}&after=-1",
        )[0]
        == 422
    )
    assert (
        "expected one that was run"
        in ask(
            server,
            f"/api/scene?run={top}&task=fly",
        )[1]["error"]
    )
    for path in ("page?run=..%2Fx", "page", "rows?run=nothing&after=0", "events?run=nothing"):
        status, refusal = ask(server, f"/api/{path}")
        assert status == 422 and "expected one of those in" in refusal["error"]
    refusal = ask(
        server,
        f"/api/command?run={top}",
        method="POST",
        body=b"{}",
    )[1]
    assert "expected a branch under way" in refusal["error"]


def test_a_report_comes_for_the_token_and_may_not_ask_the_server(server):
    runs = ask(server, "/api/runs")[1]["runs"]
    without, with_report = sorted(runs, key=lambda run: run["has_report"])
    path = f"/report?run={with_report['name']}"
    with answer(server, f"{path}&token={server.token}") as response:
        assert response.status == 200 and response.read() == b"<h1>report</h1>"
        policy = response.headers["Content-Security-Policy"]
        assert (
            policy.startswith("sandbox ")
            and "allow-same-origin" not in policy
            and "default-src 'none'" in policy
        )
    for query in ("", "&token=wrong"):
        with answer(server, path + query) as response:
            assert response.status == 403
    with answer(server, f"{path}&token={server.token}", Host="evil.example") as response:
        assert response.status == 403
    for name in (without["name"], "..", f"{with_report['name']}/.."):
        with answer(
            server,
            f"/report?run={name}&token={server.token}",
        ) as response:
            assert response.status == 404 and b"expected" in response.read()
    assert "eval-report" in without["report_command"]
