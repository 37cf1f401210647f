"""Tests of `eval --collect-features` and `--record-observations`.

The run folder keeps more, and nothing else changes.
"""

import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cknna.bank import open_bank
from cknna.bank_description import EMBEDDING
from cknna.episode_features import episode_features_path
from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.episode_row import load_rows
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run import Run
from eval.run_description import RUN_FILE
from eval.run_folder import RunFolder
from eval.subject import name_policy
from policies.policy import make_memory
from sim.env import episode_rng
from sim.files import UNFINISHED_PREFIX
from sim.flags import make_config
from sim.goals.pick_and_place import PICK_AND_PLACE
from sim.recorded_observations import observations_path, read_run
from tests.processes import only_run
from tests.runs import assert_same_arrays
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma

COLLECT = "--collect-features --record-observations"
QUICK = "--episodes 1 --max-steps 9 --no-doctor"


def assert_same_rollouts(one, other):
    for row, other_row in zip(load_rows(one), load_rows(other), strict=True):
        assert replace(row, duration_s=other_row.duration_s) == other_row
        assert_same_arrays(
            Run.open(one).load_arrays(row),
            Run.open(other).load_arrays(row),
        )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")

    def save(policy_type):
        path = folder / policy_type
        return path if path.exists() else save_small_checkpoint(policy_type, path)

    return save


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy_type", "flags"),
    [
        ("act", ""),
        ("smolvla", "--samples 3 --intermediate-plans"),
        ("diffusion", "--samples 2"),
        ("pi0_fast", ""),
        ("tdmpc", "--samples 2 --camera-map overhead_cam=image"),
    ],
)
def test_rollouts_are_the_same_with_and_without(
    eval_succeeds, tmp_path, checkpoints, policy_type, flags
):
    checkpoint = f"--checkpoint {checkpoints(policy_type)} --trust-remote-code"
    command = f"{checkpoint} {flags} {QUICK} --quiet"
    with shrunken_paligemma():
        eval_succeeds(f"{command} --run-dir", tmp_path / "alone")
        eval_succeeds(f"{command} {COLLECT} --run-dir", tmp_path / "collected")
    alone = only_run(tmp_path / "alone")
    collected = only_run(tmp_path / "collected")
    assert_same_rollouts(alone, collected)
    for name in ("features", "features.json", "observations"):
        assert not (alone / name).exists()
    n_predictions = sum(row.n_predictions for row in load_rows(collected))
    assert open_bank(collected).n_rows == n_predictions > 1


@pytest.fixture(scope="module")
def collected(tmp_path_factory, checkpoints):
    """Yield (setup, run) of a small ACT with one user-defined hook point."""
    config = make_config(
        EvalConfig,
        checkpoint=str(checkpoints("act")),
        episodes=2,
        max_steps=10,
        collect_features=True,
        hook=("model.encoder.layers.0",),
        pool="last",
        record_observations=True,
    )
    setup = set_up(name_policy(config))
    run = RunFolder.create(
        tmp_path_factory.mktemp("run"),
        describe(config, setup),
    )
    with closing(setup.env), closing(run):
        list(evaluate(config, setup, run))
        yield setup, Run.open(run.path)


def test_rows_are_of_the_moments_of_the_predictions(collected):
    _, run = collected
    bank = open_bank(run.path)
    recorded = [run.load_arrays(row) for row in run.rows]
    assert bank.hook_points == (EMBEDDING, "model.encoder.layers.0")
    assert_array_equal(
        bank.step,
        np.concatenate([a.prediction_step for a in recorded]),
    )
    states = [a.state[a.prediction_step] for a in recorded]
    assert_array_equal(bank.state, np.concatenate(states))
    grasped = list(PICK_AND_PLACE.stages).index("grasped")
    held = [a.progress[a.prediction_step, grasped] for a in recorded]
    assert_array_equal(bank.rollout.held, np.concatenate(held), strict=True)
    assert set(bank.rollout.n_steps) == {10}
    outcomes = [str(row.outcome) for row in run.rows for _ in range(row.n_predictions)]
    assert bank.rollout.outcome.tolist() == outcomes
    assert bank.description.source == "so101/pick_place"
    assert bank.description.state_names[-1] == "gripper.pos"


def test_the_same_observations_give_the_same_features(collected):
    setup, run = collected
    bank = open_bank(run.path)
    looks = [look for look in read_run(run.path) if look.decided]
    for row, look in enumerate(looks):
        setup.env.reset(look.episode_index)
        rng = episode_rng(setup.env.spec.task, look.episode_index, 0)
        memory = make_memory(look.observation)
        chunk = setup.feature_recorder.policy.predict([memory], [rng])
        for name in bank.hook_points:
            assert_array_equal(
                chunk.features[name][0],
                bank.features(name)[row],
            )


