"""Tests the `cknna` command, from a rollout to a score, and its error messages."""

import json
import pickle
import shutil
from contextlib import closing

import numpy as np
import pytest
import torch

from cknna.cli import main
from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run_folder import RunFolder
from sim.flags import make_config

N_EPISODES = 12
N_STEPS = 10


@pytest.fixture
def cknna(monkeypatch, capsys):
    """Return a function that runs the command and returns its exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(
            "sys.argv",
            ["cknna", *map(str, arguments)],
        )
        code = main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def collect(folder, checkpoint="act", **more):
    """Run a few short episodes with features, and return the run's folder."""
    config = make_config(
        EvalConfig,
        policy="act",
        checkpoint=checkpoint,
        episodes=N_EPISODES,
        max_steps=N_STEPS,
        n_action_steps=2,
        **more,
    )
    setup = set_up(config)
    run = RunFolder.create(folder, describe(config, setup))
    with closing(setup.env), closing(run):
        list(evaluate(config, setup, run))
    return run.path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return collect(
        tmp_path_factory.mktemp("runs"),
        collect_features=True,
        record_observations=True,
    )


def save_pair(folder, a, b):
    for name, values in (("a", a), ("b", b)):
        torch.save(
            torch.from_numpy(np.asarray(values, np.float32)),
            folder / f"{name}.pt",
        )
    return "--features-a", folder / "a.pt", "--features-b", folder / "b.pt"


def write_json(path, content):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))


def walks(rng, dim, n_episodes=20, n_steps=50):
    """Return random walks, which have only their smoothness in time in common."""
    return np.cumsum(
        rng.normal(size=(n_episodes, n_steps, dim)),
        axis=1,
    ).reshape(-1, dim)


