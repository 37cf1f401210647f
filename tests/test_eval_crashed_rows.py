"""Tests that crashed episodes are missing again on request, and that no other row is touched."""

import json
from contextlib import closing
from dataclasses import replace

import pytest

from eval.crashed_rows import ERRORS_FILE
from eval.episode_row import ROWS_FILE, make_row
from eval.run import Run
from eval.run_description import Decision, Resumption, save_decision, save_resumptions
from eval.run_folder import RunFolder
from sim.errors import WhiskerError
from tests.recordings import record_episode
from tests.runs import describe_run


@pytest.fixture(scope="module")
def record(blind_env):
    return record_episode(blind_env, "random")


@pytest.fixture
def run(tmp_path, blind_env, record):
    """Return the folder of a run whose episodes 0 and 2 of four have crashed."""
    description = describe_run(blind_env)
    config = replace(description.config, episodes=4)
    with closing(RunFolder.create(tmp_path, replace(description, config=config))) as run:
        for index in range(4):
            each = replace(record, episode_index=index)
            row = make_row(each)
            if index in (0, 2):
                row = replace(row, outcome="error", error="ConnectionError: nobody listens")
            run.append(each, row)
    return run.path


def read_lines(run, name=ROWS_FILE):
    return (run / name).read_bytes().splitlines(keepends=True)


def test_rows_of_crashed_episodes_are_set_aside_and_run_again(run, record):
    lines = read_lines(run)
    save_resumptions(run, [Resumption("abc", 1), Resumption("def", 3)])
    with closing(RunFolder.reopen(run, retries_errors=True)) as again:
        assert [row.episode_index for row in again.rows] == [1, 3]
        assert read_lines(run) == [lines[1], lines[3]]
        assert [index for _, index in Run.open(run).missing] == [0, 2]
        each = replace(record, episode_index=2)
        again.append(each, make_row(each))
    assert [row.episode_index for row in Run.open(run).rows] == [1, 2, 3]
    aside = [json.loads(line) for line in read_lines(run, ERRORS_FILE)]
    assert aside == [json.loads(lines[0]), json.loads(lines[2])]
    resumed = Run.open(run).description.resumed
    assert [(each.commit, each.n_rows_before) for each in resumed] == [("abc", 0), ("def", 1)]


def test_a_run_without_crashed_episodes_stays_as_it_is(run):
    RunFolder.reopen(run, retries_errors=True).close()
    files = {path: path.read_bytes() for path in run.glob("*.json*")}
    RunFolder.reopen(run, retries_errors=True).close()
    assert {path: path.read_bytes() for path in run.glob("*.json*")} == files


def test_a_run_that_another_process_writes_is_not_touched(run):
    lines = read_lines(run)
    with closing(RunFolder.reopen(run)), pytest.raises(WhiskerError, match="that writes"):
        RunFolder.reopen(run, retries_errors=True)
    assert read_lines(run) == lines
    again = RunFolder.reopen(run, retries_errors=True)
    with closing(again), pytest.raises(WhiskerError, match="that writes"):
        RunFolder.reopen(run)


def test_runs_without_episodes_to_come_are_refused(run, refusal_of_eval):
    said = refusal_of_eval("--policy zero --retry-errors")
    assert "--retry-errors: expected --resume RUN, the run whose" in said
    save_decision(run, Decision("other", 4, 0, 0, 1.0))
    said = refusal_of_eval("--retry-errors --resume", run)
    assert "got one that ended when its comparison was decided. Start a new run." in said
