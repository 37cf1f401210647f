"""Tests the `cknna` command, from a rollout to a score, and its error messages."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from cknna.cli import main
from eval.config import EvalConfig
from sim.flags import make_config
from tests import cknna_oracle as oracle
from tests.recordings import record_run
from tests.runs import read_files


@pytest.fixture
def cknna(monkeypatch, capsys):
    """Return a function that runs the command and returns its exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(
            "sys.argv",
            ["cknna", *map(str, arguments)],
        )
        code = main()
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def scores(cknna, tmp_path):
    """Return a function that runs `cknna score` and returns its rows and what it prints."""

    def run(*arguments):
        json_file = tmp_path / "scores.json"
        code, out, err = cknna("score", *arguments, "--json", json_file)
        assert code == 0 and not err
        return json.loads(json_file.read_text()), " ".join(out.split())

    return run


@pytest.fixture
def refused(cknna):
    """Return a function that runs the command, and returns the one line that refuses it."""

    def run(*arguments):
        code, out, err = cknna(*arguments)
        assert code == 2 and not out
        assert err.startswith(("cknna: ", "cknna score: ")) and err.count("\n") == 1
        return err

    return run


N_EPISODES = 12
N_STEPS = 10
N_ROWS = N_EPISODES * N_STEPS // 2


def collect(folder, checkpoint="act", **more):
    """Run a few short episodes with features, and return the run's folder."""
    config = make_config(
        EvalConfig,
        policy="act",
        checkpoint=checkpoint,
        episodes=N_EPISODES,
        max_steps=N_STEPS,
        n_action_steps=2,
        collect_features=True,
        **more,
    )
    return record_run(config, folder).path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("runs"), record_observations=True)


@pytest.fixture
def save_pair(tmp_path):
    """Return a function that saves two tensors, and returns the flags that name them."""

    def save(a, b):
        for name, values in (("a", a), ("b", b)):
            torch.save(
                torch.tensor(values, dtype=torch.float32),
                tmp_path / f"{name}.pt",
            )
        return "--features-a", tmp_path / "a.pt", "--features-b", tmp_path / "b.pt"

    return save


@pytest.fixture
def walks(save_pair):
    """Save two random walks, which have only their smoothness in time in common."""
    rng = np.random.default_rng(0)
    return save_pair(
        oracle.walks(rng, [50] * 20, 16),
        oracle.walks(rng, [50] * 20, 8),
    )


FEW = ("--no-parts", "--permutations", 19, "--topk")


def test_a_run_is_scored_beside_its_null(scores, run, tmp_path):
    plot = tmp_path / "scores.png"
    flags = ("--mutual-knn", "--cka", "--permutations", 19, "--plot", plot)
    rows, out = scores(run, *flags, "--topk", 3, 5)
    assert "null" in out and "unbiased" in out and "L2-normalised" in out
    whole = [row for row in rows if row["part"] == "all"]
    assert [row["k"] for row in whole] == [3, 5]
    wanted = "bank n k variant cknna mutual_knn null_mean null_high p_value"
    for row in rows:
        assert set(wanted.split()) <= row.keys()
    for row in whole:
        assert row["n"] == N_ROWS
        # The camera sees the arm, so the embedding follows the joints, within an episode and
        # across episodes.
        assert row["null_mean"] < row["cknna"]
        assert row["low"] < row["cknna"] < row["high"]
    assert {row["part"] for row in rows} >= {"all", "early", "middle", "late"}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_run_is_scored_against_any_of_its_series(scores, refused, run, save_pair):
    (row,), out = scores(
        run,
        "--against",
        "ee_pos_world",
        *FEW,
        5,
    )
    assert "rows against ee_pos_world" in out and row["against"] == "ee_pos_world"
    assert "Did you mean 'ee_pos_world'" in refused("score", run, "--against", "ee_pos_wrld")
    pair = save_pair(*np.ones((2, 9, 3)))
    said = refused("score", *pair, "--against", "privileged")
    assert "--against: expected banks, got tensors" in said


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("other", {}, "expected a run folder, a LIBERO demonstration file"),
        ("run.json", {}, "expected recorded observations, got none"),
        ("meta/info.json", {"codebase_version": "v2.1"}, "v3.0, got v2.1. Convert"),
    ],
)
def test_what_cannot_be_read_is_refused_before_the_policy_is_loaded(
    cknna, tmp_path, monkeypatch, file, content, says
):
    # Loading the policy would raise a TypeError.
    monkeypatch.setattr("policies.lerobot_loading.load_lerobot_policy", None)
    recording = tmp_path / "recording"
    bank = tmp_path / "bank"
    (recording / file).parent.mkdir(parents=True)
    (recording / file).write_text(json.dumps(content))
    code, _, err = cknna(
        "extract",
        "--policy",
        "act",
        "--on",
        recording,
        "--output",
        bank,
    )
    assert code == 2 and says in err.replace("\n", " ") and not bank.exists()


def test_workers_write_the_same_bank_to_the_last_bit(cknna, run, tmp_path):
    banks = []
    for n_workers in (1, 2):
        bank = tmp_path / str(n_workers)
        flags = ("--policy", "act", "--on", run, "--output", bank, "--workers", n_workers)
        code, out, _ = cknna("extract", *flags)
        assert code == 0 and f"{N_ROWS} rows" in out
        banks.append(read_files(bank))
    assert banks[0] == banks[1]
    assert "features.embedding.npy" in banks[0]


