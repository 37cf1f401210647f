"""Tests of runs whose episodes share one policy."""

import os
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eval.config import EvalConfig, ParallelConfig
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run_folder import RunFolder
from eval.shared_policy_runner import make_sharing_runners
from eval.worker_count import count_workers
from policies.lerobot_policy import LerobotPolicy
from sim.flags import make_config, replace_flags
from tests.processes import assert_all_end, children_of, only_run, start_eval, wait_for
from tests.recordings import record_run
from tests.runs import assert_same_arrays, assert_same_runs, rows_of


@pytest.fixture(scope="module")
def config(small_smolvla):
    """Return the config of a short run in batches, which records all that a policy gives."""
    return make_config(
        EvalConfig,
        checkpoint=str(small_smolvla),
        env="so101/pick_place",
        episodes=5,
        max_steps=10,
        batch=3,
        samples=2,
        intermediate_plans=True,
        collect_features=True,
    )


def with_workers(config, n):
    return replace(config, parallel=ParallelConfig(n))


@pytest.fixture(scope="module")
def batched_run(config, tmp_path_factory):
    return record_run(with_workers(config, 4), tmp_path_factory.mktemp("runs"))


def assert_same_features(run, expected):
    files = [file.relative_to(expected.path) for file in expected.path.glob("features/*/*.npz")]
    assert len(files) == 5
    for file in files:
        assert (run.path / file).read_bytes() == (expected.path / file).read_bytes()


def test_one_environment_gives_the_rows_and_features_of_four(config, batched_run, tmp_path):
    alone = record_run(with_workers(config, 1), tmp_path)
    assert len(alone.rows) == 5
    assert not any(row.error for row in alone.rows)
    assert_same_runs(alone, batched_run)
    assert_same_features(alone, batched_run)
    arrays = alone.load_arrays(alone.rows[0])
    assert arrays.alternative_chunk.shape[1] == 2


@pytest.mark.slow
def test_a_resumed_run_has_the_same_rows(config, batched_run, eval_succeeds, tmp_path):
    setup = set_up(with_workers(config, 2))
    run = RunFolder.create(tmp_path, describe(config, setup))
    with closing(setup.env), closing(run), closing(evaluate(config, setup, run)) as rows:
        next(rows)
    assert 1 <= len(rows_of(run.path)) < 5
    eval_succeeds("--quiet --workers 3 --resume", run.path)
    assert rows_of(run.path) == rows_of(batched_run.path)


def test_rows_of_another_batch_are_not_mixed(batched_run, refusal_of_eval):
    said = refusal_of_eval("--quiet --batch 2 --resume", batched_run.path)
    assert "--batch with --resume: expected 3, as the run has it, got 2" in said
    assert batched_run.description.config.batch == 3


@pytest.fixture
def small_gpu(monkeypatch):
    """Let a forward pass of more than two rows run out of a GPU's memory, as torch says it."""
    predict = LerobotPolicy.predict

    def predict_two(policy, memories, rngs):
        if len(memories) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return predict(policy, memories, rngs)

    monkeypatch.setattr(LerobotPolicy, "predict", predict_two)


@pytest.mark.slow
@pytest.mark.usefixtures("small_gpu")
def test_a_batch_that_does_not_fit_the_gpu_is_refused(
    small_act, refusal_of_eval, eval_succeeds, monkeypatch, tmp_path
):
    """Half of it runs, and so does the whole once the GPU has memory again."""
    command = f"--checkpoint {small_act} --env so101/pick_place --episodes 4 --max-steps 10 --quiet"
    said = refusal_of_eval(f"{command} --batch 4 --run-dir", tmp_path / "4")
    assert said.splitlines()[-1] == (
        "eval: --batch 4: expected a forward pass for which the GPU has memory, got one that ran "
        "out of it. Free memory of the GPU and --resume this run, or begin a new run with "
        "--batch 2: rows of another batch are not mixed."
    )
    refused = only_run(tmp_path / "4")
    assert rows_of(refused) == []
    eval_succeeds(f"{command} --batch 2 --run-dir", tmp_path / "2")
    assert len(rows_of(only_run(tmp_path / "2"))) == 4
    assert "--batch with --resume: expected 4" in refusal_of_eval("--batch 2 --resume", refused)
    monkeypatch.undo()
    eval_succeeds("--quiet --resume", refused)
    assert len(rows_of(refused)) == 4


