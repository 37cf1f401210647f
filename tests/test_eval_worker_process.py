"""Tests of episodes that run in processes of their own, which die in the middle."""

import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest

from eval import worker_process
from eval.config import EvalConfig, ParallelConfig
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.outcome import Outcome
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder
from eval.worker import Assignment
from eval.worker_process import EpisodeProcess, prepare_workers
from sim.errors import WhiskerError
from sim.flags import make_config
from tests import random_kills
from tests.lean_plan import UNUSED_BY_ACT
from tests.processes import assert_all_end, children_of, only_run, start_eval
from tests.recordings import record_run
from tests.runs import assert_same_runs, rows_of

SHORT = {"env": "so101/pick_place", "episodes": 4, "max_steps": 30}


def with_workers(config, n):
    return replace(config, parallel=ParallelConfig(n))


@pytest.fixture(scope="module", autouse=True)
def prepared():
    """Import the libraries once for all workers of this file."""
    prepare_workers(make_config(EvalConfig, policy="act", **SHORT))


@pytest.fixture
def make_worker(tmp_path):
    """Return a function that starts a worker, and close it at the end."""
    workers = []

    def make(**flags):
        config = make_config(EvalConfig, **SHORT | flags)
        worker = EpisodeProcess(Assignment(config, {"pick_place": "so101/pick_place"}, tmp_path))
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        worker.close()


def test_workers_are_forked_from_a_process_that_has_imported_no_more_than_the_command(monkeypatch):
    modules = []
    monkeypatch.setattr(worker_process, "prepare_processes", modules.extend)
    prepare_workers(make_config(EvalConfig, policy="act", **SHORT))
    loading = "policies.lerobot_loading"
    code = (
        f"import sys, {', '.join(modules)}\n"
        f"print([name for name in {(loading, *UNUSED_BY_ACT)} if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == f"['{loading}']\n"


def test_two_workers_give_the_rows_and_arrays_of_one(small_act, tmp_path):
    config = make_config(EvalConfig, checkpoint=str(small_act), **SHORT)
    one = record_run(with_workers(config, 1), tmp_path / "one")
    two = record_run(with_workers(config, 2), tmp_path / "two")
    assert len(one.rows) == 4
    assert_same_runs(two, one)


@pytest.mark.slow
def test_features_and_observations_come_from_workers_too(small_act, tmp_path):
    config = make_config(
        EvalConfig,
        checkpoint=str(small_act),
        collect_features=True,
        record_observations=True,
        **SHORT,
    )
    one = record_run(with_workers(config, 1), tmp_path / "one").path
    two = record_run(with_workers(config, 2), tmp_path / "two").path
    files = [file.relative_to(one) for file in one.rglob("*.npz")]
    assert {file.parts[0] for file in files} == {"episodes", "features", "observations"}
    for file in files:
        if file.parts[0] != "episodes":  # these have the time that the policy took
            assert (one / file).read_bytes() == (two / file).read_bytes()
    assert (one / "features.json").read_text() == (two / "features.json").read_text()


def test_a_run_is_resumed_with_another_number_of_workers(eval_here, eval_succeeds, tmp_path):
    command = "--policy scripted --quiet --max-steps 40"
    flags = {"policy": "scripted", "env": "so101/pick_place", "episodes": 5, "max_steps": 40}
    eval_here(f"{command} --episodes 5 --workers 1 --run-dir", tmp_path / "whole")
    config = with_workers(make_config(EvalConfig, **flags), 2)
    setup = set_up(config)
    run = RunFolder.create(tmp_path / "cut", describe(config, setup))
    with closing(setup.env), closing(run), closing(evaluate(config, setup, run)) as rows:
        next(rows)
    assert 1 <= len(rows_of(run.path)) < 5
    eval_succeeds("--quiet --workers 3 --resume", run.path)
    assert rows_of(run.path) == rows_of(only_run(tmp_path / "whole"))


def run_own_policy(run_dir, *flags):
    """Run `eval` with a policy of one's own, which needs other libraries than these workers'."""
    command = [sys.executable, "-m", "eval", "--max-steps", "30", "--workers", "2", *flags]
    done = subprocess.run([*command, "--run-dir", run_dir], capture_output=True)
    assert done.returncode in (0, 3), done.stderr  # 3: there are error rows
    return Run.open(only_run(run_dir))


@pytest.mark.parametrize(
    "signal_number",
    [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.slow)],
)
def test_an_episode_whose_worker_dies_is_run_again_with_the_same_result(tmp_path, signal_number):
    mark = tmp_path / str(int(signal_number))
    policy = ("--policy", "tests.deadly_policy:make_deadly_once", "--checkpoint", mark)
    deadly = run_own_policy(tmp_path / "deadly", *policy, "--episodes", "2")
    assert mark.exists()
    # Nothing dies any more.
    peaceful = run_own_policy(tmp_path / "peaceful", *policy, "--episodes", "2")
    assert [row.n_steps for row in deadly.rows] == [30, 30]
    assert_same_runs(deadly, peaceful)


def test_an_episode_that_kills_every_worker_is_an_error_and_the_others_go_on(tmp_path):
    policy = ("--policy", "tests.deadly_policy:make_deadly")
    run = run_own_policy(tmp_path, *policy, "--episodes", "3")
    assert sorted(row.episode_index for row in run.rows) == [0, 1, 2]
    for row in run.rows:
        assert row.outcome == Outcome.ERROR
        assert row.error.startswith("WorkerError: the worker died 2 times: signal SIGKILL")


def test_a_worker_says_why_it_cannot_begin(make_worker):
    worker = make_worker(policy="scripted", max_steps=0)
    with pytest.raises(WhiskerError, match="--max-steps: expected at least 1, got 0"):
        worker.run("pick_place", 0)


@pytest.mark.parametrize("n_workers", ["0", "-1"])
def test_fewer_workers_than_one_are_refused(refusal_of_eval, n_workers):
    said = refusal_of_eval(f"--policy scripted --workers={n_workers}")
    assert f"--workers: expected at least 1, got {n_workers}" in said


def test_more_workers_than_memory_holds_are_refused(refusal_of_eval, tmp_path):
    said = refusal_of_eval(
        "--policy scripted --episodes 100000 --workers 100000 --run-dir", tmp_path
    )
    assert "--workers 100000 in 'so101/pick_place': expected memory for each" in said
    assert "There is room for --workers " in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("signal_number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_nothing_is_left_running_when_the_command_ends(tmp_path, signal_number, code):
    flags = "--policy scripted --episodes 400 --workers 2"
    process = start_eval(tmp_path, *flags.split())
    # Two workers, and the process that they are forked from.
    assert len(children_of(process.pid)) >= 3
    assert_all_end(process, signal_number, code)


@pytest.mark.slow
def test_random_kills_change_no_row(capfd):
    random_kills.main(random_kills.Config(kills=4, episodes=12, seed=3, longest_s=8.0))
    assert "same rows and arrays as in peace" in capfd.readouterr().out
