"""An unchanged branch of a recorded run equals the recorded continuation, bit for bit."""

import shutil
from contextlib import closing

import numpy as np
import pytest

from eval.branches import BranchRow, Overrides
from eval.config import EvalConfig
from eval.declared_series import POLICY_LATENCY
from eval.run import Run
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.exports import read_inlined
from tests.recordings import record_run
from tests.runs import assert_same_arrays
from viz.event_board import EventBoard
from viz.page import export_episode
from viz.run_branches import RunBranches
from viz.run_source import RunSource

# The keys of the recorded episode and of its first two branches.
TRUNK = "pick_place/1"
FIRST = f"{TRUNK} ~1"
SECOND = f"{TRUNK} ~2"
CONFIG = make_config(
    EvalConfig,
    policy="act",
    checkpoint="act-early",
    max_steps=24,
    n_action_steps=8,
    first_episode=1,
    episodes=1,
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return a run of one episode with decisions at steps 0, 8 and 16."""
    return record_run(CONFIG, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(recorded, tmp_path):
    """Return a copy of the run without a branch."""
    return Run.open(shutil.copytree(recorded.path, tmp_path / "run"))


@pytest.fixture
def row(run):
    """Return the row of the run's only episode."""
    (row,) = run.rows
    return row


def open_branches(run):
    return closing(RunBranches(EventBoard(), run))


def branch(run, **asked):
    """Run one branch to its end and return its row."""
    with open_branches(run) as branches:
        return hint(branches, run, **asked)


def ask(source, prediction, key=TRUNK, **asked):
    """Ask a source, or its branches, for a branch."""
    command = {
        "command": "branch",
        "key": key,
        "prediction": prediction,
    }
    source.command(command | asked)


def hint(branches, run, **asked):
    """Run one branch to its end and return its row."""
    ask(branches, **asked)
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
def test_with_nothing_changed_it_is_what_was_recorded(run, row, prediction):
    kept = branch(run, prediction=prediction)
    assert_same(run, kept, row)
    assert kept.branch.number == 1
    assert kept.branch.of is None
    assert kept.branch.at_step == 8 * prediction
    assert kept.branch.at_prediction == prediction
    same = kept.to_json()
    del same["branch"]
    assert same | {"duration_s": row.duration_s} == row.to_json()


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
    run = record_run(config, tmp_path)
    assert_same(
        run,
        branch(run, key="pick_place/0", prediction=4),
        run.rows[0],
    )


def test_a_branch_is_another_future_and_is_kept(run, row):
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
    latencies = arrays.series[POLICY_LATENCY].values
    assert latencies[0] == recorded.series[POLICY_LATENCY].values[0]
    assert np.isfinite(latencies).all()
    assert np.abs(arrays.action[8:12] - recorded.action[8:12]).max() > 0.1
    assert arrays.prediction_step.tolist() == [0, 8, 12, 16, 20]
    assert kept.branch.overrides == Overrides(
        n_action_steps=4,
        blinded=("wrist_cam",),
    )
    assert str(kept.branch.changes) == "n_action_steps 4, wrist_cam blinded"
    # The branch is not an episode of the run.
    assert run.rows == [row]
    assert run.is_finished


def test_branches_are_numbered_and_leave_one_another(run, row):
    with open_branches(run) as branches:
        first = hint(
            branches,
            run,
            prediction=1,
            n_action_steps=4,
        )
        second = hint(
            branches,
            run,
            key=FIRST,
            prediction=2,
            blinded=["wrist_cam"],
        )
        # Prediction 0 precedes both branches, so this one branches off the episode itself.
        third = hint(
            branches,
            run,
            key=SECOND,
            prediction=0,
        )
    # Another viewer reads the branches from the disk.
    fourth = branch(
        run,
        key=SECOND,
        prediction=3,
    )
    assert [kept.branch.number for kept in run.branches] == [1, 2, 3, 4]
    assert [kept.branch.of for kept in run.branches] == [None, 1, None, 2]
    overrides = Overrides(0, 4, None, ("wrist_cam",))
    assert second.branch.overrides == fourth.branch.overrides == overrides
    assert first.branch.at_step == 8
    assert second.branch.at_step == 12
    assert fourth.branch.at_step == 16
    assert_same(run, third, row)
    assert_same(run, fourth, second)


def test_the_page_is_given_a_branch_like_an_episode(run, row):
    kept = branch(
        run,
        prediction=1,
        blinded=["wrist_cam"],
    )
    with closing(RunSource(run, row)) as source:
        _, listed = source.page()["episodes"]
        assert listed["key"] == FIRST
        assert listed["outcome"] == str(kept.outcome)
        assert listed["branch"] == {
            "of": TRUNK,
            "at_step": 8,
            "at_prediction": 1,
            "changes": "wrist_cam blinded",
        }
        outline = source.episode(FIRST)
        assert outline["header"]["branch"] == listed["branch"]
        assert [decision["step"] for decision in outline["parts"][0]["decisions"]] == [0, 8, 16]
        trunk = source.images(TRUNK, 1)
        seen = source.images(FIRST, 1)
        assert seen["overhead_cam"] == trunk["overhead_cam"]
        assert seen["wrist_cam"] != trunk["wrist_cam"]
        # The decision precedes the blinding.
        assert source.images(FIRST, 0) == source.images(TRUNK, 0)
        assert source.plan(FIRST, 0) == source.plan(TRUNK, 0)


def test_a_branch_under_way_is_driven_by_the_page(run, row):
    with closing(RunSource(run, row)) as source:
        with pytest.raises(WhiskerError, match="a branch under way, got one that is over"):
            source.command(
                {
                    "command": "run",
                    "key": TRUNK,
                }
            )
        ask(source, 1)
        source._branches.wait()
        live = source.episode(FIRST)
        assert source.images(FIRST, 0) == source.images(TRUNK, 0)
        assert source.images(FIRST, 2) == source.images(TRUNK, 2)
        assert source.plan(FIRST, 2) == source.plan(TRUNK, 2)
        assert [episode["key"] for episode in source.page()["episodes"]] == [TRUNK, FIRST]
    with closing(RunSource(run, row)) as source:
        assert source.episode(FIRST)["header"] == live["header"]


def test_a_run_that_is_left_frees_its_world_and_can_be_branched_again(run, row):
    with closing(RunSource(run, row)) as source:
        for numbers in ([1], [1, 2]):
            ask(source, 2)
            # The branch runs to its end first.
            source.rest()
            source._branches.wait()
            assert source._branches.episodes == {}
            assert source._branches.branch_folder is None
            assert [kept.branch.number for kept in run.branches] == numbers
        assert source.episode(SECOND)["header"]["branch"]["at_step"] == 16


def test_an_export_has_the_branches_of_its_episode(run, row, tmp_path):
    branch(
        run,
        prediction=1,
        blinded=["wrist_cam"],
    )
    data = read_inlined(export_episode(run, row, tmp_path / "page.html"))
    assert [episode["key"] for episode in data["page"]["episodes"]] == [TRUNK, FIRST]
    trunk = data["episodes"][TRUNK]["parts"][0]["decisions"]
    other = data["episodes"][FIRST]["parts"][0]["decisions"]
    assert other[0] == trunk[0]
    assert [decision["step"] for decision in other] == [0, 8, 16]
    assert other[1]["cameras"]["overhead_cam"] == trunk[1]["cameras"]["overhead_cam"]
    # Both images are black.
    assert other[1]["cameras"]["wrist_cam"]["src"] == other[2]["cameras"]["wrist_cam"]["src"]


def test_a_checkpoint_that_is_gone_or_another_is_said(small_act, tmp_path):
    checkpoint = shutil.copytree(small_act, tmp_path / "checkpoint")
    run = record_run(
        make_config(
            EvalConfig,
            checkpoint=str(checkpoint),
            policy="act",
            max_steps=3,
            episodes=1,
        ),
        tmp_path,
    )
    config = checkpoint / "config.json"
    config.write_text(config.read_text() + "\n")
    with open_branches(run) as branches:

        def message():
            ask(branches, 0, "pick_place/0")
            branches.wait()
            return branches.board.status["message"]

        expected = "expected the files that the run was made with, got another config.json"
        assert expected in message()
        shutil.rmtree(checkpoint)
        said = message()
        assert str(checkpoint) in said
        assert "\n" not in said
        assert branches.board.status["state"] == "paused"
    assert run.branches == []


def test_two_viewers_do_not_write_the_branches_of_one_run(run):
    with open_branches(run) as first, open_branches(run) as second:
        hint(first, run, prediction=2)
        ask(second, 2)
        second.wait()
        assert "another `whiskers` that writes" in second.board.status["message"]


def test_a_branch_that_was_cut_off_is_left_out(run):
    branch(run, prediction=2)
    with (run.path / "branches.jsonl").open("ab") as file:
        file.write(b'{"task": "pick_pl')
    assert len(run.branches) == 1
    branch(run, prediction=2)
    assert [row.branch.number for row in run.branches] == [1, 2]
    assert isinstance(run.branches[0], BranchRow)
    (run.path / "branches.jsonl").write_text("no row\n")
    expected = r"branches.jsonl', line 1: expected the row of a branch"
    with pytest.raises(WhiskerError, match=expected):
        _ = run.branches


def test_the_run_of_an_expert_cannot_branch(tmp_path):
    config = make_config(
        EvalConfig,
        policy="scripted",
        max_steps=2,
        episodes=1,
    )
    run = record_run(config, tmp_path)
    with closing(RunSource(run, run.rows[0])) as source:
        assert "cannot go back" in source.page()["unusable"]["branch"]
        with pytest.raises(WhiskerError, match="go back to a decision"):
            ask(source, 0, "pick_place/0")
