"""Tests of what the `whiskers` command writes, and of its messages on errors."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
import pytest

from eval.config import EvalConfig
from eval.outcome import Outcome
from eval.run import Run
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.exports import read_inlined
from tests.recordings import record_run, write_rows
from viz.cli import _write, main
from viz.config import WhiskersConfig
from viz.overlay_style import LINES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def whiskers(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command and returns its exit code, output and errors.

    It runs in an empty folder.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["whiskers", *map(str, arguments)])
        return main(), *capsys.readouterr()

    return run


@pytest.fixture
def refusal(whiskers):
    """Return a function that runs the command and returns the single line of its error message."""

    def run(*arguments):
        code, out, err = whiskers(*arguments)
        assert code == 2
        assert not out
        assert re.fullmatch("whiskers( live)?: .*\n", err)
        return err

    return run


@pytest.fixture
def run(failed_run, tmp_path):
    """Return a copy of the run that a test may damage."""
    return shutil.copytree(failed_run, tmp_path / "run")


@pytest.fixture
def episode_file(run):
    return run / "episodes" / "pick_place" / "8.npz"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['whiskers', '--help']\n"
        "from viz.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'mujoco', 'lerobot', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "--output" in printed
    assert "whiskers live" in printed


def test_a_picture_and_a_film_and_a_page_are_written(whiskers, failed_run, tmp_path):
    code, out, _ = whiskers(
        failed_run, "--output", "a.png", "--step", 110, "--camera", "overhead_cam"
    )
    image = cv2.imread("a.png")
    assert code == 0
    assert "a.png" in out
    assert image.shape[1] >= 960
    plan = (np.abs(image[..., ::-1].astype(int) - LINES["plan"].colour) < 40).all(axis=-1)
    assert plan.sum() > 200
    config = make_config(EvalConfig, policy="scripted", max_steps=9, episodes=1)
    code, *_ = whiskers(record_run(config, tmp_path).path, "--output", "a.mp4")
    assert code == 0
    assert len(iio.imread("a.mp4")) == 10
    code, out, _ = whiskers(failed_run, "--episode", 7, "--output", "a.html")
    assert code == 0
    assert "MB" in out
    assert "</html>" in Path("a.html").read_text()
    assert read_inlined(Path("a.html"))["page"]["key"] == "pick_place/7"


def test_a_picture_is_of_the_step_at_which_it_went_wrong(whiskers, failed_run, failure):
    assert failure.shown_step not in (0, failure.n_steps)
    pictures = []
    for step in ((), ("--step", failure.shown_step)):
        code, *_ = whiskers(failed_run, "--output", "a.png", "--camera", "wrist_cam", *step)
        assert code == 0
        pictures.append(Path("a.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_the_table_is_written_too(whiskers, run):
    code, out, _ = whiskers(run, "--table")
    assert code == 0
    assert "never_picked_up" in out
    rows = [json.loads(line) for line in (run / "plan_quality.jsonl").read_text().splitlines()]
    assert sum(row["kind"] == "episode" for row in rows) == 2


def test_no_such_run(refusal):
    assert "run.json" in refusal("nothing")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--episode", 99), "expected one that was run, got episodes 7, 8"),
        (("--output", "a.png", "--step", 301), "expected 0 to 300"),
        (("--output", "a.png", "--camera", "front"), "overhead_cam"),
        (("--table", "--output", "a.png"), "got --output and --table"),
        (
            ("--camera", "wrist_cam"),
            "--camera: expected together with --output <file>.png or <file>.mp4",
        ),
        (("--step", 3), "--step: expected together with --output <file>.png"),
        (
            ("--intermediate-plans",),
            "--intermediate-plans: expected a run recorded with `eval --intermediate-plans`",
        ),
        (("--policy", "act"), "--policy: expected `whiskers live`"),
        (("--policy", "act"), "knows what it ran"),
        (("--output", "a.gif"), "a file that ends in .html or .mp4 or .png"),
        (("--output", "file/a.html"), "expected a file that can be written"),
    ],
)
def test_what_cannot_be_shown_of_a_run_is_refused(refusal, run, arguments, said):
    Path("file").touch()
    assert said in refusal(run, *arguments)


def test_a_run_of_a_newer_version(refusal, run):
    description = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(description | {"version": 99}))
    assert "expected version 1, got 99. Update whisker-eval." in refusal(run)


def test_a_run_without_snapshots_says_what_to_record(refusal, run, episode_file):
    with np.load(episode_file) as stored:
        arrays = {name: stored[name] for name in stored if "snapshot" not in name}
    np.savez(episode_file, **arrays)
    said = refusal(run, "--output", "a.html")
    assert "an array 'step_snapshot'" in said
    assert "eval --first-episode 8 --episodes 1" in said
    assert not Path("a.html").exists()


def test_a_truncated_episode_file(refusal, run, episode_file):
    os.truncate(episode_file, episode_file.stat().st_size // 2)
    for suffix in ("html", "png", "mp4"):
        said = refusal(run, "--output", f"a.{suffix}")
        assert "expected the recorded arrays" in said
    assert not list(Path().glob("*a.*"))
    assert "expected the recorded arrays" in refusal(run, "--table")


def test_an_episode_that_crashed_before_it_planned(refusal, run, failure):
    crashed = replace(
        failure,
        outcome=Outcome.ERROR,
        error="MemoryError: none left",
        n_predictions=0,
        n_steps=0,
    )
    write_rows(run, [crashed])
    said = refusal(run, "--episode", 8, "--output", "a.html")
    assert "expected a prediction, got none: MemoryError: none left" in said


def test_a_port_in_use(refusal, run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}: expected a free one" in refusal(run, "--port", port)


def test_no_display_for_a_window(refusal, run, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert "--native: expected a display" in refusal(run, "--native")


def test_without_a_run_the_runs_are_listed_and_nothing_else(refusal, run):
    said = refusal()
    assert "folder of runs 'runs': expected a folder that `eval` wrote to, got none" in said
    assert "eval --policy act --episodes 30" in said
    for flags in (
        ("--table",),
        ("--output", "a.html"),
        ("--episode", 0),
        ("--task", "pick_place"),
    ):
        assert f"{flags[0]}: expected a run folder, got none" in refusal(*flags)
        assert f"got the folder '{run.parent}'" in refusal(run.parent, *flags)
    Path("file").touch()
    assert "run.json" in refusal("file")


def test_what_cannot_be_drawn_against_another_run_is_refused(refusal, run, random_run, tmp_path):
    """The list of runs refuses a pair with the same sentences."""
    for flags in (("--native",), ("--output", "a.html"), ("--table",)):
        said = refusal(run, "--against", random_run, *flags)
        assert f"--against: expected the page, which alone draws two runs, got {flags[0]}" in said
    assert not Path("a.html").exists()
    assert "run.json" in refusal(run, "--against", "nowhere")
    assert "run.json" in refusal(run, "--against", run.parent)
    assert "--against: expected a run folder" in refusal(run.parent, "--against", random_run)
    assert "expected another run beside it, got itself" in refusal(run, "--against", run)
    assert "expected one that was run" in refusal(run, "--against", random_run, "--episode", 99)
    longer = make_config(EvalConfig, policy="random", first_episode=7, episodes=1, max_steps=9)
    said = refusal(run, "--against", record_run(longer, tmp_path).path)
    assert "expected episodes that begin and end alike" in said
    none = shutil.copytree(random_run, tmp_path / "none")
    write_rows(none, [])
    assert "expected finished episodes, got none" in refusal(run, "--against", none)


def test_an_episode_that_the_other_run_does_not_have_is_refused(refusal, run, random_run, tmp_path):
    other = Path(shutil.copytree(random_run, tmp_path / "other"))
    write_rows(other, Run.open(random_run).rows[:1])
    said = refusal(run, "--against", other, "--episode", 8)
    assert "episode 'pick_place/8': expected one that both runs have judged" in said


def test_a_file_of_the_page_that_is_missing_is_named(refusal, run, tmp_path, monkeypatch):
    web = shutil.copytree(
        ROOT / "viz/web", tmp_path / "web", ignore=shutil.ignore_patterns("node_modules")
    )
    monkeypatch.setattr("viz.page._WEB", web)
    bundle = web / "dist/viewer.js"
    bundle.unlink()
    expected = f"viewer file {str(bundle)!r}: expected a file that comes with Whisker"
    for arguments in (("--output", "a.html"), ("--no-browser",)):
        assert expected in refusal(run, *arguments)
    assert not Path("a.html").exists()


def test_a_file_that_cannot_be_read_is_not_taken_for_the_one_to_write(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    monkeypatch.setattr("viz.cli._make_file", lambda *asked: gone.read_text())
    with pytest.raises(
        WhiskerError, match=f"file '{gone}': expected a file to read, got No such file"
    ):
        _write(WhiskersConfig(output=Path("a.png")), None, None)


def test_a_run_without_its_rows(refusal, run):
    rows = run / "episodes.jsonl"
    rows.unlink()
    expected = f"rows file '{rows}': expected a row for each episode, got No such file"
    for arguments in ((), ("--table",), ("--output", "a.html")):
        assert expected in refusal(run, *arguments)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--policy akt", "'act'"),
        ("--policy act --max-steps 0", "at least 1"),
        ("--policy scripted --samples 3", "one that has a single plan"),
    ],
)
def test_what_cannot_run_live_is_refused_before_a_page_is_served(refusal, flags, said):
    assert said in refusal("live", *flags.split())
