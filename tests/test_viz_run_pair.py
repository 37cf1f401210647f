"""Tests of two runs side by side: what is said about them, and the other run's recordings."""

import io
import shutil
from contextlib import closing
from urllib.parse import urlencode

import numpy as np
import pytest
from rich.console import Console

from eval.compare_tables import print_comparison
from eval.comparison import compare
from eval.config import EvalConfig
from eval.outcome import Outcome
from eval.run import Run
from eval.run_folder import RunFolder
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.exports import decode
from tests.runs import describe_run
from tests.test_viz_run_list import append
from tests.test_viz_server import ask, serving
from viz.run_list import RunList

S = Outcome.SUCCESS
F = Outcome.NEVER_PICKED_UP


@pytest.fixture
def make_run(tmp_path, blind_env):
    """Return a function that makes a run folder with the given outcomes, and returns its name."""

    def make(name, *outcomes, policy="random", **flags):
        asked = {"env": "so101/pick_place", "episodes": len(outcomes)} | flags
        config = make_config(EvalConfig, policy=policy, **asked)
        tasks = {"pick_place": asked["env"]}
        description = describe_run(blind_env, policy, config=config, tasks=tasks)
        with closing(RunFolder.create(tmp_path, description)) as run:
            append(run, *outcomes)
        run.path.rename(tmp_path / name)
        return name

    return make


@pytest.fixture
def runs(tmp_path):
    with closing(RunList(tmp_path)) as runs:
        yield runs


@pytest.fixture
def recorded(failed_run, random_run, tmp_path):
    """Put the run of `act` and the one of random actions into the folder."""
    for name, path in (("act", failed_run), ("random", random_run)):
        shutil.copytree(path, tmp_path / name)


def test_the_verdict_is_that_of_eval_compare(make_run, runs, tmp_path):
    make_run("a", *[S] * 12, S, F, F)
    make_run("b", *[F] * 12, S, F, S, policy="zero")
    pair = runs.compare("a", "b")
    printed = Console(file=io.StringIO(), width=500)
    compared = compare([tmp_path / "a", tmp_path / "b"])
    print_comparison(printed, compared, "auto", shows_all=False)
    assert pair["verdict"] in printed.file.getvalue()
    assert pair["verdict"].startswith("random is better than zero")
    assert pair["counts"] == {"only_first": 12, "only_second": 1, "neither": 1, "both": 1}
    groups = {each["key"]: each["group"] for each in pair["episodes"]}
    assert len(groups) == 15
    last = [groups[f"pick_place/{index}"] for index in (11, 12, 13, 14)]
    assert last == ["only_first", "both", "neither", "only_second"]
    assert [pair[which] for which in ("first", "second")] == [
        {"run": "a", "name": "random"},
        {"run": "b", "name": "zero"},
    ]


def test_an_unfinished_run_is_compared_as_far_as_it_goes(make_run, runs):
    make_run("a", S, F, S)
    make_run("b", S, episodes=3, policy="zero")
    pair = runs.compare("a", "b")
    assert [each["key"] for each in pair["episodes"]] == ["pick_place/0"]
    assert "zero is unfinished: 1 of 3 episodes have ended" in " ".join(pair["remarks"])


def test_what_cannot_be_compared_is_refused_with_the_reason(make_run, runs):
    make_run("a", S, F)
    make_run("none", episodes=3)
    make_run("crashed", Outcome.ERROR, Outcome.ERROR)
    make_run("words", S, F, env="so101/pick_place_words")
    with serving(runs) as server:
        for against, reason in (
            ("a", "expected another run beside it, got itself"),
            ("none", "expected finished episodes, got none"),
            ("crashed", "expected episodes that both have judged, got none"),
            ("words", "other environment (so101/pick_place and so101/pick_place_words)"),
            ("../a", "expected one of those in"),
            ("", "expected one of those in"),
        ):
            query = urlencode({"run": "a", "against": against, "key": "pick_place/0"})
            for path in ("compare", "other_episode"):
                status, refusal = ask(server, f"/api/{path}?{query}")
                assert status == 422
                assert reason in refusal["error"]
        status, listing = ask(server, "/api/runs")
        assert status == 200
        assert len(listing["runs"]) == 4


def test_an_episode_of_the_other_run_is_what_that_run_recorded(recorded, runs, random_run):
    other = Run.open(random_run)
    answer = runs.other_episode("act", "random", "pick_place/8")
    (part,) = answer["parts"]
    arrays = other.load_arrays(other.rows[1])
    assert np.array_equal(decode(part["moments"]["ee"]), np.float32(arrays.ee_pos_world))
    assert answer["name"] == "random"
    assert answer["header"]["key"] == answer["row"]["key"] == "pick_place/8"
    assert answer["row"]["outcome"] == other.rows[1].outcome
    # The same episode as its own run shows it.
    assert answer["parts"] == runs.open("random").episode("pick_place/8")["parts"]
    for key in ("pick_place/99", "fly/8"):
        with pytest.raises(WhiskerError, match="expected one that was run"):
            runs.other_episode("act", "random", key)
