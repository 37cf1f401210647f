"""Tests of the commands as a user runs them.

A test starts a real process where that matters. Otherwise it stays in this process, which is
quicker.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from eval.config import EvalConfig
from eval.episode_row import ROWS_FILE, load_rows
from sim.flags import find_flags
from tests.processes import catch_ctrl_c


def run_eval(*arguments, cwd=None, **environment):
    command = [sys.executable, "-m", "eval", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def rows_of(run_dir: Path):
    """Return all rows of the one run in `run_dir`, without their durations."""
    (run,) = run_dir.iterdir()
    rows = [json.loads(line) for line in (run / ROWS_FILE).read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "duration_s"} for row in rows]


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from eval.cli import main\n"
        "sys.argv = ['eval', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'mujoco', 'lerobot', 'transformers', "
        "'numpy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    flags = [flag.spelling for flag in find_flags(EvalConfig)]
    assert all(
        flag in done.stdout or flag.replace("--", "--no-", 1) in done.stdout for flag in flags
    )


def test_environments_are_listed_by_suite_or_by_words_and_nothing_is_made(tmp_path):
    def list_envs(*words):
        done = run_eval(
            "--list-envs",
            *words,
            cwd=tmp_path,
            COLUMNS="200",
            MUJOCO_GL="osmesa",
        )
        assert list(tmp_path.iterdir()) == []
        cells = (line.split("│")[1:-1] for line in done.stdout.splitlines() if "│" in line)
        return done, {name.strip(): (text.strip(), last.strip()) for name, text, last in cells}

    done, all_of_them = list_envs()
    assert done.returncode == 0
    assert all_of_them["so101/pick_place_brick"] == (
        "Pick up the brick and place it in the bowl.",
        "300",
    )
    assert all_of_them["libero_10"] == ("10", "520") and "libero_10/9" not in all_of_them
    done, some = list_envs("libero_goal", "DRAWER")
    assert done.returncode == 0 and "libero_goal/0" in some and "so101/pick_place" not in some
    assert all(
        "libero_goal" in name and "drawer" in text.lower() for name, (text, _) in some.items()
    )
    done, none = list_envs("qqqq")
    assert done.returncode == 2 and not none and "no environment that has them" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "atc"], "Did you mean 'sac' or 'act'"),
        (["--policy", "zero", "--env", "so101/pick_plaice"], "Did you mean 'so101/pick_place'"),
        (["--polcy", "act"], "--policy"),
        (["--policy", "zero", "--video", "some"], "failures"),
        (["--policy", "zero", "--episodes", "0"], "--episodes: expected at least 1, got 0"),
        (["--policy", "zero", "--episodes", "-3"], "--episodes: expected at least 1, got -3"),
        (["--policy", "zero", "--first-episode", "-1"], "--first-episode"),
        (["--policy", "zero", "--max-steps", "0"], "--max-steps"),
        (["--policy", "zero", "--n-action-steps", "2"], "--n-action-steps: expected 1 to 1"),
        (["--policy", "zero", "--checkpoint", "act"], "expected no --checkpoint"),
        (["--checkpoint", "./nowhere"], "no such folder"),
        (["--resume", "nowhere"], "a run folder with a run.json"),
        (["--policy", "zero", "--control", "absolute"], "--control absolute in 'so101/pick_place'"),
        (["--policy", "zero", "--control", "relativ"], "absolute"),
        (
            ["--policy.path=x", "--eval.batch_size=1"],
            "Say --checkpoint in place of --policy.path. Leave out --eval.batch",
        ),
    ],
)
def test_bad_input_is_one_clear_error(eval_here, arguments, said, tmp_path):
    done = eval_here(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is made before the input is known to be good"


def test_a_run_directory_that_cannot_be_written(eval_here, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = eval_here(
        "--policy",
        "zero",
        "--episodes",
        1,
        "--run-dir",
        tmp_path / "file" / "runs",
    )
    assert done.returncode == 2 and "--run-dir" in done.stderr


@pytest.mark.slow
def test_what_a_checkpoint_cannot_do_is_refused_before_torch_is_imported(tmp_path):
    """The test puts a `torch` on the path that fails when it is imported."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    for flags, said in (
        (["--samples", 4], "expected a policy that can plan in more than one way"),
        (
            ["--n-action-steps", 99],
            "--n-action-steps: expected 1 to 40 (the chunk's length), got 99",
        ),
        (
            ["--camera-map", "overhead_cam=top"],
            "expected the policy's cameras: overhead_cam, wrist_cam, got top",
        ),
    ):
        done = run_eval(
            "--policy",
            "act",
            *flags,
            cwd=tmp_path,
            PYTHONPATH=str(tmp_path),
        )
        assert done.returncode == 2 and said in " ".join(done.stderr.split())
    assert (
        "torch was imported"
        in run_eval(
            "--policy",
            "act",
            cwd=tmp_path,
            PYTHONPATH=str(tmp_path),
        ).stderr
    )


