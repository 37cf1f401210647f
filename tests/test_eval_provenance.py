"""Tests that a run records where its rows come from.

It is resumed only by a setup that would have made the same rows.
"""

import json
import subprocess
from contextlib import closing
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

CONFIG = make_config(EvalConfig, policy="random", episodes=2)


@pytest.fixture(scope="module")
def described():
    setup = set_up(CONFIG)
    with closing(setup.env):
        return describe(CONFIG, setup)


@pytest.fixture
def run(tmp_path, described):
    with closing(RunFolder.create(tmp_path, described)) as folder:
        return folder.path


@pytest.mark.parametrize(
    "part",
    ["config", "resolved", "env", "versions"],
)
def test_a_run_with_what_this_version_does_not_know_is_not_resumed(run, described, part):
    check_same(Run.open(run), described)
    written = json.loads((run / RUN_FILE).read_text())
    (run / RUN_FILE).write_text(json.dumps(written | {part: written[part] | {"unknown": "3"}}))
    with pytest.raises(
        WhiskerError,
        match=rf"{part}\.unknown: expected 3, got None",
    ):
        check_same(Run.open(run), described)


def test_flags_and_facts_of_the_policy_that_came_later_do_not_keep_a_run_from_being_resumed(
    run, described
):
    written = json.loads((run / RUN_FILE).read_text())
    del written["config"]["recording"]["intermediate_plans"]
    del written["config"]["hook"]
    del written["policy"]["action_mode"]
    (run / RUN_FILE).write_text(json.dumps(written))
    check_same(Run.open(run), described)
    with pytest.raises(WhiskerError, match=r"config\.recording\.samples: expected 1, got 4"):
        check_same(
            Run.open(run),
            replace(
                described,
                config=replace_flags(described.config, samples=4),
            ),
        )


@pytest.mark.parametrize(
    ("near_goal_m", "said"),
    [
        (0.12, None),
        (0.2, "env.goals: expected .*0.2"),
    ],
)
def test_a_run_from_before_goals_had_kinds_is_resumed_if_its_thresholds_are_those_of_now(
    run, described, near_goal_m, said
):
    """The goals of such a run are names, and one table holds the thresholds of all kinds."""
    written = json.loads((run / RUN_FILE).read_text())
    (goal,) = written["env"]["goals"]
    of_doors = {"begun_joint_progress": 0.1, "stalled_joint_progress": 0.02}
    written["env"]["goals"] = ["in block bowl"]
    written["resolved"]["thresholds"] = goal["thresholds"] | of_doors | {"near_goal_m": near_goal_m}
    (run / RUN_FILE).write_text(json.dumps(written))
    (read,) = Run.open(run).description.env.goals
    assert (read.name, read.kind, read.thresholds["near_goal_m"]) == (
        "in block bowl",
        "pick_and_place",
        near_goal_m,
    )
    if said is None:
        check_same(Run.open(run), described)
    else:
        with pytest.raises(WhiskerError, match=said):
            check_same(Run.open(run), described)


def test_a_package_installed_in_somebody_elses_tree_has_no_commit_of_it(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "theirs.py").touch()
    installed = tmp_path / ".venv" / "provenance.py"
    installed.parent.mkdir()
    installed.touch()
    for command in (["init", "-q"], ["add", "theirs.py"], ["commit", "-q", "-m", "theirs"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "theirs.py"))
    assert len(provenance._commit().removesuffix("-dirty")) == 40
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance._commit() == ""
