"""The printed code of two pages works: `docs/extending.md` and `docs/run-folder.md`.

The commands of `docs/extending.md` work too.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from eval.run import Run

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "extending.md").read_text()
COMMANDS = Path(sys.executable).parent
PYTHON_BLOCK = re.compile(
    r"^```python\n(.*?)^```",
    re.DOTALL | re.MULTILINE,
)


def python_files():
    """Return file name → source of the page's Python blocks. Their first lines name the files."""
    sources = PYTHON_BLOCK.findall(PAGE)
    return {source.partition("\n")[0].removeprefix("# "): source for source in sources}


@pytest.fixture
def folder(tmp_path):
    """Return a folder that contains the page's files."""
    for name, source in python_files().items():
        (tmp_path / name).write_text(source)
    return tmp_path


def run(folder, name, *arguments):
    """Run a command in that folder, without `./run`, and return what it prints."""
    done = subprocess.run(
        [COMMANDS / name, *arguments],
        cwd=folder,
        env=os.environ | {"MUJOCO_GL": "osmesa"},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Traceback" not in said
    return done.stdout


def open_run(folder, policy):
    (path,) = (folder / "runs").glob(f"*-{policy}-*")
    return Run.open(path)


def run_example_of_run_folder(path, folder):
    """Run the code of `docs/run-folder.md` on that run, with the name of the run's one camera."""
    (example,) = PYTHON_BLOCK.findall((DOCS / "run-folder.md").read_text())
    example = re.sub(r'"runs/[^"]*"', repr(str(path)), example).replace("wrist_cam", "top")
    example += "print(path_m.shape[1], env.spec.cameras[0].width_px)"
    return run(folder, "python", "-c", example)


@pytest.mark.slow
def test_the_commands_of_the_page_run_and_its_policy_succeeds(folder):
    commands = re.findall(
        r"^    \./run (eval.*)$",
        PAGE,
        re.MULTILINE,
    )
    assert len(commands) == 4
    for command in commands:
        run(folder, *shlex.split(command))
    recorded = open_run(folder, "see_and_reach")
    assert [row.outcome for row in recorded.rows] == ["success"] * 5
    assert len(open_run(folder, "random").rows) == 5

    output = run_example_of_run_folder(recorded.path, folder)
    assert output.splitlines()[1:] == [*(f"{index} success" for index in range(5)), "3 320"]


def test_a_goal_of_the_pages_kind_is_judged_by_its_stages(folder):
    plain = "Progress(met=bool(distance_m < 0.015))"
    detailed = (
        'Progress(bool(distance_m < 0.015), {"near": bool(distance_m < 0.06)}, '
        '{"ball_distance_m": float(distance_m)}, self.data.mocap_pos[0].copy())'
    )
    source = python_files()["reach.py"]
    for old, new in {
        "from sim.goals.goal import SUCCESS_ONLY": "from reach_goal import GOAL",
        'SUCCESS_ONLY.goal("touch ball")': "GOAL",
        plain: detailed,
    }.items():
        assert source.count(old) == 1
        source = source.replace(old, new)
    (folder / "reach.py").write_text(source)
    command = "eval --policy zero --env reach:toys/reach --episodes 2 --quiet"
    run(folder, *command.split())
    for row in open_run(folder, "zero").rows:
        assert (row.outcome, row.failed_stage, row.goal_kind) == ("timeout", "near", "reach")
        assert row.final_measures["ball_distance_m"] > 0.06