@pytest.mark.parametrize(
    "policy", [["--policy", "zero"], ["--checkpoint", "small_act"]], ids=lambda p: p[1]
)
def test_no_gl_library_names_the_command(tmp_path, small_act, policy):
    """The test makes the library loader find no OSMesa."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes.util\n_find = ctypes.util.find_library\n"
        "ctypes.util.find_library = lambda name: None if name == 'OSMesa' else _find(name)\n"
    )
    policy = [str(small_act) if word == "small_act" else word for word in policy]
    done = run_eval(
        *policy,
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
        MUJOCO_GL="osmesa",
    )
    assert done.returncode == 2 and "apt-get install -y libosmesa6" in done.stderr


def test_the_table_and_what_to_do_next(tmp_path):
    done = run_eval("--policy", "scripted", "--episodes", 2, "--run-dir", tmp_path)
    assert done.returncode == 0
    for part in (
        "100.0 %  (2 of 2)",
        "Wilson 95 % interval",
        "never_picked_up",
        "pick rate",
        "drop rate",
    ):
        assert part in done.stdout
    (run,) = tmp_path.iterdir()
    assert f"Run folder: {run}" in done.stdout
    assert done.stdout.splitlines()[-3] == f"Report: {run / 'report.html'}"
    assert "2 of 2 episodes succeed" in (run / "report.html").read_text()
    last = done.stdout.splitlines()[-1]
    assert last.startswith(
        "scripted in so101/pick_place: 100.0 % success (2 of 2, 95 % interval 34.2 % to 100.0 %"
    )
    described = json.loads((run / "run.json").read_text())
    assert described["config"]["policy"]["name"] == "scripted" and described["versions"][
        "mujoco"
    ] == version("mujoco")


def test_a_report_that_cannot_be_written_fails_no_run(tmp_path):
    """The disk is full when the report is written."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n_replace = os.replace\n"
        "def replace(source, target, **how):\n"
        "    if str(target).endswith('report.html'): raise OSError(28, 'No space left on device')\n"
        "    _replace(source, target, **how)\n"
        "os.replace = replace\n"
    )
    arguments = (
        "--policy",
        "zero",
        "--episodes",
        1,
        "--max-steps",
        5,
        "--run-dir",
        tmp_path / "runs",
    )
    done = run_eval(*arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0 and "Report:" not in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "report" in line]
    assert line.startswith("eval: warning: the report of") and "No space left on device" in line
    assert "0.0 % success" in done.stdout.splitlines()[-1]


def test_quiet_is_one_line(tmp_path):
    done = run_eval(
        "--policy", "zero", "--episodes", 1, "--max-steps", 5, "--run-dir", tmp_path, "--quiet"
    )
    assert (
        done.stdout.count("\n") == 1
        and done.stderr == ""
        and "0.0 % success (0 of 1" in done.stdout
    )


@pytest.mark.slow
def test_the_same_command_gives_the_same_rows_also_with_videos(eval_here, tmp_path, small_act):
    arguments = ["--checkpoint", small_act, "--episodes", 2, "--max-steps", 25]
    eval_here(*arguments, "--run-dir", tmp_path / "plain")
    filmed = eval_here(
        *arguments,
        "--video",
        "all",
        "--run-dir",
        tmp_path / "filmed",
    )
    assert filmed.returncode == 0
    assert rows_of(tmp_path / "plain") == rows_of(tmp_path / "filmed")
    assert len(list((tmp_path / "filmed").rglob("*.mp4"))) == 2