def test_arrays_load_without_pickle_and_the_description_says_what_they_are(collected):
    setup, run = collected
    path = run.path / episode_features_path("pick_place", 0)
    with np.load(path, allow_pickle=False) as stored:
        dtypes = {name: array.dtype.name for name, array in stored.items() if array.ndim == 2}
    assert dtypes == {
        "features.embedding": "float32",
        "features.model.encoder.layers.0": "float32",
        "state": "float32",
        "progress": "bool",
    }
    described = json.loads((run.path / "features.json").read_text())
    embedding, own = described["hooks"]
    assert embedding["module_class"] == "IntermediateLayerGetter"
    assert embedding["pooling"] == "mean over space, cameras concatenated"
    assert own["pooling"] == "last over tokens"
    assert described["policy_type"] == "act"
    assert described["version"] == 1
    assert described["files_sha256"] == setup.policy.spec.files_sha256


def test_observations_are_what_the_policy_saw(collected):
    setup, run = collected
    looks = list(read_run(run.path))
    arrays = [run.load_arrays(row) for row in run.rows]
    steps = [look.step for look in looks if look.episode_index == 1]
    assert_array_equal(steps, arrays[1].prediction_step)
    for look in looks:
        setup.env.restore(arrays[look.episode_index].step_snapshot[look.step])
        again = setup.env.observe()
        assert_array_equal(again.state, look.observation.state)
        for camera, image in again.images.items():
            assert_array_equal(image, look.observation.images[camera])
        assert again.instruction == look.observation.instruction


@pytest.mark.slow
def test_a_run_is_resumed_with_the_features_that_it_has(
    eval_succeeds, refusal_of_eval, tmp_path, checkpoints
):
    hook = "--hook model.backbone.layer3 model.decoder --no-doctor --quiet"
    flags = f"--checkpoint {checkpoints('act')} --episodes 2 --max-steps 9"
    eval_succeeds(f"{flags} {COLLECT} {hook} --run-dir", tmp_path)
    run = only_run(tmp_path)
    whole = open_bank(run)
    whole_rows = whole.features("model.decoder")
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text(lines[0])
    (run / episode_features_path("pick_place", 1)).unlink()
    (run / observations_path("pick_place", 1)).unlink()
    for folder in ("features", "observations"):
        (run / folder / "pick_place" / f"{UNFINISHED_PREFIX}x.npz").write_bytes(b"half")
    said = "--hook with --resume: expected ('model.backbone.layer3', 'model.decoder')"
    assert said in refusal_of_eval("--hook model.decoder --resume", run)
    eval_succeeds(f"{hook} --resume", run)
    assert_array_equal(open_bank(run).features("model.decoder"), whole_rows)
    assert len(list(read_run(run))) == whole.n_rows
    assert not list(run.rglob(f"{UNFINISHED_PREFIX}*"))


@pytest.mark.slow
def test_what_to_do_with_features_is_said(eval_succeeds, tmp_path, checkpoints):
    flags = f"--checkpoint {checkpoints('act')} {QUICK} --collect-features"
    printed = eval_succeeds(f"{flags} --run-dir", tmp_path).stdout
    assert f"cknna score {only_run(tmp_path)}" in printed


def test_a_run_from_before_there_were_features_is_resumed_without(eval_succeeds, tmp_path):
    eval_succeeds("--policy random --episodes 1 --max-steps 3 --quiet --run-dir", tmp_path)
    run = only_run(tmp_path)
    description = json.loads((run / RUN_FILE).read_text())
    for name in ("collect_features", "record_observations"):
        del description["config"]["recording"][name]
    del description["config"]["hook"]
    (run / RUN_FILE).write_text(json.dumps(description))
    (run / "episodes.jsonl").write_text("")
    eval_succeeds("--quiet --resume", run)
    assert not (run / "features").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--policy zero --collect-features",
            "--collect-features of policy 'zero': expected a policy with a net",
        ),
        (
            "--policy scripted --record-observations",
            "--record-observations of policy 'scripted'",
        ),
        ("--checkpoint ./act --hook model", "--hook: expected --collect-features beside it"),
        (
            "--checkpoint ./act --collect-features --pool last",
            "--pool last: expected a hook point of your",
        ),
        (
            "--checkpoint ./act --collect-features --hook model.encodr",
            "Closest: model.encoder",
        ),
        (
            "--checkpoint ./act --collect-features --hook model.encoder.layers",
            "which is never called itself",
        ),
    ],
)
def test_what_cannot_be_collected_is_refused_before_anything_runs(
    refusal_of_eval, tmp_path, checkpoints, flags, said
):
    folder = checkpoints("act").parent
    assert said in refusal_of_eval(f"{flags} --run-dir", tmp_path / "runs", cwd=folder)
    assert not (tmp_path / "runs").exists()
