"""A driven rollout records the same arrays as the rollout of `eval`.

Pauses, steps and branches change nothing that is recorded.
"""

import base64
import threading

import numpy as np
import pytest

from eval.config import EvalConfig
from eval.drivers import run_episode
from eval.evaluation import set_up
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.runs import assert_same_arrays
from tests.small_checkpoints import save_small_smolvla
from viz.live import LiveSession

N_STEPS = 24
CONFIG = make_config(
    EvalConfig,
    policy="act",
    checkpoint="act-early",
    max_steps=N_STEPS,
    n_action_steps=8,
    first_episode=1,
)


@pytest.fixture(scope="module")
def recorded():
    """Return the arrays of the same episode as `eval` records it."""
    setup = set_up(CONFIG)
    record = run_episode(
        setup.env,
        setup.policy,
        1,
        EpisodeRecorder(),
        RolloutSettings(setup.n_action_steps, setup.max_steps),
    )
    setup.env.close()
    return record.arrays


@pytest.fixture(scope="module")
def session():
    session = LiveSession(CONFIG)
    yield session
    session.close()


@pytest.fixture
def key(session):
    """Return the key of a new copy of the same episode, at its first decision."""
    hint(session, "reset", episode_index=1)
    return session.page()["key"]


def decode(array):
    content = np.frombuffer(
        base64.b64decode(array["base64"]),
        np.dtype(array["dtype"]),
    )
    return content.reshape(array["shape"])


def rows_of(session, key, name):
    """Return an array of the moments, joined from all parts."""
    parts = session.episode(key)["parts"]
    return np.concatenate([decode(part["moments"][name]) for part in parts if part["moments"]])


def decisions_of(session, key):
    return [decision for part in session.episode(key)["parts"] for decision in part["decisions"]]


def hint(session, command, **arguments):
    session.command({"command": command, **arguments})
    session.wait()
    assert not session.status["message"]


def row_of(session, key):
    return next(row for row in session.page()["episodes"] if row["key"] == key)


def run_to_the_end(session, key):
    while row_of(session, key)["outcome"] == "running":
        hint(session, "step_prediction", key=key)


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
        np.testing.assert_array_equal(rows_of(session, key, name), expected)
    decisions = decisions_of(session, key)
    assert [decision["step"] for decision in decisions] == recorded.prediction_step.tolist()
    for decision, chunk in zip(decisions, recorded.chunk, strict=True):
        np.testing.assert_array_equal(decode(decision["chunk"]), chunk)
    # In the executed part of a plan, the whisker is the executed path.
    for decision in decisions:
        start = decision["step"]
        taken = recorded.ee_pos_world[start : start + 9].astype(np.float32)
        np.testing.assert_array_equal(
            decode(decision["path"])[0, : len(taken)],
            taken,
        )


def test_a_driven_episode_leaves_the_arrays_of_a_recorded_one(session, key, recorded):
    run_to_the_end(session, key)
    assert_same_arrays(session.find(key).record.arrays, recorded)


def test_a_step_is_one_control_step_and_a_prediction_is_the_next_decision(session, key):
    assert len(rows_of(session, key, "action")) == 0 and len(decisions_of(session, key)) == 1
    hint(session, "step")
    assert len(rows_of(session, key, "action")) == 1
    hint(session, "step_prediction")
    assert len(rows_of(session, key, "action")) == 8 and len(decisions_of(session, key)) == 2


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
    n_steps = len(rows_of(session, key, "action"))
    assert n_steps < N_STEPS and row_of(session, key)["outcome"] == "running"
    run_to_the_end(session, key)
    np.testing.assert_array_equal(
        rows_of(session, key, "action"),
        recorded.action,
    )


