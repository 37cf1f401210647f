"""Tests of `eval --samples` and `--intermediate-plans`.

The run records more, and nothing else changes.
"""

import json
from contextlib import closing
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from eval.cli import main
from eval.config import EvalConfig
from eval.drivers import play_episode, run_episode
from eval.episode_row import load_rows, make_row
from eval.evaluation import set_up
from eval.recorder import EpisodeRecorder
from eval.rollout import Decision, RolloutSettings
from eval.run import Run
from eval.run_description import RUN_FILE
from eval.run_folder import RunFolder, arrays_path
from eval.subject import name_policy
from sim.env import episode_rng
from sim.flags import make_config
from tests.runs import assert_same_arrays, describe_run
from tests.small_checkpoints import save_small_checkpoint

N_SAMPLES = 3
N_STEPS = 9
RECORDED_BESIDES = ("alternative_chunk", "intermediate_chunk")


@pytest.fixture(scope="module")
def setups(tmp_path_factory):
    """Yield a function that returns the setup of a policy type, or of the random policy.

    The setup is made on first use.
    """
    folder = tmp_path_factory.mktemp("samples")
    made = []

    @cache
    def make(policy_type):
        config = make_config(EvalConfig, policy="random")
        if policy_type != "random":
            checkpoint = str(save_small_checkpoint(policy_type, folder / policy_type))
            camera_map = "overhead_cam=image" if policy_type == "tdmpc" else None
            config = make_config(EvalConfig, checkpoint=checkpoint, camera_map=camera_map)
        made.append(set_up(name_policy(config)))
        return made[-1]

    yield make
    for setup in made:
        setup.env.close()


def record(setup, n_samples=1):
    return run_episode(
        setup.env,
        setup.policy,
        2,
        EpisodeRecorder(),
        RolloutSettings(setup.n_action_steps, N_STEPS, n_samples=n_samples),
    )


each_stochastic = pytest.mark.parametrize(
    "policy_type", ["random", "tdmpc", "diffusion", "smolvla"]
)


@each_stochastic
def test_an_episode_is_the_same_with_and_without_samples(policy_type, setups):
    alone = record(setups(policy_type)).arrays
    sampled = record(setups(policy_type), N_SAMPLES).arrays
    assert_same_arrays(alone, sampled, RECORDED_BESIDES)
    assert alone.alternative_chunk is None and sampled.alternative_chunk.dtype == np.float32
    assert sampled.alternative_chunk.shape == (len(alone.chunk), N_SAMPLES, *alone.chunk.shape[1:])
    np.testing.assert_array_equal(
        sampled.alternative_chunk[:, 0],
        alone.chunk,
    )


@each_stochastic
def test_an_alternative_is_what_the_policy_plans_with_its_generator(policy_type, setups):
    setup = setups(policy_type)
    events = play_episode(
        setup.env, setup.policy, 2, RolloutSettings(setup.n_action_steps, N_STEPS, N_SAMPLES)
    )
    decisions = [event for event in events if isinstance(event, Decision)]
    assert [decision.prediction_index for decision in decisions] == list(
        range(len(decisions))
    ) and len(decisions) > 1
    for decision in decisions:
        for k in range(1, N_SAMPLES):
            rng = episode_rng(
                setup.env.spec.task,
                2,
                decision.prediction_index,
                k,
            )
            plan = setup.policy.predict([decision.memory.copy()], [rng])[0]
            np.testing.assert_allclose(decision.alternatives[k], plan, atol=2e-3)
            assert np.abs(plan - decision.plan).max() > 0.1


@each_stochastic
def test_as_many_plans_are_computed_as_are_asked_for(policy_type, setups, monkeypatch):
    setup = setups(policy_type)
    rows = []
    policy = getattr(setup.policy, "inner", setup.policy)  # The adapters wrap the policy.
    predict = policy.predict

    def counting(memories, rngs):
        rows.append(len(memories))
        return predict(memories, rngs)

    monkeypatch.setattr(policy, "predict", counting)
    n_predictions = len(record(setup, N_SAMPLES).arrays.chunk)
    assert rows == [1, N_SAMPLES - 1] * n_predictions


def test_what_was_recorded_comes_back_and_what_was_not_is_none(setups, tmp_path):
    run = RunFolder.create(
        tmp_path,
        describe_run(setups("random").env),
    )
    with closing(run):
        for index, n_samples in enumerate((1, N_SAMPLES)):
            each = replace(
                record(setups("random"), n_samples),
                episode_index=index,
            )
            intermediate_plans = np.repeat(each.arrays.chunk[:, None], 2, axis=1) if index else None
            each = replace(
                each,
                arrays=replace(each.arrays, intermediate_chunk=intermediate_plans),
            )
            run.append(each, make_row(each))
            assert_same_arrays(
                Run.open(run.path).load_arrays(run.rows[-1]),
                each.arrays,
            )
    with np.load(run.path / arrays_path(run.rows[0])) as stored:
        assert not set(RECORDED_BESIDES) & set(stored.files)


