"""Tests of LIBERO through the commands, in real processes with one episode each."""

import json
import os
import subprocess
import sys

import pytest

from eval.episode_row import load_rows
from eval.run import Run
from tests.small_checkpoints import save_small_act

TASK = "libero_object/0"


def run_command(module_and_main: str, *arguments, cwd):
    module, _, main = module_and_main.partition(":")
    code = f"import sys; from {module} import {main}; sys.exit({main}())"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=os.environ | {"MUJOCO_GL": "osmesa"}
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def run_eval(*arguments, cwd):
    return run_command(
        "eval.cli:main",
        *arguments,
        "--run-dir",
        "runs",
        "--quiet",
        cwd=cwd,
    )


def only_run(folder):
    (run,) = (folder / "runs").iterdir()
    return run


@pytest.mark.slow
def test_the_expert_succeeds_in_a_process_of_its_own_and_nothing_else_is_printed(tmp_path):
    done = run_eval(
        "--policy",
        "scripted",
        "--env",
        TASK,
        "--episodes",
        1,
        cwd=tmp_path,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("100.0 % success (1 of 1")
    (row,) = load_rows(only_run(tmp_path))
    assert row.task == "libero_object/pick_up_the_alphabet_soup_and_place_it_in_the_basket"
    assert row.goal == "in alphabet_soup_1 basket_1_contain_region"
    arrays = Run.open(only_run(tmp_path)).load_arrays(row)
    assert arrays.goals_met[-1].all() and not arrays.goals_met[0].any()
    assert arrays.object_height_m.max() > 0.05


@pytest.mark.slow
def test_a_checkpoint_runs_through_both_cameras(tmp_path):
    """The weights are random and solve nothing, but every other part is the real one."""
    save_small_act(
        tmp_path / "act",
        8,
        7,
        cameras=("image", "image2"),
    )
    arguments = (
        "--checkpoint",
        "act",
        "--env",
        "libero_spatial/0",
        "--episodes",
        2,
        "--max-steps",
        9,
        "--no-doctor",
    )
    assert run_eval(*arguments, cwd=tmp_path).returncode == 0
    description = json.loads((only_run(tmp_path) / "run.json").read_text())
    assert [camera["name"] for camera in description["env"]["cameras"]] == ["image", "image2"]
    assert description["config"]["rollout"]["max_steps"] == 9
    assert description["resolved"]["max_steps"] == 9
    rows = load_rows(only_run(tmp_path))
    assert [row.episode_index for row in rows] == [0, 1]
    assert all(row.n_steps == 9 and row.outcome == "never_picked_up" for row in rows)


@pytest.mark.slow
def test_recorded_demonstrations_are_replayed(tmp_path):
    recorded = run_command(
        "eval.cli:main_demos", "--output", "demo.hdf5", "--env", TASK, "--episodes", 1, cwd=tmp_path
    )
    assert recorded.returncode == 0, recorded.stderr
    assert "robosuite" not in recorded.stderr and "Warning" not in recorded.stderr
    done = run_eval(
        "--policy",
        "replay",
        "--demos",
        "demo.hdf5",
        "--episodes",
        1,
        cwd=tmp_path,
    )
    assert done.returncode == 0 and done.stdout.startswith("100.0 % success (1 of 1"), done.stderr
    resumed = run_command(
        "eval.cli:main",
        "--resume",
        only_run(tmp_path),
        "--quiet",
        cwd=tmp_path,
    )
    assert resumed.returncode == 0 and len(load_rows(only_run(tmp_path))) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "zero", "--env", "libero_spatail"], "Did you mean 'libero_spatial"),
        (["--policy", "zero", "--env", "libero_goal/12"], "libero_goal/0 to libero_goal/9"),
        (["--policy", "zero", "--env", "libero_goal_env"], "no BDDL file"),
        # Only the next two cases build an environment.
        pytest.param(
            ["--policy", "zero", "--env", TASK, "--episodes", "51"],
            "50 initial states",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["--policy", "zero", "--env", TASK, "--first-episode", "49", "--episodes", "2"],
            "indices below 50",
            marks=pytest.mark.slow,
        ),
        (["--policy", "replay", "--env", TASK], "--demos"),
        (["--policy", "zero", "--demos", "x.hdf5"], "--policy replay"),
        (["--policy", "replay", "--demos", "x.hdf5"], "x.hdf5"),
    ],
)
def test_bad_input_is_one_clear_error(eval_here, arguments, said, tmp_path):
    done = eval_here(
        *arguments,
        "--run-dir",
        "runs",
        "--quiet",
        cwd=tmp_path,
    )
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )
    assert not (tmp_path / "runs").exists()
