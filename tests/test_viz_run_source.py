"""The pieces of an episode that the server sends equal those of the whole episode."""

from contextlib import closing

import pytest

from sim.errors import WhiskerError
from viz.page import load_episode
from viz.replay import open_replay_env
from viz.run_source import RunSource

KEY = "pick_place/8"


@pytest.fixture(scope="module")
def whole(opened_run, failure):
    """Return the failed episode with all its plans and images, as an export has it.

    The images fit losslessly.
    """
    with closing(open_replay_env(opened_run, "pick_place")) as env:
        return load_episode(env, opened_run, failure)


@pytest.fixture(scope="module")
def source(opened_run, failure):
    with closing(RunSource(opened_run, failure)) as source:
        yield source


def test_the_scene_comes_without_plans_and_images(source, whole):
    outline = source.episode(KEY)
    (part,), (whole_part,) = outline["parts"], whole["parts"]
    assert outline["header"] == whole["header"]
    assert part["moments"] == whole_part["moments"]
    for decision, complete in zip(part["decisions"], whole_part["decisions"], strict=True):
        assert decision == complete | {
            "path": None,
            "intermediate_plans": None,
            "cameras": None,
        }
    assert source.scene("pick_place")["shapes"]


def test_each_plan_and_image_is_the_one_that_an_export_has(source, whole):
    """The order of requests has no effect: they go from the last prediction to the first."""
    decisions = whole["parts"][0]["decisions"]
    assert len(decisions) == 15
    for prediction, decision in reversed(list(enumerate(decisions))):
        images = source.images(KEY, prediction)
        assert images == decision["cameras"]
        assert len(images) == 2
        plan = source.plan(KEY, prediction)
        assert plan.keys() == {"path", "intermediate_plans"}
        assert plan.items() <= decision.items()


@pytest.mark.parametrize(
    "ask",
    ["plan", "images"],
)
def test_what_is_not_there_is_said(source, ask):
    with pytest.raises(WhiskerError, match="prediction 15 of 'pick_place/8': expected 0 to 14"):
        getattr(source, ask)(KEY, 15)
    with pytest.raises(WhiskerError, match="expected one that was run"):
        getattr(source, ask)("pick_place/99", 0)


def test_it_says_what_it_is_doing(opened_run, failure, monkeypatch):
    """Progress is reported until the first episode is open, and the last message is empty."""
    told = []
    monkeypatch.setattr(
        "viz.event_board.EventBoard.say", lambda board, message: told.append(message)
    )
    with closing(RunSource(opened_run, failure)) as source:
        source.episode(KEY)
    assert told[:2] == ["opening so101/pick_place", "reading the shapes of so101/pick_place"]
    assert told[-1] == ""
