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

import numpy as np
import pytest

from eval.config import EvalConfig
from eval.episode_row import ROWS_FILE, load_rows
from sim.flags import find_flags
from tests.bug_plants import weights
from tests.processes import catch_ctrl_c, only_run

SHORT = "--policy zero --episodes 1 --max-steps 3 --run-dir"


def command_of(command_line, *arguments):
    return [sys.executable, "-m", "eval", *command_line.split(), *map(str, arguments)]


def run_eval(*arguments, **environment):
    done = subprocess.run(
        command_of(*arguments), capture_output=True, text=True, env=os.environ | environment
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def rows_of(run_dir):
    """Return all rows of the one run in `run_dir`, sorted by index, without their durations."""
    lines = (only_run(run_dir) / ROWS_FILE).read_text().splitlines()
    rows = [json.loads(line) | {"duration_s": None} for line in lines]
    return sorted(rows, key=lambda row: row["episode_index"])


@pytest.fixture
def short_run(eval_here, tmp_path):
    eval_here(SHORT, tmp_path)
    return only_run(tmp_path)


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
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.splitlines()[-1] == "[]"
    for flag in find_flags(EvalConfig):
        negated = flag.spelling.replace("--", "--no-", 1)
        assert flag.spelling in printed or negated in printed


@pytest.fixture
def list_envs(eval_here, monkeypatch, tmp_path):
    """Return a function that lists environments: name → other cells, and what was printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def list_them(*words):
        done = eval_here("--list-envs", *words, cwd=tmp_path)
        assert list(tmp_path.iterdir()) == [], "nothing is made"
        lines = [line.split("│")[1:-1] for line in done.stdout.splitlines() if "│" in line]
        return {first.strip(): tuple(map(str.strip, others)) for first, *others in lines}, done

    return list_them


def test_environments_are_listed_by_suite(list_envs):
    listed, done = list_envs()
    assert done.returncode == 0
    brick = ("Pick up the brick and place it in the bowl.", "300")
    assert listed["so101/pick_place_brick"] == brick
    assert listed["libero_10"] == ("10", "520")
    assert "libero_10/9" not in listed
    assert listed["SO-101"] == ("copied", "yes", "yes")
    assert listed["SimplerEnv"][:2] == ("replayed", "yes")


def test_environments_are_listed_by_words(list_envs):
    listed, done = list_envs("libero_goal", "DRAWER")
    assert done.returncode == 0
    assert "libero_goal/0" in listed
    for name, (text, _) in listed.items():
        assert "libero_goal" in name
        assert "drawer" in text.lower()
    listed, done = list_envs("qqqq")
    assert done.returncode == 2
    assert not listed
    assert "no environment that has them" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--policy atc", "Did you mean 'sac' or 'act'"),
        ("--policy zero --env so101/pick_plaice", "Did you mean 'so101/pick_place'"),
        ("--polcy act", "--policy"),
        ("--policy zero --video some", "failures"),
        ("--policy zero --episodes 0", "--episodes: expected at least 1, got 0"),
        ("--policy zero --episodes -3", "--episodes: expected at least 1, got -3"),
        ("--policy zero --first-episode -1", "--first-episode"),
        ("--policy zero --max-steps 0", "--max-steps"),
        ("--policy zero --n-action-steps 2", "--n-action-steps: expected 1 to 1"),
        ("--policy zero --checkpoint act", "expected no --checkpoint"),
        ("--checkpoint ./nowhere", "no such folder"),
        ("--resume nowhere", "a run folder with a run.json"),
        ("--policy zero --control absolute", "--control absolute in 'so101/pick_place'"),
        ("--policy zero --control relativ", "absolute"),
        (
            "--policy.path=x --eval.batch_size=1",
            "Say --checkpoint in place of --policy.path. Leave out --eval.batch",
        ),
    ],
)
def test_bad_input_is_one_clear_error(eval_here, arguments, said, tmp_path):
    done = eval_here(arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is made before the input is known to be good"


def test_a_run_directory_that_cannot_be_written(refusal_of_eval, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "--run-dir" in refusal_of_eval(SHORT, tmp_path / "file" / "runs")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--samples 4", "expected a policy that can plan in more than one way"),
        (
            "--n-action-steps 99",
            "--n-action-steps: expected 1 to 40 (the chunk's length), got 99",
        ),
        (
            "--camera-map overhead_cam=top",
            "expected the policy's cameras: overhead_cam, wrist_cam, got top",
        ),
        ("", "torch was imported"),
    ],
)
def test_what_a_checkpoint_cannot_do_is_refused_before_torch_is_imported(tmp_path, flags, said):
    """The test puts a `torch` on the path that fails when it is imported."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = run_eval(f"--policy act {flags}", PYTHONPATH=str(tmp_path))
    assert said in " ".join(done.stderr.split())
    assert not flags or done.returncode == 2


@pytest.mark.parametrize("is_checkpoint", [False, True])
def test_no_gl_library_names_the_command(tmp_path, small_act, is_checkpoint):
    """The test makes the library loader find no OSMesa."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctypes.util\n_find = ctypes.util.find_library\n"
        "ctypes.util.find_library = lambda name: None if name == 'OSMesa' else _find(name)\n"
    )
    policy = f"--checkpoint {small_act}" if is_checkpoint else "--policy zero"
    done = run_eval(policy, PYTHONPATH=str(tmp_path), MUJOCO_GL="osmesa")
    assert done.returncode == 2
    assert "apt-get install -y libosmesa6" in done.stderr


def test_the_table_and_what_to_do_next(eval_succeeds, tmp_path):
    done = eval_succeeds("--policy scripted --episodes 2 --run-dir", tmp_path)
    run = only_run(tmp_path)
    for part in (
        "100.0 %  (2 of 2)",
        "Wilson 95 % interval",
        "never_picked_up",
        "pick rate",
        "drop rate",
        f"Run folder: {run}",
    ):
        assert part in done.stdout
    *_, report, _, last = done.stdout.splitlines()
    assert report == f"Report: {run / 'report.html'}"
    assert "2 of 2 episodes succeed" in (run / "report.html").read_text()
    assert last.startswith(
        "scripted in so101/pick_place: 100.0 % success (2 of 2, 95 % interval 34.2 % to 100.0 %"
    )
    described = json.loads((run / "run.json").read_text())
    assert described["config"]["policy"]["name"] == "scripted"
    assert described["versions"]["mujoco"] == version("mujoco")


def test_a_report_that_cannot_be_written_fails_no_run(eval_succeeds, monkeypatch, tmp_path):
    """The disk is full when the report is written."""
    replace = os.replace

    def fail_for_report(source, target, **how):
        if str(target).endswith("report.html"):
            raise OSError(28, "No space left on device")
        replace(source, target, **how)

    monkeypatch.setattr(os, "replace", fail_for_report)
    done = eval_succeeds(SHORT, tmp_path)
    assert "Report:" not in done.stdout
    assert "0.0 % success" in done.stdout.splitlines()[-1]
    (line,) = [line for line in done.stderr.splitlines() if "report" in line]
    assert line.startswith("eval: warning: the report of")
    assert "No space left on device" in line


def test_quiet_is_one_line(tmp_path):
    done = run_eval(SHORT, tmp_path, "--quiet")
    assert done.stdout.count("\n") == 1
    assert "0.0 % success (0 of 1" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_the_same_command_gives_the_same_rows_also_with_videos(eval_succeeds, tmp_path, small_act):
    command = f"--checkpoint {small_act} --episodes 2 --max-steps 25 --run-dir"
    eval_succeeds(command, tmp_path / "plain")
    eval_succeeds(command, tmp_path / "filmed", "--video", "all")
    assert rows_of(tmp_path / "plain") == rows_of(tmp_path / "filmed")
    assert len(list((tmp_path / "filmed").rglob("*.mp4"))) == 2


def wait_for_rows(process, run_dir, n):
    """Wait until the run has `n` rows, and return its folder. Fail if the process ends earlier.

    A run that is still being made has a hidden folder, which gets its name at the end.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        rows = list(run_dir.glob(f"[!.]*/{ROWS_FILE}"))
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
def test_resume_after_kill_9_gives_the_rows_of_an_uninterrupted_run(eval_here, tmp_path, n_before):
    command = "--policy scripted --episodes 8 --run-dir"
    eval_here(command, tmp_path / "whole")
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        command_of(command, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    run = wait_for_rows(process, killed, n_before)
    process.kill()
    process.wait()
    assert len(load_rows(run)) < 8
    with (run / ROWS_FILE).open("ab") as file:
        file.write(b'{"task": "pick_pl')
    resumed = run_eval("--resume", run)
    assert resumed.returncode == 0
    assert "100.0 %  (8 of 8)" in resumed.stdout
    assert rows_of(killed) == rows_of(tmp_path / "whole")


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    command = command_of("--policy scripted --episodes 200 --run-dir", tmp_path)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=catch_ctrl_c
    )
    run = wait_for_rows(process, tmp_path, 2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"uv run eval --resume {run}" in said
    assert "Traceback" not in said
    assert len(load_rows(run)) >= 2


def test_resuming_with_another_flag_is_refused(eval_succeeds, refusal_of_eval, short_run):
    resume = f"--quiet --resume {short_run}"
    for flag, said in (
        ("--max-steps 9", "--max-steps"),
        ("--episodes 30", "--episodes"),
        ("--policy=act", "--pol"),
    ):
        refusal = refusal_of_eval(f"{resume} {flag}")
        assert said in refusal
        assert "as the run has it" in refusal
    eval_succeeds(f"{resume} --max-steps 3")


def test_resuming_a_run_whose_outcomes_other_rules_made_is_refused(refusal_of_eval, short_run):
    """Runs that do not record the version of their outcome rules were judged by version 1."""
    description = json.loads((short_run / "run.json").read_text())
    assert description["resolved"].pop("outcome_rules") == 2
    (short_run / "run.json").write_text(json.dumps(description))
    refusal = refusal_of_eval("--resume", short_run)
    assert "Traceback" not in refusal
    said = "expected a run whose outcomes were made by rules 2, got rules 1"
    assert said in " ".join(refusal.split())


@pytest.fixture
def checkpoint(small_act, tmp_path):
    """Return a copy of the small ACT that a test may damage."""
    return shutil.copytree(small_act, tmp_path / "checkpoint")


def add_to_bias(folder, number):
    """Add a number to the bias of the checkpoint's action head."""
    bias = "model.action_head.bias"
    weights(lambda name, value: value + np.float32(number) if name == bias else value)(folder)


@pytest.mark.slow
def test_resuming_with_other_weights_is_refused(eval_here, refusal_of_eval, tmp_path, checkpoint):
    runs = tmp_path / "runs"
    eval_here(f"--checkpoint {checkpoint} --episodes 1 --max-steps 3 --run-dir", runs)
    add_to_bias(checkpoint, 1)
    assert "model.safetensors" in refusal_of_eval("--resume", only_run(runs))


def test_crashes_of_the_policy_are_errors_and_exit_with_3(eval_here, tmp_path, checkpoint):
    add_to_bias(checkpoint, np.nan)
    runs = tmp_path / "runs"
    done = eval_here(f"--checkpoint {checkpoint} --episodes 2 --no-doctor --run-dir", runs)
    assert done.returncode == 3
    assert "weights: NaN or infinite" in done.stderr
    rows = rows_of(runs)
    assert [row["outcome"] for row in rows] == ["error", "error"]
    assert "NaN" in rows[0]["error"]
    assert "(0 of 0)" in done.stdout
