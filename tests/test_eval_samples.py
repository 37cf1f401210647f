"""Tests of `eval --samples` and `--intermediate-plans`.

The run records more, and nothing else changes.
"""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.drivers import play_episode
from eval.episode_row import make_row
from eval.rollout import Decision, RolloutSettings
from eval.run import Run
from eval.run_description import RUN_FILE
from eval.run_folder import RunFolder, arrays_path
from policies.baselines import BASELINES
from sim.env import episode_rng
from tests.json_files import edited_json
from tests.recordings import record_episode
from tests.runs import assert_same_arrays, describe_run

N_SAMPLES = 3
N_STEPS = 5
RECORDED_BESIDES = ("alternative_chunk", "intermediate_chunk")


@pytest.fixture(params=["random", "tdmpc", "diffusion", "smolvla"])
def stochastic(request, small_setup, blind_env):
    """Return a policy that draws, the environment for it, and its number of steps per plan."""
    if request.param == "random":
        return BASELINES["random"](blind_env), blind_env, 1
    setup = small_setup(request.param)
    return setup.policy, setup.env, setup.n_action_steps


def record(stochastic, n_samples=1):
    policy, env, n_action_steps = stochastic
    return record_episode(
        env,
        policy,
        2,
        n_action_steps,
        max_steps=N_STEPS,
        n_samples=n_samples,
    )


def test_an_episode_is_the_same_with_and_without_samples(stochastic):
    alone = record(stochastic).arrays
    sampled = record(stochastic, N_SAMPLES).arrays
    assert_same_arrays(alone, sampled, RECORDED_BESIDES)
    assert alone.alternative_chunk is None
    alternatives = sampled.alternative_chunk
    assert alternatives.dtype == np.float32
    assert alternatives.shape == (
        len(alone.chunk),
        N_SAMPLES,
        *alone.chunk.shape[1:],
    )
    assert_array_equal(alternatives[:, 0], alone.chunk)


def test_an_alternative_is_what_the_policy_plans_with_its_generator(stochastic):
    policy, env, n_action_steps = stochastic
    settings = RolloutSettings(n_action_steps, N_STEPS, N_SAMPLES)
    events = play_episode(env, policy, 2, settings)
    decisions = [event for event in events if isinstance(event, Decision)]
    assert len(decisions) > 1
    for index, decision in enumerate(decisions):
        assert decision.prediction_index == index
        for k in range(1, N_SAMPLES):
            rng = episode_rng(env.spec.task, 2, index, k)
            memory = decision.memory.copy()
            plan = policy.predict([memory], [rng])[0]
            assert_allclose(decision.alternatives[k], plan, atol=2e-3)
            assert np.abs(plan - decision.plan).max() > 0.1


def test_as_many_plans_are_computed_as_are_asked_for(stochastic, monkeypatch):
    rows = []
    policy = getattr(stochastic[0], "inner", stochastic[0])  # The adapters wrap the policy.
    predict = policy.predict

    def counting(memories, rngs):
        rows.append(len(memories))
        return predict(memories, rngs)

    monkeypatch.setattr(policy, "predict", counting)
    n_predictions = len(record(stochastic, N_SAMPLES).arrays.chunk)
    assert rows == [1, N_SAMPLES - 1] * n_predictions


@pytest.fixture
def store(tmp_path, blind_env):
    """Return a function that writes a record to a run folder, and returns the run and its row."""

    def store(record):
        with closing(RunFolder.create(tmp_path, describe_run(blind_env))) as folder:
            folder.append(record, make_row(record))
        return Run.open(folder.path), folder.rows[0]

    return store


def test_what_was_recorded_comes_back(store, blind_env):
    sampled = record_episode(blind_env, "random", n_samples=N_SAMPLES)
    intermediate = np.repeat(
        sampled.arrays.chunk[:, None],
        2,
        axis=1,
    )
    arrays = replace(sampled.arrays, intermediate_chunk=intermediate)
    run, row = store(replace(sampled, arrays=arrays))
    assert_same_arrays(run.load_arrays(row), arrays)


