"""Tests of `eval --collect-features` and `--record-observations`.

The run folder keeps more, and nothing else changes.
"""

import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from cknna.bank import open_bank
from cknna.bank_description import EMBEDDING
from cknna.episode_features import episode_features_path
from eval.cli import main
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
from tests.runs import assert_same_arrays
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma

COLLECT = ("--collect-features", "--record-observations")


def run_eval(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["eval", *map(str, arguments)])
    return main()


def only_run(run_dir):
    (run,) = run_dir.iterdir()
    return run


def rows_without_time(run):
    return [replace(row, duration_s=0.0) for row in load_rows(run)]


def assert_same_rollouts(one, other):
    assert rows_without_time(one) == rows_without_time(other)
    for row in load_rows(one):
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


CAMERA_MAP = {"tdmpc": ("--camera-map", "overhead_cam=image")}
RECORDING_MORE = {
    "smolvla": ("--samples", 3, "--intermediate-plans"),
    "diffusion": ("--samples", 2),
    "tdmpc": ("--samples", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy_type",
    ["act", "smolvla", "diffusion", "pi0_fast", "tdmpc"],
)
def test_rollouts_are_the_same_with_and_without(monkeypatch, tmp_path, checkpoints, policy_type):
    asked = (
        "--checkpoint",
        checkpoints(policy_type),
        "--episodes",
        1,
        "--max-steps",
        9,
        "--no-doctor",
        "--quiet",
    )
    asked += (
        *CAMERA_MAP.get(policy_type, ()),
        *RECORDING_MORE.get(policy_type, ()),
        "--trust-remote-code",
    )
    with shrunken_paligemma():
        assert run_eval(monkeypatch, *asked, "--run-dir", tmp_path / "alone") == 0
        assert (
            run_eval(
                monkeypatch,
                *asked,
                *COLLECT,
                "--run-dir",
                tmp_path / "collected",
            )
            == 0
        )
    alone = only_run(tmp_path / "alone")
    collected = only_run(tmp_path / "collected")
    assert_same_rollouts(alone, collected)
    assert not any(
        (alone / name).exists() for name in ("features", "features.json", "observations")
    )
    bank = open_bank(collected)
    assert bank.n_rows == sum(row.n_predictions for row in load_rows(collected)) > 1


@pytest.fixture(scope="module")
def collected(tmp_path_factory, checkpoints):
    """Yield (setup, run folder) of a small ACT with one user-defined hook point."""
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
    run = RunFolder.create(tmp_path_factory.mktemp("run"), describe(config, setup))
    with closing(setup.env), closing(run):
        list(evaluate(config, setup, run))
        yield setup, run.path


def test_rows_are_of_the_moments_of_the_predictions(collected):
    setup, run = collected
    bank = open_bank(run)
    rows = load_rows(run)
    recorded = [Run.open(run).load_arrays(row) for row in rows]
    assert bank.hook_points == (EMBEDDING, "model.encoder.layers.0")
    np.testing.assert_array_equal(
        bank.step,
        np.concatenate([a.prediction_step for a in recorded]),
    )
    np.testing.assert_array_equal(
        bank.state, np.concatenate([a.state[a.prediction_step] for a in recorded])
    )
    grasped = list(PICK_AND_PLACE.stages).index("grasped")
    held = np.concatenate([a.progress[a.prediction_step, grasped] for a in recorded])
    np.testing.assert_array_equal(bank.rollout.held, held)
    assert bank.rollout.held.shape == bank.step.shape and set(bank.rollout.n_steps) == {10}
    assert bank.rollout.outcome.tolist() == [
        str(row.outcome) for row in rows for _ in range(row.n_predictions)
    ]
    assert (
        bank.description.source == "so101/pick_place"
        and bank.description.state_names[-1] == "gripper.pos"
    )
    # Plan once more from the recorded observations.
    looks = [look for look in read_run(run) if look.decided]
    for row, look in enumerate(looks):
        setup.env.reset(look.episode_index)
        rng = episode_rng(setup.env.spec.task, look.episode_index, 0)
        chunk = setup.feature_recorder.policy.predict(
            [make_memory(look.observation)],
            [rng],
        )
        for name in bank.hook_points:
            np.testing.assert_array_equal(chunk.features[name][0], bank.features(name)[row])


def test_arrays_load_without_pickle_and_the_description_says_what_they_are(collected):
    setup, run = collected
    with np.load(
        run / episode_features_path("pick_place", 0),
        allow_pickle=False,
    ) as stored:
        arrays = dict(stored)
    assert {name: array.dtype.name for name, array in arrays.items() if array.ndim == 2} == {
        "features.embedding": "float32",
        "features.model.encoder.layers.0": "float32",
        "state": "float32",
        "progress": "bool",
    }
    described = json.loads((run / "features.json").read_text())
    hook = described["hooks"][0]
    assert (
        hook["module_class"] == "IntermediateLayerGetter"
        and hook["pooling"] == "mean over space, cameras concatenated"
    )
    assert (
        described["hooks"][1]["pooling"] == "last over tokens" and described["policy_type"] == "act"
    )
    assert described["files_sha256"] == setup.policy.spec.files_sha256 and described["version"] == 1


def test_observations_are_what_the_policy_saw(collected):
    setup, run = collected
    looks = list(read_run(run))
    arrays = [Run.open(run).load_arrays(row) for row in load_rows(run)]
    assert [look.step for look in looks if look.episode_index == 1] == arrays[
        1
    ].prediction_step.tolist()
    for look in looks:
        setup.env.restore(arrays[look.episode_index].step_snapshot[look.step])
        again = setup.env.observe()
        np.testing.assert_array_equal(again.state, look.observation.state)
        for camera, image in again.images.items():
            np.testing.assert_array_equal(
                image,
                look.observation.images[camera],
            )
        assert again.instruction == look.observation.instruction


@pytest.mark.slow
def test_a_run_is_resumed_with_the_features_that_it_has(monkeypatch, capsys, tmp_path, checkpoints):
    hook = ("--hook", "model.backbone.layer3", "model.decoder")
    asked = (
        "--checkpoint",
        checkpoints("act"),
        "--episodes",
        2,
        "--max-steps",
        9,
        "--no-doctor",
        "--quiet",
    )
    assert (
        run_eval(
            monkeypatch,
            *asked,
            *COLLECT,
            *hook,
            "--run-dir",
            tmp_path,
        )
        == 0
    )
    run = only_run(tmp_path)
    whole = open_bank(run)
    whole_rows = whole.features("model.decoder")
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text(lines[0])
    (run / episode_features_path("pick_place", 1)).unlink()
    (run / observations_path("pick_place", 1)).unlink()
    for folder in ("features", "observations"):
        (run / folder / "pick_place" / f"{UNFINISHED_PREFIX}x.npz").write_bytes(b"half")
    assert run_eval(monkeypatch, "--resume", run, "--hook", "model.decoder") == 2
    assert (
        "--hook with --resume: expected ('model.backbone.layer3', 'model.decoder')"
        in capsys.readouterr().err
    )
    assert (
        run_eval(
            monkeypatch,
            "--resume",
            run,
            *hook,
            "--no-doctor",
            "--quiet",
        )
        == 0
    )
    np.testing.assert_array_equal(
        open_bank(run).features("model.decoder"),
        whole_rows,
    )
    assert len(list(read_run(run))) == whole.n_rows and not list(run.rglob(f"{UNFINISHED_PREFIX}*"))


def test_what_to_do_with_features_is_said(monkeypatch, capsys, tmp_path, checkpoints):
    asked = (
        "--checkpoint",
        checkpoints("act"),
        "--episodes",
        1,
        "--max-steps",
        3,
        "--no-doctor",
        "--run-dir",
        tmp_path,
    )
    assert run_eval(monkeypatch, *asked, "--collect-features") == 0
    assert f"cknna score {only_run(tmp_path)}" in capsys.readouterr().out


def test_a_run_from_before_there_were_features_is_resumed_without(monkeypatch, tmp_path):
    asked = ("--policy", "random", "--episodes", 1, "--max-steps", 3, "--quiet")
    assert run_eval(monkeypatch, *asked, "--run-dir", tmp_path) == 0
    run = only_run(tmp_path)
    description = json.loads((run / RUN_FILE).read_text())
    for name in ("collect_features", "record_observations"):
        del description["config"]["recording"][name]
    del description["config"]["hook"]
    (run / RUN_FILE).write_text(json.dumps(description))
    (run / "episodes.jsonl").write_text("")
    assert (
        run_eval(
            monkeypatch,
            "--resume",
            run,
            "--quiet",
        )
        == 0
        and not (run / "features").exists()
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--policy", "zero", "--collect-features"],
            "--collect-features of policy 'zero': expected a policy with a net",
        ),
        (
            ["--policy", "scripted", "--record-observations"],
            "--record-observations of policy 'scripted'",
        ),
        (
            ["--checkpoint", "small", "--hook", "model"],
            "--hook: expected --collect-features beside it",
        ),
        (
            ["--checkpoint", "small", "--collect-features", "--pool", "last"],
            "--pool last: expected a hook point of your",
        ),
        (
            ["--checkpoint", "small", "--collect-features", "--hook", "model.encodr"],
            "Closest: model.encoder",
        ),
        (
            ["--checkpoint", "small", "--collect-features", "--hook", "model.encoder.layers"],
            "which is never called itself",
        ),
    ],
)
def test_what_cannot_be_collected_is_refused_before_anything_runs(
    monkeypatch, capsys, tmp_path, checkpoints, flags, said
):
    flags = [checkpoints("act") if flag == "small" else flag for flag in flags]
    assert run_eval(monkeypatch, *flags, "--run-dir", tmp_path / "runs") == 2
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()