def test_a_branch_leaves_the_recorded_history_as_it_was(session, key, recorded):
    """A branch whose cameras are blinded from the second decision on has other actions.

    The trunk is untouched and can still be finished.
    """
    hint(session, "step_prediction")
    hint(session, "step_prediction")
    before = rows_of(session, key, "action").copy()
    hint(
        session,
        "branch",
        key=key,
        prediction=1,
        blinded=["overhead_cam", "wrist_cam"],
    )
    branch = session.page()["key"]
    assert session.episode(branch)["header"]["branch"] == {
        "of": key,
        "at_step": 8,
        "at_prediction": 1,
        "changes": "overhead_cam blinded, wrist_cam blinded",
    }
    assert len(rows_of(session, branch, "action")) == 8 and len(decisions_of(session, branch)) == 2
    run_to_the_end(session, branch)
    np.testing.assert_array_equal(
        rows_of(session, key, "action"),
        before,
    )
    other = rows_of(session, branch, "action")
    np.testing.assert_array_equal(other[:8], recorded.action[:8])
    assert np.abs(other[8:16] - recorded.action[8:16]).max() > 0.1
    # The trunk continues as if there had been no branch.
    run_to_the_end(session, key)
    np.testing.assert_array_equal(
        rows_of(session, key, "action"),
        recorded.action,
    )


def test_a_branch_with_nothing_changed_is_the_same_future(session, key, recorded):
    hint(session, "step_prediction")
    hint(session, "step_prediction")
    hint(session, "branch", key=key, prediction=1)
    branch = session.page()["key"]
    run_to_the_end(session, branch)
    np.testing.assert_array_equal(
        rows_of(session, branch, "action"),
        recorded.action,
    )
    np.testing.assert_array_equal(
        rows_of(session, branch, "state"),
        recorded.state,
    )


def test_a_branch_may_plan_more_often(session, key):
    hint(session, "step_prediction")
    hint(session, "branch", prediction=0, n_action_steps=2)
    branch = session.page()["key"]
    run_to_the_end(session, branch)
    assert [d["step"] for d in decisions_of(session, branch)] == list(range(0, N_STEPS, 2))


def test_a_branch_of_a_branch_keeps_what_the_first_changed(session, key):
    hint(
        session,
        "branch",
        key=key,
        prediction=0,
        n_action_steps=4,
        blinded=["wrist_cam"],
    )
    first = session.page()["key"]
    hint(session, "step_prediction", key=first)
    hint(session, "branch", key=first, prediction=1)
    second = session.page()["key"]
    for branch in (first, second):
        run_to_the_end(session, branch)
    assert [d["step"] for d in decisions_of(session, second)] == list(range(0, N_STEPS, 4))
    np.testing.assert_array_equal(
        rows_of(session, second, "action"), rows_of(session, first, "action")
    )


def test_reset_begins_another_episode_and_keeps_the_first(session, key, recorded):
    hint(session, "step")
    hint(session, "reset", episode_index=2)
    hint(session, "reset", episode_index=1)
    again = session.page()["key"]
    assert again not in (key, "pick_place/2") and len(rows_of(session, key, "action")) == 1
    run_to_the_end(session, again)
    np.testing.assert_array_equal(
        rows_of(session, again, "action"),
        recorded.action,
    )
    # The first episode continues, too, in the same environment.
    run_to_the_end(session, key)
    np.testing.assert_array_equal(
        rows_of(session, key, "action"),
        recorded.action,
    )