def test_the_same_features_on_recorded_observations_score_the_same(cknna, scores, run, tmp_path):
    bank = tmp_path / "bank"
    code, out, _ = cknna(
        "extract",
        "--policy",
        "act",
        "--on",
        run,
        "--output",
        bank,
    )
    assert code == 0 and f"{N_ROWS} rows" in out
    (of_run,), _ = scores(run, *FEW, 5)
    (of_bank,), _ = scores(bank, *FEW, 5)
    assert of_run["cknna"] == pytest.approx(of_bank["cknna"], abs=1e-3)


@pytest.mark.slow
def test_two_policies_are_compared_on_shared_observations_alone(
    cknna, scores, refused, run, tmp_path
):
    other = collect(tmp_path / "runs", "act-early")
    said = refused("score", run, other)
    assert "states that it brought about itself" in said and "cknna extract" in said
    code, _, err = cknna(
        "score",
        run,
        other,
        "--across-policies",
        *FEW,
        3,
    )
    assert code == 0 and "no comparison" in err

    def extract(name, *flags):
        bank = tmp_path / name
        extracting = ("extract", "--checkpoint", bank.name, "--on", run, "--output", bank)
        assert cknna(*extracting, *flags)[0] == 0
        return bank

    act = extract("act")
    early = extract("act-early")
    plot = tmp_path / "both.png"
    _, out = scores(
        act,
        early,
        "--plot",
        plot,
        *FEW,
        3,
    )
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "act less act-early, k = 3" in out and f"{N_EPISODES} episodes" in out
    # This bank holds every second moment only, so the rows of the two banks differ.
    half = extract("half/act", "--every", 2)
    code, out, err = cknna(
        "score",
        half,
        early,
        *FEW,
        3,
    )
    assert code == 0 and " less " not in out
    assert "not all of the same moments: their scores are no comparison" in err
    # Two banks with the same name are named by their whole path.
    _, out = scores(half, act, *FEW, 3)
    assert "half/act" in out.replace(" ", "")


def test_old_pairs_of_tensors_are_scored_with_a_warning_of_their_null(cknna, walks, tmp_path):
    json_file = tmp_path / "scores.json"
    few = ("--topk", 5, "--permutations", 39)
    code, out, _ = cknna(
        "score",
        *walks,
        *few,
        "--json",
        json_file,
    )
    (row,) = json.loads(json_file.read_text())
    assert code == 0 and row["null"] == "rows" and row["low"] is None
    # The two walks are unrelated, but their p-value is small. The warning exists for this case.
    assert row["p_value"] < 0.05
    assert "what is smooth in time is called significant" in " ".join(out.split())


def test_old_pairs_of_tensors_with_their_episodes_have_an_honest_null(
    scores, refused, walks, tmp_path
):
    file = tmp_path / "episodes.pt"
    torch.save(
        torch.arange(20).repeat_interleave(50),
        file,
    )
    flags = (*walks, "--episodes", file, "--topk", 5, "--permutations", 39)
    (row,), out = scores(*flags)
    assert "permutes rows" not in out
    assert row["null"] == "episodes" and row["n_episodes"] == 20
    assert row["cknna"] > 0.5 and row["low"] < row["cknna"] < row["high"]
    assert row["p_value"] > 0.05
    torch.save(torch.arange(20), file)
    said = "expected integers (1000,), the episode of each row, got torch.int64 (20,)"
    assert said in refused("score", *flags)


def test_pairs_that_cannot_be_scored_are_one_error(refused, save_pair, tmp_path):
    good = np.random.default_rng(0).normal(size=(30, 4))
    assert "30 rows" in refused("score", *save_pair(good, good[:29]))
    for value in (np.nan, 0.0):
        bad = good.copy()
        bad[7] = value
        assert "row 7" in refused("score", *save_pair(bad, good))
    pair = save_pair(good, good)
    assert "30" in refused("score", *pair, "--topk", 30)
    assert "Add --episodes" in refused("score", *pair, "--exclude-same-episode")
    file = tmp_path / "a.pt"
    file.write_bytes(file.read_bytes()[:600])
    assert "a.pt': expected a whole .pt file" in refused("score", *pair)
    file.write_bytes(pickle.dumps(print))
    assert "expected a tensor and nothing else, got other objects" in refused("score", *pair)


def test_banks_that_cannot_be_scored_are_one_error(refused, run, tmp_path):
    assert "banks, or --features-a" in refused("score")
    assert "collect-features" in refused("score", tmp_path)
    assert "expected 2 <= k < n" in refused("score", run, "--topk", 1)
    assert "expected at least 1, got 0" in refused("score", run, "--permutations", 0)
    said = "expected a different bank each time, got the same bank twice"
    assert said in refused("score", run, run)
    damaged = shutil.copytree(run, tmp_path / "damaged")
    next((damaged / "features").rglob("*.npz")).write_bytes(b"torn")
    assert "features" in refused("score", damaged)


def test_the_audit_says_what_is_hooked(cknna):
    code, out, _ = cknna("audit", "--policy", "act")
    assert code == 0 and "model.backbone" in out and "camera images" in out
    code, _, err = cknna("audit", "--policy", "act", "--hook", "model.encodr")
    assert code == 2 and "model.encoder" in err
    assert "a policy with a network" in cknna("audit", "--policy", "zero")[2]