def test_what_was_not_recorded_is_not_in_the_file(store, blind_env):
    alone = record_episode(blind_env, "random")
    run, row = store(alone)
    assert_same_arrays(run.load_arrays(row), alone.arrays)
    with np.load(run.path / arrays_path(row)) as stored:
        assert not set(RECORDED_BESIDES) & set(stored.files)


@pytest.fixture
def run_short(eval_here, tmp_path):
    """Return a function that runs `eval` for three steps, and returns the run and its row."""

    def run(*flags):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        short = ("--episodes", 1, "--max-steps", 3, "--quiet", "--no-doctor", "--run-dir", folder)
        assert eval_here(*flags, *short).returncode == 0
        (path,) = folder.iterdir()
        run = Run.open(path)
        return run, run.rows[0]

    return run


def test_the_command_records_samples(run_short):
    sampled, row = run_short("--policy", "random", "--samples", 4)
    _, row_alone = run_short("--policy", "random")
    assert replace(row, duration_s=0.0) == replace(row_alone, duration_s=0.0)
    assert sampled.load_arrays(row).alternative_chunk.shape == (3, 4, 1, 6)


@pytest.mark.slow
def test_the_command_records_intermediate_plans(run_short, small_act_ensembling):
    run, row = run_short("--checkpoint", small_act_ensembling, "--intermediate-plans")
    arrays = run.load_arrays(row)
    assert arrays.alternative_chunk is None
    assert arrays.intermediate_chunk.shape == (3, 1, 10, 6)
    is_plan = (arrays.intermediate_chunk[:, 0] == arrays.chunk).all(axis=(1, 2))
    assert is_plan[0]
    assert not is_plan[1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--policy random --samples 0", "--samples: expected at least 1, got 0"),
        (
            "--policy zero --samples 2",
            "--samples 2 of policy 'zero': expected a policy that can plan in more",
        ),
        (
            "--checkpoint {small_act} --samples 2",
            "a single plan for what it sees. Leave --samples out.",
        ),
        (
            "--policy random --intermediate-plans",
            "--intermediate-plans of policy 'random': expected a policy that denoises",
        ),
    ],
)
def test_what_a_policy_does_not_have_is_refused_before_anything_runs(
    eval_here, small_act, tmp_path, flags, said
):
    flags = flags.format(small_act=small_act).split()
    refused = eval_here(*flags, "--run-dir", tmp_path / "runs")
    assert refused.returncode == 2
    assert said in refused.stderr
    assert not (tmp_path / "runs").exists()


def test_a_run_is_resumed_with_the_samples_that_it_has(run_short, eval_here):
    run, row = run_short("--policy", "random", "--samples", 2)
    (run.path / "episodes.jsonl").write_text("")
    refused = eval_here("--resume", run.path, "--samples", 3)
    assert refused.returncode == 2
    assert "--samples with --resume: expected 2, as the run has it, got 3" in refused.stderr
    assert eval_here("--resume", run.path, "--quiet").returncode == 0
    assert run.load_arrays(row).alternative_chunk.shape[1] == 2


def test_a_run_from_before_there_were_samples_is_resumed_without(run_short, eval_here):
    run, row = run_short("--policy", "random")
    with edited_json(run.path / RUN_FILE) as description:
        del description["config"]["recording"]["samples"]
        del description["config"]["recording"]["intermediate_plans"]
        del description["policy"]["intermediate_plans"]
    (run.path / "episodes.jsonl").write_text("")
    refused = eval_here("--resume", run.path, "--samples", 3)
    assert refused.returncode == 2
    assert "--samples with --resume: expected 1" in refused.stderr
    assert (
        eval_here(
            "--resume",
            run.path,
            "--samples",
            1,
            "--quiet",
        ).returncode
        == 0
    )
    assert run.load_arrays(row).alternative_chunk is None
