"""Tests of LIBERO through the commands, in real processes with one episode each."""

import json
import os
import subprocess
import sys

import pytest

from eval.episode_row import load_rows
from eval.run import Run
from tests.processes import only_run
from tests.small_checkpoints import save_small_act

TASK = "libero_object/0"

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_command(main, command):
    code = f"import sys; from eval.cli import {main}; sys.exit({main}())"
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()],
        capture_output=True,
        text=True,
        env=os.environ | {"MUJOCO_GL": "osmesa"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def run_eval(command):
    return run_command("main", f"{command} --run-dir runs --quiet")


@pytest.mark.slow
def test_the_expert_succeeds_in_a_process_of_its_own_and_nothing_else_is_printed(tmp_path):
    done = run_eval(f"--policy scripted --env {TASK} --episodes 1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("100.0 % success (1 of 1")
    run = Run.open(only_run(tmp_path / "runs"))
    (row,) = run.rows
    assert row.task == "libero_object/pick_up_the_alphabet_soup_and_place_it_in_the_basket"
    assert row.goal == "in alphabet_soup_1 basket_1_contain_region"
    arrays = run.load_arrays(row)
    assert arrays.goals_met[-1].all()
    assert not arrays.goals_met[0].any()
    assert arrays.object_height_m.max() > 0.05


@pytest.mark.slow
def test_a_checkpoint_runs_through_both_cameras(tmp_path):
    """The weights are random and solve nothing, but every other part is the real one."""
    save_small_act(tmp_path / "act", 8, 7, cameras=("image", "image2"))
    flags = "--env libero_spatial/0 --episodes 2 --max-steps 9 --no-doctor"
    assert run_eval(f"--checkpoint ./act {flags}").returncode == 0
    run = only_run(tmp_path / "runs")
    description = json.loads((run / "run.json").read_text())
    assert [camera["name"] for camera in description["env"]["cameras"]] == ["image", "image2"]
    assert description["config"]["rollout"]["max_steps"] == 9
    assert description["resolved"]["max_steps"] == 9
    for index, row in enumerate(load_rows(run)):
        found = (row.episode_index, row.n_steps, row.outcome)
        assert found == (index, 9, "never_picked_up")
    assert index == 1


@pytest.mark.slow
def test_recorded_demonstrations_are_replayed(tmp_path):
    recorded = run_command("main_demos", f"--output demo.hdf5 --env {TASK} --episodes 1")
    assert recorded.returncode == 0, recorded.stderr
    assert "robosuite" not in recorded.stderr
    assert "Warning" not in recorded.stderr
    done = run_eval("--policy replay --demos demo.hdf5 --episodes 1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("100.0 % success (1 of 1")
    run = only_run(tmp_path / "runs")
    assert run_command("main", f"--resume {run} --quiet").returncode == 0
    assert len(load_rows(run)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--policy zero --env libero_spatail", "Did you mean 'libero_spatial"),
        ("--policy zero --env libero_goal/12", "libero_goal/0 to libero_goal/9"),
        ("--policy zero --env libero_goal_env", "no BDDL file"),
        # Only the next two cases build an environment.
        pytest.param(
            f"--policy zero --env {TASK} --episodes 51",
            "50 initial states",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            f"--policy zero --env {TASK} --first-episode 49 --episodes 2",
            "indices below 50",
            marks=pytest.mark.slow,
        ),
        (f"--policy replay --env {TASK}", "--demos"),
        ("--policy zero --demos x.hdf5", "--policy replay"),
        ("--policy replay --demos x.hdf5", "x.hdf5"),
    ],
)
def test_bad_input_is_one_clear_error(refusal_of_eval, arguments, said, tmp_path):
    refusal = refusal_of_eval(f"{arguments} --run-dir runs --quiet", cwd=tmp_path)
    assert said in refusal
    assert refusal.count("\n") == 1, refusal
    assert not (tmp_path / "runs").exists()