def test_a_run_is_scored_beside_its_null(cknna, run, tmp_path):
    json_file = tmp_path / "scores.json"
    plot = tmp_path / "scores.png"
    code, out, err = cknna(
        "score", run, "--topk", 3, 5, "--mutual-knn", "--cka", "--json", json_file, "--plot", plot,
        "--permutations", 99,
    )  # fmt: skip
    assert code == 0 and not err
    assert "null" in out and "unbiased" in out and "L2-normalised" in out
    rows = json.loads(json_file.read_text())
    whole = [row for row in rows if row["part"] == "all"]
    assert [row["k"] for row in whole] == [3, 5] and {row["n"] for row in whole} == {
        N_EPISODES * N_STEPS // 2
    }
    wanted = {
        "bank",
        "n",
        "k",
        "variant",
        "cknna",
        "mutual_knn",
        "null_mean",
        "null_high",
        "p_value",
    }
    assert all(wanted <= row.keys() for row in rows)
    # The camera sees the arm, so the embedding follows the joints, within an episode and across
    # episodes.
    assert all(
        row["null_mean"] < row["cknna"] and row["low"] < row["cknna"] < row["high"] for row in whole
    )
    assert {row["part"] for row in rows} >= {"all", "early", "middle", "late"}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_run_is_scored_against_any_of_its_series(cknna, run, tmp_path):
    few = ("--topk", 5, "--no-parts", "--permutations", 19)
    code, out, err = cknna(
        "score", run, "--against", "ee_pos_world", *few, "--json", tmp_path / "s.json"
    )
    (row,) = json.loads((tmp_path / "s.json").read_text())
    assert (
        code == 0
        and not err
        and "rows against ee_pos_world" in out
        and row["against"] == "ee_pos_world"
    )
    code, out, err = cknna(
        "score",
        run,
        "--against",
        "ee_pos_wrld",
        *few,
    )
    assert code == 2 and not out and "Did you mean 'ee_pos_world'" in err and err.count("\n") == 1
    code, _, err = cknna(
        "score", *save_pair(tmp_path, *np.ones((2, 9, 3))), "--against", "privileged"
    )
    assert code == 2 and "--against: expected banks, got tensors" in err


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "expected a run folder, a LIBERO demonstration file"),
        (
            lambda path: write_json(path / "run.json", {}),
            "expected recorded observations, got none",
        ),
        (
            lambda path: write_json(path / "meta" / "info.json", {"codebase_version": "v2.1"}),
            "v3.0, got v2.1. Convert",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_before_the_policy_is_loaded(
    cknna, tmp_path, monkeypatch, make, says
):
    def load(*_):
        raise AssertionError("the policy was loaded first")

    monkeypatch.setattr("policies.lerobot_loading.load_lerobot_policy", load)
    make(tmp_path / "recording")
    code, _, err = cknna(
        "extract", "--policy", "act", "--on", tmp_path / "recording", "--output", tmp_path / "bank"
    )
    assert code == 2 and says in err.replace("\n", " ") and not (tmp_path / "bank").exists()


def test_the_same_features_on_recorded_observations_score_the_same(cknna, run, tmp_path):
    code, out, _ = cknna(
        "extract",
        "--policy",
        "act",
        "--on",
        run,
        "--output",
        tmp_path / "bank",
    )
    assert code == 0 and f"{N_EPISODES * N_STEPS // 2} rows" in out
    scores = {}
    for name, bank in (("run", run), ("bank", tmp_path / "bank")):
        arguments = ("score", bank, "--topk", 5, "--no-parts", "--permutations", 19)
        assert cknna(*arguments, "--json", tmp_path / f"{name}.json")[0] == 0
        ((scores[name],),) = [json.loads((tmp_path / f"{name}.json").read_text())]
    assert scores["run"]["cknna"] == pytest.approx(scores["bank"]["cknna"], abs=1e-3)


@pytest.mark.slow
def test_two_policies_are_compared_on_shared_observations_alone(cknna, run, tmp_path):
    other = collect(tmp_path / "runs", "act-early", collect_features=True)
    code, out, err = cknna("score", run, other)
    assert (
        code == 2
        and not out
        and "states that it brought about itself" in err
        and "cknna extract" in err
    )
    code, _, err = cknna(
        "score", run, other, "--across-policies", "--topk", 3, "--no-parts", "--permutations", 19
    )
    assert code == 0 and "no comparison" in err
    for name in ("act", "act-early"):
        assert (
            cknna(
                "extract",
                "--checkpoint",
                name,
                "--on",
                run,
                "--output",
                tmp_path / name,
            )[0]
            == 0
        )
    banks = [tmp_path / "act", tmp_path / "act-early"]
    few = ("--topk", 3, "--no-parts", "--permutations", 19)
    code, out, err = cknna(
        "score",
        *banks,
        *few,
        "--plot",
        tmp_path / "both.png",
    )
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    assert (
        code == 0
        and not err
        and "act less act-early, k = 3" in out
        and f"{N_EPISODES} episodes" in " ".join(out.split())
    )
    # This bank holds every second moment only, so the rows of the two banks differ.
    assert (
        cknna(
            "extract",
            "--policy",
            "act",
            "--on",
            run,
            "--every",
            2,
            "--output",
            tmp_path / "half/act",
        )[0]
        == 0
    )
    code, out, err = cknna(
        "score",
        tmp_path / "half/act",
        tmp_path / "act-early",
        *few,
    )
    assert (
        code == 0
        and "not all of the same moments: their scores are no comparison" in err
        and " less " not in out
    )
    # Two banks with the same name are named by their whole path.
    code, out, err = cknna(
        "score",
        tmp_path / "half/act",
        tmp_path / "act",
        *few,
    )
    assert code == 0 and not err and "half/act" in out.replace("\n", "")


def test_old_pairs_of_tensors_are_scored_with_a_warning_of_their_null(cknna, tmp_path):
    rng = np.random.default_rng(0)
    pair = save_pair(tmp_path, walks(rng, 16), walks(rng, 8))
    code, out, _ = cknna(
        "score", *pair, "--topk", 5, "--json", tmp_path / "s.json", "--permutations", 99
    )
    (row,) = json.loads((tmp_path / "s.json").read_text())
    assert code == 0 and row["null"] == "rows" and row["low"] is None
    # The two walks are unrelated, but their p-value is small. The warning exists for this case.
    assert row["p_value"] < 0.05 and "what is smooth in time is called significant" in " ".join(
        out.split()
    )


def test_old_pairs_of_tensors_with_their_episodes_have_an_honest_null(cknna, tmp_path):
    rng = np.random.default_rng(0)
    pair = save_pair(tmp_path, walks(rng, 16), walks(rng, 8))
    torch.save(
        torch.arange(20).repeat_interleave(50),
        tmp_path / "episodes.pt",
    )
    arguments = (
        "score",
        *pair,
        "--episodes",
        tmp_path / "episodes.pt",
        "--topk",
        5,
        "--permutations",
        99,
    )
    code, out, _ = cknna(*arguments, "--json", tmp_path / "s.json")
    (row,) = json.loads((tmp_path / "s.json").read_text())
    assert code == 0 and "permutes rows" not in out
    assert (
        row["null"] == "episodes"
        and row["n_episodes"] == 20
        and row["low"] < row["cknna"] < row["high"]
    )
    assert row["p_value"] > 0.05 and row["cknna"] > 0.5
    torch.save(torch.arange(20), tmp_path / "episodes.pt")
    code, _, err = cknna(*arguments)
    assert (
        code == 2
        and "expected integers (1000,), the episode of each row, got torch.int64 (20,)" in err
    )


def test_what_cannot_be_scored_is_one_error(cknna, run, tmp_path):
    rng = np.random.default_rng(0)

    def pair(a, b):
        return "--features-a", tmp_path / a, "--features-b", tmp_path / b

    def refused(*arguments):
        code, out, err = cknna("score", *arguments)
        assert (
            code == 2
            and not out
            and err.startswith(("cknna: ", "cknna score: "))
            and err.count("\n") == 1
        )
        return err

    assert "banks, or --features-a" in refused()
    assert "collect-features" in refused(tmp_path)
    assert "expected 2 <= k < n" in refused(run, "--topk", 1)
    good = rng.normal(size=(30, 4))
    assert "30 rows" in refused(*save_pair(tmp_path, good, good[:29]))
    for value, said in ((np.nan, "row"), (0.0, "row")):
        bad = good.copy()
        bad[7] = value
        assert said in refused(*save_pair(tmp_path, bad, good)) and "7" in refused(
            *save_pair(tmp_path, bad, good)
        )
    assert "30" in refused(
        *save_pair(tmp_path, good, good),
        "--topk",
        30,
    )
    assert "expected at least 1, got 0" in refused(run, "--permutations", 0)
    assert "expected a different bank each time, got the same bank twice" in refused(run, run)
    assert "Add --episodes" in refused(*save_pair(tmp_path, good, good), "--exclude-same-episode")
    torn = (tmp_path / "a.pt").read_bytes()[:600]
    (tmp_path / "torn.pt").write_bytes(torn)
    assert "torn.pt': expected a whole .pt file" in refused(*pair("torn.pt", "b.pt"))
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print))
    assert "expected a tensor and nothing else, got other objects" in refused(
        *pair("code.pt", "b.pt")
    )
    damaged = shutil.copytree(run, tmp_path / "damaged")
    next((damaged / "features").rglob("*.npz")).write_bytes(b"torn")
    assert "features" in refused(damaged)


def test_the_audit_says_what_is_hooked(cknna):
    code, out, _ = cknna("audit", "--policy", "act")
    assert code == 0 and "model.backbone" in out and "camera images" in out
    code, _, err = cknna("audit", "--policy", "act", "--hook", "model.encodr")
    assert code == 2 and "model.encoder" in err
    assert "a policy with a network" in cknna("audit", "--policy", "zero")[2]