def test_a_cluster_makes_no_batches(small_act, refusal_of_eval):
    said = refusal_of_eval(f"--checkpoint {small_act} --batch 2 --ray local")
    assert "--batch 2 with --ray: expected one of the two, got both" in said


def test_an_environment_whose_process_is_killed_changes_no_episode(config, tmp_path):
    before = set(children_of(os.getpid()))
    setup = set_up(config)
    with closing(setup.env):
        first, second = make_sharing_runners(config, setup, tmp_path, 2)
        with closing(first), closing(second):
            first.run("pick_place", 0)
            (env_pid,) = set(children_of(os.getpid())) - before
            os.kill(env_pid, signal.SIGKILL)
            killed = first.run("pick_place", 1)
            unharmed = second.run("pick_place", 1)
    assert not Path(f"/proc/{env_pid}").exists()
    assert not killed.row.error
    assert replace(killed.row, duration_s=0.0) == replace(unharmed.row, duration_s=0.0)
    assert_same_arrays(killed.record.arrays, unharmed.record.arrays)


def test_a_closed_runner_runs_nothing_and_leaves_no_process(config, tmp_path):
    setup = set_up(config)
    with closing(setup.env):
        before = children_of(os.getpid())
        (runner,) = make_sharing_runners(config, setup, tmp_path, 1)
        runner.run("pick_place", 0)
        assert len(children_of(os.getpid())) > len(before)
        runner.close()
        runner.close()
        wait_for(lambda: children_of(os.getpid()) == before)
        with pytest.raises(RuntimeError, match="the policy is closed"):
            runner.run("pick_place", 1)
        assert children_of(os.getpid()) == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--policy act --batch 0", "--batch: expected at least 1, got 0"),
        (
            "--policy scripted --batch 2",
            "--batch 2 of policy 'scripted': expected a policy that plans for several episodes",
        ),
        ("--policy tdmpc --batch 2", "got one that plans for one episode at a time"),
        ("--policy groot --batch 2", "got one that pads each instruction to the longest"),
        (
            "--policy tests.deadly_policy:make_deadly --batch 2",
            "got one that is not of lerobot. Leave --batch out.",
        ),
    ],
)
def test_what_cannot_be_batched_is_refused(refusal_of_eval, flags, said):
    assert said in refusal_of_eval(flags)


@pytest.mark.parametrize(
    ("n_rows", "n_cores", "n_episodes", "expected"),
    [(4, 2, 100, 4), (4, 6, 100, 6), (4, 64, 100, 8), (4, 64, 3, 3), (1, 64, 12, 3)],
)
def test_auto_keeps_batches_full(config, monkeypatch, n_rows, n_cores, n_episodes, expected):
    monkeypatch.setattr("eval.worker_count.count_cores", lambda: n_cores)
    monkeypatch.setattr("eval.worker_count.compute_available_gb", lambda: None)
    setup = set_up(replace_flags(config, collect_features=False))
    setup.env.close()
    asked = replace_flags(config, batch=n_rows)
    assert count_workers(asked, setup, n_episodes) == expected


@pytest.mark.slow
def test_nothing_is_left_running_after_ctrl_c(tmp_path):
    flags = "--policy act --episodes 400 --batch 2 --workers 3"
    process = start_eval(tmp_path, *flags.split())
    assert len(children_of(process.pid)) == 3
    assert_all_end(process, signal.SIGINT, 130)
