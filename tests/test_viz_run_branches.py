"""An unchanged branch of a recorded run equals the recorded continuation, bit for bit."""

import base64
import gzip
import json
import re
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from eval.branches import BranchRow, Overrides
from eval.config import EvalConfig
from eval.declared_series import POLICY_LATENCY
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.runs import assert_same_arrays
from viz.event_board import EventBoard
from viz.page import export_episode, find_row
from viz.run_branches import RunBranches
from viz.run_source import RunSource

N_STEPS = 24
CONFIG = make_config(
    EvalConfig,
    policy="act",
    checkpoint="act-early",
    max_steps=N_STEPS,
    n_action_steps=8,
    first_episode=1,
    episodes=1,
)


def record(config, folder):
    setup = set_up(config)
    with closing(setup.env), closing(RunFolder.create(folder, describe(config, setup))) as folder:
        list(evaluate(config, setup, folder))
    return folder.path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return a run of one episode with decisions at steps 0, 8 and 16."""
    return record(CONFIG, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(recorded, tmp_path):
    """Return a copy of the run without a branch."""
    return Run.open(shutil.copytree(recorded, tmp_path / "run"))


def branch(run, **asked):
    """Run one branch to its end and return its row."""
    with closing(RunBranches(EventBoard(), run)) as branches:
        return hint(branches, run, **asked)


def hint(branches, run, key=None, **asked):
    branches.command(
        {
            "command": "branch",
            "key": key or "pick_place/1",
            **asked,
        }
    )
    branches.wait()
    assert not branches.board.status["message"], branches.board.status
    return run.branches[-1]


def assert_same(run, row, other):
    """Assert that the arrays of both rows are equal, bit for bit."""
    assert_same_arrays(run.load_arrays(row), run.load_arrays(other))


@pytest.mark.parametrize(
    "prediction",
    [0, 1, 2],
)
def test_with_nothing_changed_it_is_what_was_recorded(run, prediction):
    kept = branch(run, prediction=prediction)
    (row,) = run.rows
    assert_same(run, kept, row)
    assert kept.branch == replace(
        kept.branch, number=1, of=None, at_step=8 * prediction, at_prediction=prediction
    )
    same = {
        name: value
        for name, value in kept.to_json().items()
        if name not in ("duration_s", "branch")
    }
    assert same == {name: value for name, value in row.to_json().items() if name != "duration_s"}


def test_a_policy_that_remembers_goes_on_with_what_it_remembered(small_act_ensembling, tmp_path):
    """A temporal ensemble averages the chunks of all earlier decisions."""
    config = make_config(
        EvalConfig,
        policy="act",
        checkpoint=str(small_act_ensembling),
        max_steps=7,
        episodes=1,
        intermediate_plans=True,
    )
    run = Run.open(record(config, tmp_path))
    assert_same(
        run,
        branch(run, key="pick_place/0", prediction=4),
        run.rows[0],
    )


def test_a_branch_is_another_future_and_is_kept(run):
    (row,) = run.rows
    kept = branch(
        run,
        prediction=1,
        blinded=["wrist_cam"],
        n_action_steps=4,
    )
    arrays = run.load_arrays(kept)
    recorded = run.load_arrays(row)
    np.testing.assert_array_equal(arrays.action[:8], recorded.action[:8])
    # The inherited part keeps the latencies that were measured then.
    latencies, recorded_latencies = (
        each.series[POLICY_LATENCY].values for each in (arrays, recorded)
    )
    assert latencies[0] == recorded_latencies[0] and np.isfinite(latencies).all()
    assert np.abs(arrays.action[8:12] - recorded.action[8:12]).max() > 0.1
    assert arrays.prediction_step.tolist() == [0, 8, 12, 16, 20]
    assert kept.branch.overrides == Overrides(
        n_action_steps=4,
        blinded=("wrist_cam",),
    )
    assert str(kept.branch.changes) == "n_action_steps 4, wrist_cam blinded"
    # The branch is not an episode of the run.
    assert run.rows == [row] and run.is_finished


def test_branches_are_numbered_and_leave_one_another(run):
    with closing(RunBranches(EventBoard(), run)) as branches:
        first = hint(branches, run, prediction=1, n_action_steps=4)
        second = hint(
            branches,
            run,
            key="pick_place/1 ~1",
            prediction=2,
            blinded=["wrist_cam"],
        )
        # Prediction 0 precedes both branches, so this one branches off the episode itself.
        third = hint(branches, run, key="pick_place/1 ~2", prediction=0)
    # Another viewer reads the branches from the disk.
    fourth = branch(run, key="pick_place/1 ~2", prediction=3)
    assert [(row.branch.number, row.branch.of) for row in run.branches] == [
        (1, None),
        (2, 1),
        (3, None),
        (4, 2),
    ]
    assert (
        second.branch.overrides == fourth.branch.overrides == Overrides(0, 4, None, ("wrist_cam",))
    )
    assert first.branch.at_step == 8 and second.branch.at_step == 12 and fourth.branch.at_step == 16
    assert_same(run, third, run.rows[0])
    assert_same(run, fourth, second)


def test_the_page_is_given_a_branch_like_an_episode(run):
    (row,) = run.rows
    kept = branch(run, prediction=1, blinded=["wrist_cam"])
    with closing(RunSource(run, row)) as source:
        (_, listed) = source.page()["episodes"]
        assert listed["key"] == "pick_place/1 ~1" and listed["outcome"] == str(kept.outcome)
        assert listed["branch"] == {
            "of": "pick_place/1",
            "at_step": 8,
            "at_prediction": 1,
            "changes": "wrist_cam blinded",
        }
        outline = source.episode(listed["key"])
        assert outline["header"]["branch"] == listed["branch"]
        assert [decision["step"] for decision in outline["parts"][0]["decisions"]] == [0, 8, 16]
        trunk = source.images("pick_place/1", 1)
        seen = source.images(listed["key"], 1)
        assert (
            seen["overhead_cam"] == trunk["overhead_cam"]
            and seen["wrist_cam"] != trunk["wrist_cam"]
        )
        # The decision precedes the blinding.
        assert source.images(listed["key"], 0) == source.images("pick_place/1", 0)
        assert source.plan(listed["key"], 0) == source.plan("pick_place/1", 0)


def test_a_branch_under_way_is_driven_by_the_page(run):
    (row,) = run.rows
    with closing(RunSource(run, row)) as source:
        with pytest.raises(WhiskerError, match="a branch under way, got one that is over"):
            source.command({"command": "run", "key": "pick_place/1"})
        source.command(
            {
                "command": "branch",
                "key": "pick_place/1",
                "prediction": 1,
            }
        )
        source._branches.wait()
        live = source.episode("pick_place/1 ~1")
        assert source.images("pick_place/1 ~1", 0) == source.images("pick_place/1", 0)
        assert source.images("pick_place/1 ~1", 2) == source.images("pick_place/1", 2)
        assert source.plan("pick_place/1 ~1", 2) == source.plan("pick_place/1", 2)
        assert [r["key"] for r in source.page()["episodes"]] == ["pick_place/1", "pick_place/1 ~1"]
    with closing(RunSource(run, row)) as source:
        kept = source.episode("pick_place/1 ~1")
    assert kept["header"] == live["header"]


def test_a_run_that_is_left_frees_its_world_and_can_be_branched_again(run):
    (row,) = run.rows
    with closing(RunSource(run, row)) as source:
        for number in (1, 2):
            source.command(
                {
                    "command": "branch",
                    "key": "pick_place/1",
                    "prediction": 2,
                }
            )
            # The branch runs to its end first.
            source.rest()
            source._branches.wait()
            assert source._branches.episodes == {} and source._branches.branch_folder is None
            assert [kept.branch.number for kept in run.branches] == list(range(1, number + 1))
        assert source.episode("pick_place/1 ~2")["header"]["branch"]["at_step"] == 16


def test_an_export_has_the_branches_of_its_episode(run, tmp_path):
    branch(run, prediction=1, blinded=["wrist_cam"])
    export_episode(run, run.rows[0], tmp_path / "page.html")
    (packed,) = re.findall(
        r'id="inlined">([^<]*)<',
        (tmp_path / "page.html").read_text(),
    )
    data = json.loads(gzip.decompress(base64.b64decode(packed)))
    assert [row["key"] for row in data["page"]["episodes"]] == ["pick_place/1", "pick_place/1 ~1"]
    trunk, other = (
        data["episodes"][key]["parts"][0]["decisions"]
        for key in ("pick_place/1", "pick_place/1 ~1")
    )
    assert other[0] == trunk[0] and [decision["step"] for decision in other] == [0, 8, 16]
    assert other[1]["cameras"]["overhead_cam"] == trunk[1]["cameras"]["overhead_cam"]
    # Both images are black.
    assert other[1]["cameras"]["wrist_cam"]["src"] == other[2]["cameras"]["wrist_cam"]["src"]


def test_a_checkpoint_that_is_gone_or_another_is_said(recorded, small_act, tmp_path):
    checkpoint = shutil.copytree(small_act, tmp_path / "checkpoint")
    run = Run.open(
        record(
            make_config(
                EvalConfig, checkpoint=str(checkpoint), policy="act", max_steps=3, episodes=1
            ),
            tmp_path,
        )
    )
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config, indent=1))
    with closing(RunBranches(EventBoard(), run)) as branches:

        def said():
            branches.command(
                {
                    "command": "branch",
                    "key": "pick_place/0",
                    "prediction": 0,
                }
            )
            branches.wait()
            return branches.board.status

        assert (
            "expected the files that the run was made with, got another config.json"
            in said()["message"]
        )
        shutil.rmtree(checkpoint)
        status = said()
        assert (
            str(checkpoint) in status["message"]
            and "\n" not in status["message"]
            and status["state"] == "paused"
        )
    assert run.branches == []


def test_two_viewers_do_not_write_the_branches_of_one_run(run):
    with (
        closing(RunBranches(EventBoard(), run)) as first,
        closing(RunBranches(EventBoard(), run)) as second,
    ):
        hint(first, run, prediction=2)
        second.command(
            {
                "command": "branch",
                "key": "pick_place/1",
                "prediction": 2,
            }
        )
        second.wait()
        assert "another `whiskers` that writes" in second.board.status["message"]


def test_a_branch_that_was_cut_off_is_left_out(run):
    branch(run, prediction=2)
    with (run.path / "branches.jsonl").open("ab") as file:
        file.write(b'{"task": "pick_pl')
    assert len(run.branches) == 1
    branch(run, prediction=2)
    assert [row.branch.number for row in run.branches] == [1, 2] and isinstance(
        run.branches[0], BranchRow
    )
    (run.path / "branches.jsonl").write_text("no row\n")
    with pytest.raises(
        WhiskerError, match=r"branches.jsonl', line 1: expected the row of a branch"
    ):
        _ = run.branches


def test_the_run_of_an_expert_cannot_branch(blind_env, tmp_path):
    run = Run.open(
        record(
            make_config(
                EvalConfig,
                policy="scripted",
                max_steps=2,
                episodes=1,
            ),
            tmp_path,
        )
    )
    with closing(RunSource(run, find_row(run, None))) as source:
        assert "cannot go back" in source.page()["unusable"]["branch"]
        with pytest.raises(WhiskerError, match="go back to a decision"):
            source.command(
                {
                    "command": "branch",
                    "key": "pick_place/0",
                    "prediction": 0,
                }
            )