def wait_for_rows(process, run_dir: Path, n: int):
    """Wait until the run has `n` rows, and return its folder. Fail if the process ends earlier."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        rows = list(run_dir.glob(f"*/{ROWS_FILE}"))
        if rows and rows[0].read_bytes().count(b"\n") >= n:
            return rows[0].parent
        assert process.poll() is None, "ended before it could be stopped"
        time.sleep(0.005)
    raise AssertionError("no rows")


@pytest.mark.parametrize(
    "n_before",
    [
        pytest.param(0, marks=pytest.mark.slow),
        1,
        pytest.param(4, marks=pytest.mark.slow),
    ],
)
def test_resume_after_kill_9_gives_the_rows_of_an_uninterrupted_run(tmp_path, n_before):
    arguments = ["--policy", "scripted", "--episodes", 8]
    run_eval(*arguments, "--run-dir", tmp_path / "whole")
    command = [
        sys.executable,
        "-m",
        "eval",
        *map(str, arguments),
        "--run-dir",
        str(tmp_path / "killed"),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    run = wait_for_rows(process, tmp_path / "killed", n_before)
    process.kill()
    process.wait()
    assert len(load_rows(run)) < 8
    with (run / ROWS_FILE).open("ab") as file:
        file.write(b'{"task": "pick_pl')
    resumed = run_eval("--resume", run)
    assert resumed.returncode == 0 and "100.0 %  (8 of 8)" in resumed.stdout
    assert rows_of(tmp_path / "killed") == rows_of(tmp_path / "whole")


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    command = [
        sys.executable,
        "-m",
        "eval",
        "--policy",
        "scripted",
        "--episodes",
        "200",
        "--run-dir",
        str(tmp_path),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=catch_ctrl_c
    )
    run = wait_for_rows(process, tmp_path, 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"uv run eval --resume {run}" in said and "Traceback" not in said
    assert len(load_rows(run)) >= 2


def test_resuming_with_another_flag_is_refused(eval_here, tmp_path):
    eval_here(
        "--policy",
        "zero",
        "--episodes",
        1,
        "--max-steps",
        3,
        "--run-dir",
        tmp_path,
    )
    (run,) = tmp_path.iterdir()
    for flags, said in (
        (["--max-steps", 9], "--max-steps"),
        (["--episodes", 30], "--episodes"),
        (["--policy=act"], "--pol"),
    ):
        done = eval_here("--resume", run, *flags)
        assert (
            done.returncode == 2 and f"{said}" in done.stderr and "as the run has it" in done.stderr
        )
    assert (
        eval_here(
            "--resume",
            run,
            "--max-steps",
            3,
            "--quiet",
        ).returncode
        == 0
    )


def test_resuming_a_run_whose_outcomes_other_rules_made_is_refused(eval_here, tmp_path):
    """Runs that do not record the version of their outcome rules were judged by version 1."""
    eval_here(
        "--policy",
        "zero",
        "--episodes",
        1,
        "--max-steps",
        3,
        "--run-dir",
        tmp_path,
    )
    (run,) = tmp_path.iterdir()
    description = json.loads((run / "run.json").read_text())
    assert description["resolved"].pop("outcome_rules") == 2
    (run / "run.json").write_text(json.dumps(description))
    done = eval_here("--resume", run)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "expected a run whose outcomes were made by rules 2, got rules 1" in " ".join(
        done.stderr.split()
    )


def test_resuming_with_other_weights_is_refused(eval_here, tmp_path, small_act):
    checkpoint = shutil.copytree(small_act, tmp_path / "checkpoint")
    eval_here(
        "--checkpoint",
        checkpoint,
        "--episodes",
        1,
        "--max-steps",
        3,
        "--run-dir",
        tmp_path / "runs",
    )
    weights = load_file(checkpoint / "model.safetensors")
    save_file(weights | {"model.action_head.bias": weights["model.action_head.bias"] + 1},
              checkpoint / "model.safetensors")  # fmt: skip
    (run,) = (tmp_path / "runs").iterdir()
    done = eval_here("--resume", run)
    assert done.returncode == 2 and "model.safetensors" in done.stderr


def test_crashes_of_the_policy_are_errors_and_exit_with_3(eval_here, tmp_path, small_act):
    """The checkpoint's action head contains NaN."""
    checkpoint = shutil.copytree(small_act, tmp_path / "checkpoint")
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.action_head.bias"] = torch.full_like(
        weights["model.action_head.bias"], torch.nan
    )
    save_file(weights, checkpoint / "model.safetensors")
    done = eval_here(
        "--checkpoint", checkpoint, "--episodes", 2, "--run-dir", tmp_path / "runs", "--no-doctor"
    )
    assert done.returncode == 3 and "weights: NaN or infinite" in done.stderr
    rows = rows_of(tmp_path / "runs")
    assert [row["outcome"] for row in rows] == ["error", "error"] and "NaN" in rows[0]["error"]
    assert "(0 of 0)" in done.stdout