@pytest.mark.slow
def test_what_ends_is_kept_where_a_folder_is_asked_for(tmp_path):
    session = LiveSession(CONFIG, run_dir=tmp_path)
    try:
        hint(session, "step_prediction")
        hint(session, "branch", prediction=1, n_action_steps=4)
        branch = session.page()["key"]
        run_to_the_end(session, branch)
        run = Run.open(session.run_path)
        assert run.rows == [] and [row.branch.number for row in run.branches] == [1]
        # An episode that was run twice is kept once.
        run_to_the_end(session, "pick_place/1")
        hint(session, "reset", episode_index=1)
        run_to_the_end(session, session.page()["key"])
        assert [row.episode_index for row in run.rows] == [1]
        shown = {row["key"]: row for row in session.page()["episodes"]}
        assert shown[branch]["branch"]["of"] == "pick_place/1"
        assert shown[branch]["decisive_step"] == run.branches[0].decisive_step
        for key, row in (("pick_place/1", run.rows[0]), (branch, run.branches[0])):
            np.testing.assert_array_equal(
                rows_of(session, key, "action"), run.load_arrays(row).action
            )
    finally:
        session.close()


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
        ({"command": "reset", "episode_index": -1}, "0 or more"),
        ({"command": "reset", "episode_index": "1"}, "an integer"),
        ({"command": "step", "key": "pick_place/9"}, "pick_place/1, "),
        ({"command": "branch", "prediction": 7}, "0 to 0"),
        (
            {
                "command": "branch",
                "prediction": 0,
                "seed": 3,
            },
            "a stochastic policy",
        ),
        (
            {"command": "branch", "prediction": 0, "instruction": "dance"},
            "a policy that reads the instruction",
        ),
        (
            {
                "command": "branch",
                "prediction": 0,
                "n_action_steps": 0,
            },
            "1 to 40",
        ),
        (
            {
                "command": "branch",
                "prediction": 0,
                "blinded": ["front"],
            },
            "overhead_cam, wrist_cam",
        ),
    ],
)
def test_what_cannot_be_done_is_said(session, key, command, message):
    with pytest.raises(WhiskerError, match=message):
        session.command(command)


def test_an_episode_that_is_over_says_so(session, key):
    run_to_the_end(session, key)
    row = row_of(session, key)
    assert row["outcome"] == "never_picked_up" and row["n_steps"] == N_STEPS
    with pytest.raises(
        WhiskerError, match="a running episode, got one that ended: never_picked_up"
    ):
        session.command({"command": "step"})


def test_a_policy_that_crashes_ends_its_episode_and_not_the_session(session, key, monkeypatch):
    def crash(*_):
        raise RuntimeError("out of memory")

    hint(session, "step")
    monkeypatch.setattr(type(session._setup.policy), "predict", crash)
    hint(session, "step_prediction")
    row = row_of(session, key)
    assert row["outcome"] == "error" and "out of memory" in row["error"]
    monkeypatch.undo()
    hint(session, "reset", episode_index=1)
    assert row_of(session, session.page()["key"])["outcome"] == "running"


def test_the_scripted_expert_cannot_branch():
    session = LiveSession(
        make_config(
            EvalConfig,
            policy="scripted",
            max_steps=4,
        )
    )
    with pytest.raises(WhiskerError, match="go back to a decision"):
        session.command({"command": "branch", "prediction": 0})
    first = session.page()["key"]
    hint(session, "reset", episode_index=1)
    with pytest.raises(WhiskerError, match="go back to a decision, or to another episode"):
        session.command({"command": "step", "key": first})
    hint(session, "step")
    session.close()


def test_a_branch_with_another_seed_follows_the_alternative_of_that_number(tmp_path):
    """The branch plans with the noise of that alternative, in the same state."""
    checkpoint = save_small_smolvla(tmp_path / "smolvla")
    config = make_config(
        EvalConfig,
        policy="smolvla",
        checkpoint=str(checkpoint),
        max_steps=6,
        samples=3,
        intermediate_plans=True,
    )
    session = LiveSession(config)
    try:
        key = session.page()["key"]
        hint(
            session,
            "branch",
            key=key,
            prediction=0,
            seed=2,
            instruction="do it",
        )
        branch = session.page()["key"]
        assert session.episode(branch)["header"]["instruction"] == "do it"
        hint(
            session,
            "branch",
            key=key,
            prediction=0,
            seed=2,
        )
        (first, *_), (other, *_) = (
            decisions_of(session, key),
            decisions_of(session, session.page()["key"]),
        )
        paths = decode(first["path"])
        assert len(paths) == 3 and decode(first["intermediate_plans"]).shape[1:] == paths.shape[1:]
        np.testing.assert_allclose(decode(other["path"])[0], paths[2], atol=1e-4)
        assert np.abs(paths[2] - paths[0]).max() > 1e-3
    finally:
        session.close()
