"""Tests of robosuite's tasks through the commands, in real processes with one episode each."""

import os
import subprocess
import sys

import pytest

from eval.outcome import Outcome
from eval.run import Run
from sim.registry import task_of
from tests.processes import only_run

KINDS = {
    "Lift": "lift",
    "Stack": "stack",
    "PickPlaceCan": None,
    "Door": "door",
    "Wipe": "wipe",
    "TwoArmLift": "two_handed_lift",
}
# Ten seconds each. Stacking has the rules of pick and place, and other tests lift the cube.
KINDS_WITH_MARKS = [
    pytest.param(name, marks=pytest.mark.exhaustive) if name in ("Lift", "Stack") else name
    for name in KINDS
]

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_eval(command):
    code = "import sys; from eval.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *command.split(), "--run-dir", "runs", "--quiet"],
        capture_output=True,
        text=True,
        env=os.environ | {"MUJOCO_GL": "osmesa"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS_WITH_MARKS)
def test_the_expert_solves_one_episode_of_each_kind_of_goal(tmp_path, name):
    done = run_eval(f"--policy scripted --env robosuite/{name} --episodes 1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("100.0 % success (1 of 1")
    run = Run.open(only_run(tmp_path / "runs"))
    (row,) = run.rows
    assert (row.task, row.goal_kind) == (task_of(f"robosuite/{name}"), KINDS[name])
    arrays = run.load_arrays(row)
    assert arrays.goals_met[-1].all() and not arrays.goals_met[0].any()


@pytest.mark.slow
def test_a_policy_without_skill_fails_at_a_nut_in_the_first_stage(tmp_path):
    """The expert does not solve every episode of a nut, so another policy tries it."""
    done = run_eval("--policy zero --env robosuite/NutAssemblySquare --episodes 1 --max-steps 5")
    assert done.returncode == 0, done.stderr
    (row,) = Run.open(only_run(tmp_path / "runs")).rows
    assert (row.goal_kind, row.outcome, row.failed_stage) == (
        "insert",
        Outcome.NEVER_PICKED_UP,
        "reached",
    )


def test_what_two_arms_cannot_do_is_refused_in_one_sentence():
    done = run_eval("--policy zero --env robosuite/TwoArmLift --episodes 1 --control absolute")
    assert done.returncode == 2
    assert "--control absolute in 'robosuite/TwoArmLift': expected --control delta" in done.stderr