def evaluate(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["eval", *map(str, arguments)])
    return main()


SHORT = ("--episodes", 1, "--max-steps", 3, "--quiet")


def test_the_command_records_them(monkeypatch, tmp_path, small_act_ensembling):
    asked = ("--policy", "random", "--samples", 4, *SHORT)
    assert evaluate(monkeypatch, *asked, "--run-dir", tmp_path / "samples") == 0
    assert (
        evaluate(
            monkeypatch,
            *asked[:2],
            *SHORT,
            "--run-dir",
            tmp_path / "alone",
        )
        == 0
    )
    (run,), (alone,) = (tmp_path / "samples").iterdir(), (tmp_path / "alone").iterdir()
    (row,), (row_alone,) = load_rows(run), load_rows(alone)
    assert replace(row, duration_s=0.0) == replace(row_alone, duration_s=0.0)
    assert Run.open(run).load_arrays(row).alternative_chunk.shape == (3, 4, 1, 6)

    intermediate_plans = (
        "--checkpoint",
        small_act_ensembling,
        "--intermediate-plans",
        "--no-doctor",
        "--run-dir",
        tmp_path / "intermediate_plans",
    )
    assert evaluate(monkeypatch, *intermediate_plans, *SHORT) == 0
    (run,) = (tmp_path / "intermediate_plans").iterdir()
    arrays = Run.open(run).load_arrays(*load_rows(run))
    assert arrays.intermediate_chunk.shape == (3, 1, 10, 6) and arrays.alternative_chunk is None
    np.testing.assert_array_equal(
        arrays.intermediate_chunk[0, 0],
        arrays.chunk[0],
    )
    assert not np.array_equal(
        arrays.intermediate_chunk[1, 0],
        arrays.chunk[1],
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--policy", "random", "--samples", 0], "--samples: expected at least 1, got 0"),
        (
            ["--policy", "zero", "--samples", 2],
            "--samples 2 of policy 'zero': expected a policy that can plan in more",
        ),
        (
            ["--policy", "act", "--samples", 2],
            "a single plan for what it sees. Leave --samples out.",
        ),
        (
            ["--policy", "random", "--intermediate-plans"],
            "--intermediate-plans of policy 'random': expected a policy that denoises",
        ),
    ],
)
def test_what_a_policy_does_not_have_is_refused_before_anything_runs(
    monkeypatch, capsys, tmp_path, flags, said
):
    if "act" in flags:
        flags = [*flags, "--checkpoint", save_small_checkpoint("act", tmp_path / "act")]
    assert evaluate(monkeypatch, *flags, "--run-dir", tmp_path / "runs") == 2
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_run_is_resumed_with_the_samples_that_it_has(monkeypatch, capsys, tmp_path):
    asked = ("--policy", "random", "--samples", 2, "--run-dir", tmp_path, *SHORT)
    assert evaluate(monkeypatch, *asked) == 0
    (run,) = tmp_path.iterdir()
    (run / "episodes.jsonl").write_text("")
    assert evaluate(monkeypatch, "--resume", run, "--samples", 3) == 2
    assert (
        "--samples with --resume: expected 2, as the run has it, got 3" in capsys.readouterr().err
    )
    assert evaluate(monkeypatch, "--resume", run, "--quiet") == 0
    assert Run.open(run).load_arrays(*load_rows(run)).alternative_chunk.shape[1] == 2


def test_a_run_from_before_there_were_samples_is_resumed_without(monkeypatch, capsys, tmp_path):
    assert (
        evaluate(
            monkeypatch,
            "--policy",
            "random",
            "--run-dir",
            tmp_path,
            *SHORT,
        )
        == 0
    )
    (run,) = tmp_path.iterdir()
    description = json.loads((run / RUN_FILE).read_text())
    del (
        description["config"]["recording"]["samples"],
        description["config"]["recording"]["intermediate_plans"],
        description["policy"]["intermediate_plans"],
    )
    (run / RUN_FILE).write_text(json.dumps(description))
    (run / "episodes.jsonl").write_text("")
    assert evaluate(monkeypatch, "--resume", run, "--samples", 3) == 2
    assert "--samples with --resume: expected 1" in capsys.readouterr().err
    assert (
        evaluate(
            monkeypatch,
            "--resume",
            run,
            "--samples",
            1,
            "--quiet",
        )
        == 0
    )
    assert Run.open(run).load_arrays(*load_rows(run)).alternative_chunk is None
