"""Tests that a run records where its rows come from.

It is resumed only by a setup that would have made the same rows.
"""

import subprocess
from contextlib import closing, nullcontext
from dataclasses import replace

import pytest

from eval import provenance
from eval.config import EvalConfig
from eval.evaluation import set_up
from eval.provenance import check_same, describe
from eval.run import Run
from eval.run_description import RUN_FILE
from eval.run_folder import RunFolder
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from tests.json_files import edited_json


@pytest.fixture(scope="module")
def described():
    config = make_config(
        EvalConfig,
        policy="random",
        episodes=2,
    )
    setup = set_up(config)
    with closing(setup.env):
        return describe(config, setup)


@pytest.fixture
def run(tmp_path, described):
    with closing(RunFolder.create(tmp_path, described)) as folder:
        return folder.path


@pytest.mark.parametrize("part", ["config", "resolved", "env", "versions"])
def test_a_run_with_what_this_version_does_not_know_is_not_resumed(run, described, part):
    check_same(Run.open(run), described)
    with edited_json(run / RUN_FILE) as written:
        written[part]["unknown"] = "3"
    with pytest.raises(WhiskerError, match=rf"{part}\.unknown: expected 3, got None"):
        check_same(Run.open(run), described)


def test_flags_and_facts_of_the_policy_that_came_later_do_not_keep_a_run_from_being_resumed(
    run, described
):
    with edited_json(run / RUN_FILE) as written:
        del written["config"]["recording"]["intermediate_plans"]
        del written["config"]["hook"]
        del written["policy"]["action_mode"]
    check_same(Run.open(run), described)
    sampled = replace_flags(described.config, samples=4)
    with pytest.raises(WhiskerError, match=r"config\.recording\.samples: expected 1, got 4"):
        check_same(Run.open(run), replace(described, config=sampled))


@pytest.mark.parametrize(
    ("near_goal_m", "outcome"),
    [
        (0.12, nullcontext()),
        (0.2, pytest.raises(WhiskerError, match=r"env\.goals: expected .*0\.2")),
    ],
)
def test_a_run_from_before_goals_had_kinds_is_resumed_if_its_thresholds_are_those_of_now(
    run, described, near_goal_m, outcome
):
    """The goals of such a run are names, and one table holds the thresholds of all kinds."""
    with edited_json(run / RUN_FILE) as written:
        (goal,) = written["env"]["goals"]
        written["env"]["goals"] = ["in block bowl"]
        written["resolved"]["thresholds"] = {
            **goal["thresholds"],
            "begun_joint_progress": 0.1,
            "stalled_joint_progress": 0.02,
            "near_goal_m": near_goal_m,
        }
    (read,) = Run.open(run).description.env.goals
    assert read.name == "in block bowl"
    assert read.kind == "pick_and_place"
    assert read.thresholds["near_goal_m"] == near_goal_m
    with outcome:
        check_same(Run.open(run), described)


def test_a_package_installed_in_somebody_elses_tree_has_no_commit_of_it(tmp_path, monkeypatch):
    git = ("git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b")
    theirs = tmp_path / "theirs.py"
    theirs.touch()
    installed = tmp_path / ".venv" / "provenance.py"
    installed.parent.mkdir()
    installed.touch()
    for command in ("init -q", "add theirs.py", "commit -q -m theirs"):
        subprocess.run([*git, *command.split()], check=True)
    monkeypatch.setattr(provenance, "__file__", str(theirs))
    assert len(provenance._commit().removesuffix("-dirty")) == 40
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance._commit() == ""
