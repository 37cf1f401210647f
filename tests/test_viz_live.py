"""A driven rollout records the same arrays as the rollout of `eval`.

Pauses, steps and branches change nothing that is recorded.
"""

import threading
from contextlib import closing

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.config import EvalConfig
from eval.run import Run
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.exports import decode
from tests.recordings import record_run
from tests.runs import assert_same_arrays
from viz.live import LiveSession

BRANCH = {"command": "branch", "prediction": 0}
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


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Return the arrays of the same episode as `eval` records it."""
    run = record_run(CONFIG, tmp_path_factory.mktemp("runs"))
    return run.load_arrays(run.rows[0])


@pytest.fixture(scope="module")
def session():
    with closing(LiveSession(CONFIG)) as session:
        yield session


@pytest.fixture
def key(session):
    """Return the key of a new copy of the same episode, at its first decision."""
    return hint(session, "reset", episode_index=1)


def rows_of(session, key, name="action"):
    """Return an array of the moments, joined from all parts."""
    parts = session.episode(key)["parts"]
    return np.concatenate([decode(part["moments"][name]) for part in parts if part["moments"]])


def decisions_of(session, key):
    return [decision for part in session.episode(key)["parts"] for decision in part["decisions"]]


def steps_of_decisions(session, key):
    return [decision["step"] for decision in decisions_of(session, key)]


def hint(session, command, **arguments):
    """Give a command, wait until it is done, and return the key of the episode that is shown."""
    session.command({"command": command, **arguments})
    session.wait()
    assert not session.status["message"]
    return session.page()["key"]


def row_of(session, key):
    return next(row for row in session.page()["episodes"] if row["key"] == key)


def run_to_the_end(session, key):
    """Run the rest of an episode, and return all its actions."""
    while row_of(session, key)["outcome"] == "running":
        hint(session, "step_prediction", key=key)
    return rows_of(session, key)


def test_a_driven_episode_is_the_recorded_one_bit_for_bit(session, key, recorded):
    hint(session, "step")
    hint(session, "step_prediction")
    hint(session, "step")
    run_to_the_end(session, key)
    for name, expected in [
        ("action", recorded.action),
        ("state", recorded.state),
        ("ee", recorded.ee_pos_world.astype(np.float32)),
        ("goal_distance", recorded.goal_distance_m.astype(np.float32)),
        ("progress", recorded.progress.astype(np.uint8)),
    ]:
        assert_array_equal(rows_of(session, key, name), expected)
    assert steps_of_decisions(session, key) == recorded.prediction_step.tolist()
    for decision, chunk in zip(decisions_of(session, key), recorded.chunk, strict=True):
        assert_array_equal(decode(decision["chunk"]), chunk)
        # In the executed part of a plan, the whisker is the executed path.
        taken = recorded.ee_pos_world[decision["step"] :][:9].astype(np.float32)
        assert_array_equal(
            decode(decision["path"])[0, : len(taken)],
            taken,
        )
    assert_same_arrays(
        session.find(key).record.arrays,
        recorded,
    )


def test_a_step_is_one_control_step_and_a_prediction_is_the_next_decision(session, key):
    assert len(rows_of(session, key)) == 0
    assert steps_of_decisions(session, key) == [0]
    hint(session, "step")
    assert len(rows_of(session, key)) == 1
    hint(session, "step_prediction")
    assert len(rows_of(session, key)) == 8
    assert steps_of_decisions(session, key) == [0, 8]


def test_pause_ends_a_run_at_once_and_the_run_goes_on_from_there(session, key, recorded):
    seen = threading.Event()

    def listen():
        for event in session.events(0.05):
            if event and event[0] == "part":
                seen.set()
                return

    listener = threading.Thread(target=listen)
    listener.start()
    session.command({"command": "run"})
    assert seen.wait(10)
    hint(session, "pause")
    listener.join()
    assert len(rows_of(session, key)) < N_STEPS
    assert row_of(session, key)["outcome"] == "running"
    assert_array_equal(run_to_the_end(session, key), recorded.action)


def test_a_branch_leaves_the_recorded_history_as_it_was(session, key, recorded):
    """A branch whose cameras are blinded from the second decision on has other actions.

    The trunk is untouched and can still be finished.
    """
    hint(session, "step_prediction")
    hint(session, "step_prediction")
    before = rows_of(session, key)
    cameras = ["overhead_cam", "wrist_cam"]
    branch = hint(
        session,
        "branch",
        key=key,
        prediction=1,
        blinded=cameras,
    )
    assert session.episode(branch)["header"]["branch"] == {
        "of": key,
        "at_step": 8,
        "at_prediction": 1,
        "changes": "overhead_cam blinded, wrist_cam blinded",
    }
    assert len(rows_of(session, branch)) == 8
    assert steps_of_decisions(session, branch) == [0, 8]
    other = run_to_the_end(session, branch)
    assert_array_equal(rows_of(session, key), before)
    assert_array_equal(other[:8], recorded.action[:8])
    assert np.abs(other[8:16] - recorded.action[8:16]).max() > 0.1
    # The trunk continues as if there had been no branch.
    assert_array_equal(run_to_the_end(session, key), recorded.action)


def test_a_branch_with_nothing_changed_is_the_same_future(session, key, recorded):
    hint(session, "step_prediction")
    hint(session, "step_prediction")
    branch = hint(
        session,
        "branch",
        key=key,
        prediction=1,
    )
    assert_array_equal(run_to_the_end(session, branch), recorded.action)
    assert_array_equal(
        rows_of(session, branch, "state"),
        recorded.state,
    )


def test_a_branch_may_plan_more_often(session, key):
    hint(session, "step_prediction")
    branch = hint(
        session,
        "branch",
        prediction=0,
        n_action_steps=2,
    )
    run_to_the_end(session, branch)
    assert steps_of_decisions(session, branch) == list(range(0, N_STEPS, 2))


def test_a_branch_of_a_branch_keeps_what_the_first_changed(session, key):
    changes = {"n_action_steps": 4, "blinded": ["wrist_cam"]}
    first = hint(
        session,
        "branch",
        key=key,
        prediction=0,
        **changes,
    )
    hint(session, "step_prediction", key=first)
    second = hint(
        session,
        "branch",
        key=first,
        prediction=1,
    )
    assert_array_equal(
        run_to_the_end(session, second),
        run_to_the_end(session, first),
    )
    assert steps_of_decisions(session, second) == list(range(0, N_STEPS, 4))


def test_reset_begins_another_episode_and_keeps_the_first(session, key, recorded):
    hint(session, "step")
    hint(session, "reset", episode_index=2)
    again = hint(session, "reset", episode_index=1)
    assert again not in (key, "pick_place/2")
    assert len(rows_of(session, key)) == 1
    assert_array_equal(run_to_the_end(session, again), recorded.action)
    # The first episode continues, too, in the same environment.
    assert_array_equal(run_to_the_end(session, key), recorded.action)


@pytest.mark.slow
def test_what_ends_is_kept_where_a_folder_is_asked_for(tmp_path):
    with closing(LiveSession(CONFIG, run_dir=tmp_path)) as session:
        hint(session, "step_prediction")
        branch = hint(
            session,
            "branch",
            prediction=1,
            n_action_steps=4,
        )
        run_to_the_end(session, branch)
        run = Run.open(session.run_path)
        assert run.rows == []
        assert [row.branch.number for row in run.branches] == [1]
        # An episode that was run twice is kept once.
        run_to_the_end(session, "pick_place/1")
        run_to_the_end(
            session,
            hint(session, "reset", episode_index=1),
        )
        assert [row.episode_index for row in run.rows] == [1]
        shown = row_of(session, branch)
        assert shown["branch"]["of"] == "pick_place/1"
        assert shown["decisive_step"] == run.branches[0].decisive_step
        for key, row in (("pick_place/1", run.rows[0]), (branch, run.branches[0])):
            assert_array_equal(rows_of(session, key), run.load_arrays(row).action)


def test_the_page_knows_what_the_policy_cannot_use(session):
    assert session.page()["unusable"] == {
        "seed": "act is deterministic: its plan is the same with every seed.",
        "instruction": "act does not read the instruction.",
    }
    assert session.page()["most_action_steps"] == 40


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ({"command": "fly"}, "run, pause, step"),
        (
            {
                "command": "reset",
                "episode_index": -1,
            },
            "0 or more",
        ),
        ({"command": "reset", "episode_index": "1"}, "an integer"),
        ({"command": "step", "key": "pick_place/9"}, "pick_place/1, "),
        (BRANCH | {"prediction": 7}, "0 to 0"),
        (BRANCH | {"seed": 3}, "a stochastic policy"),
        (BRANCH | {"instruction": "dance"}, "a policy that reads the instruction"),
        (BRANCH | {"n_action_steps": 0}, "1 to 40"),
        (BRANCH | {"blinded": ["front"]}, "overhead_cam, wrist_cam"),
    ],
)
def test_what_cannot_be_done_is_said(session, key, command, message):
    with pytest.raises(WhiskerError, match=message):
        session.command(command)


def test_an_episode_that_is_over_says_so(session, key):
    run_to_the_end(session, key)
    row = row_of(session, key)
    assert row["outcome"] == "never_picked_up"
    assert row["n_steps"] == N_STEPS
    expected = "a running episode, got one that ended: never_picked_up"
    with pytest.raises(WhiskerError, match=expected):
        session.command({"command": "step"})


def test_a_policy_that_crashes_ends_its_episode_and_not_the_session(session, key, monkeypatch):
    def crash(*_):
        raise RuntimeError("out of memory")

    hint(session, "step")
    monkeypatch.setattr(type(session._setup.policy), "predict", crash)
    hint(session, "step_prediction")
    row = row_of(session, key)
    assert row["outcome"] == "error"
    assert "out of memory" in row["error"]
    monkeypatch.undo()
    again = hint(session, "reset", episode_index=1)
    assert row_of(session, again)["outcome"] == "running"


def test_the_scripted_expert_cannot_branch():
    config = make_config(EvalConfig, policy="scripted", max_steps=4)
    with closing(LiveSession(config)) as session:
        with pytest.raises(WhiskerError, match="go back to a decision"):
            session.command(BRANCH)
        first = session.page()["key"]
        hint(session, "reset", episode_index=1)
        with pytest.raises(WhiskerError, match="go back to a decision, or to another episode"):
            session.command({"command": "step", "key": first})
        hint(session, "step")


@pytest.mark.slow
def test_a_branch_with_another_seed_follows_the_alternative_of_that_number(small_smolvla):
    """The branch plans with the noise of that alternative, in the same state."""
    config = make_config(
        EvalConfig,
        policy="smolvla",
        checkpoint=str(small_smolvla),
        max_steps=6,
        samples=3,
        intermediate_plans=True,
    )
    with closing(LiveSession(config)) as session:
        key = session.page()["key"]
        reseeded = {
            "key": key,
            "prediction": 0,
            "seed": 2,
        }
        told = hint(
            session,
            "branch",
            instruction="do it",
            **reseeded,
        )
        assert session.episode(told)["header"]["instruction"] == "do it"
        branch = hint(session, "branch", **reseeded)
        first, *_ = decisions_of(session, key)
        other, *_ = decisions_of(session, branch)
        paths = decode(first["path"])
        assert len(paths) == 3
        assert decode(first["intermediate_plans"]).shape[1:] == paths.shape[1:]
        assert_allclose(decode(other["path"])[0], paths[2], atol=1e-4)
        assert np.abs(paths[2] - paths[0]).max() > 1e-3
