"""Tests of what the `whiskers` command writes, and of its messages on errors."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
import pytest

from eval.episode_row import load_rows
from sim.errors import WhiskerError
from viz.cli import _write, main
from viz.config import WhiskersConfig
from viz.overlay_style import LINES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def whiskers(monkeypatch, capsys):
    """Return a function that runs the command and returns its exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(
            "sys.argv",
            ["whiskers", *map(str, arguments)],
        )
        code = main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def run(failed_run, tmp_path):
    """Return a copy of the run that a test may damage."""
    return shutil.copytree(failed_run, tmp_path / "run")


def episode_file(run, index):
    return run / "episodes" / "pick_place" / f"{index}.npz"


def refused(answer):
    """Return the single line of the error message."""
    code, out, err = answer
    assert (
        code == 2
        and not out
        and err.startswith(("whiskers: ", "whiskers live: "))
        and err.count("\n") == 1
    )
    return err


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['whiskers', '--help']\n"
        "from viz.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'mujoco', 'lerobot', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "--output" in done.stdout and "whiskers live" in done.stdout


def test_a_picture_and_a_film_and_a_page_are_written(whiskers, failed_run, tmp_path):
    code, out, _ = whiskers(
        failed_run, "--output", tmp_path / "a.png", "--step", 110, "--camera", "overhead_cam"
    )
    image = cv2.imread(str(tmp_path / "a.png"))
    assert code == 0 and "a.png" in out and image.shape[1] >= 960
    plan = (np.abs(image[..., ::-1].astype(int) - LINES["plan"].colour) < 40).all(axis=-1)
    assert plan.sum() > 200
    n_steps = next(row.n_steps for row in load_rows(failed_run) if row.episode_index == 7)
    code, out, _ = whiskers(
        failed_run,
        "--episode",
        7,
        "--output",
        tmp_path / "a.mp4",
    )
    assert code == 0 and len(iio.imread(tmp_path / "a.mp4")) == n_steps + 1
    code, out, _ = whiskers(failed_run, "--output", tmp_path / "a.html")
    assert code == 0 and "MB" in out and "</html>" in (tmp_path / "a.html").read_text()


def test_a_picture_is_of_the_step_at_which_it_went_wrong(whiskers, failed_run, tmp_path):
    (failed,) = [row for row in load_rows(failed_run) if not row.success]
    assert failed.shown_step not in (0, failed.n_steps)
    for name, *step in (("default.png",), ("there.png", "--step", failed.shown_step)):
        assert (
            whiskers(
                failed_run,
                "--output",
                tmp_path / name,
                "--camera",
                "wrist_cam",
                *step,
            )[0]
            == 0
        )
    assert (tmp_path / "default.png").read_bytes() == (tmp_path / "there.png").read_bytes()


def test_the_table_is_written_too(whiskers, run):
    code, out, _ = whiskers(run, "--table")
    assert code == 0 and "never_picked_up" in out
    rows = [json.loads(line) for line in (run / "plan_quality.jsonl").read_text().splitlines()]
    assert sum(row["kind"] == "episode" for row in rows) == 2


def test_no_such_run_or_episode(whiskers, run, tmp_path):
    assert "run.json" in refused(whiskers(tmp_path / "nothing"))
    assert "expected one that was run, got episodes 7, 8" in refused(whiskers(run, "--episode", 99))
    assert "expected 0 to 300" in refused(
        whiskers(run, "--output", tmp_path / "a.png", "--step", 301)
    )
    assert "overhead_cam" in refused(
        whiskers(run, "--output", tmp_path / "a.png", "--camera", "front")
    )


def test_a_run_of_a_newer_version(whiskers, run):
    description = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(description | {"version": 99}))
    assert "expected version 1, got 99. Update whisker-eval." in refused(whiskers(run))


def test_a_run_without_snapshots_says_what_to_record(whiskers, run, tmp_path):
    with np.load(episode_file(run, 8)) as stored:
        arrays = {name: stored[name] for name in stored if "snapshot" not in name}
    np.savez(episode_file(run, 8), **arrays)
    said = refused(whiskers(run, "--output", tmp_path / "a.html"))
    assert "an array 'step_snapshot'" in said and "eval --first-episode 8 --episodes 1" in said
    assert not (tmp_path / "a.html").exists()


def test_a_truncated_episode_file(whiskers, run, tmp_path):
    content = episode_file(run, 8).read_bytes()
    episode_file(run, 8).write_bytes(content[: len(content) // 2])
    for suffix in ("html", "png", "mp4"):
        assert "expected the recorded arrays" in refused(
            whiskers(run, "--output", tmp_path / f"a.{suffix}")
        )
    assert not list(tmp_path.glob("*a.*"))
    assert "expected the recorded arrays" in refused(whiskers(run, "--table"))


def test_an_episode_that_crashed_before_it_planned(whiskers, run, tmp_path):
    rows = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    crashed = rows[1] | {
        "outcome": "error",
        "error": "MemoryError: none left",
        "n_predictions": 0,
        "n_steps": 0,
    }
    (run / "episodes.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in (rows[0], crashed))
    )
    said = refused(
        whiskers(
            run,
            "--episode",
            8,
            "--output",
            tmp_path / "a.html",
        )
    )
    assert "expected a prediction, got none: MemoryError: none left" in said


def test_a_port_in_use(whiskers, run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}: expected a free one" in refused(whiskers(run, "--port", port))


def test_no_display_for_a_window(whiskers, run, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert "--native: expected a display" in refused(whiskers(run, "--native"))


def test_it_must_be_clear_what_is_wanted(whiskers, run, tmp_path):
    assert "got --output and --table" in refused(
        whiskers(run, "--table", "--output", tmp_path / "a.png")
    )
    assert "--camera: expected together with --output <file>.png or <file>.mp4" in refused(
        whiskers(run, "--camera", "wrist_cam")
    )
    assert "--step: expected together with --output <file>.png" in refused(
        whiskers(run, "--step", 3)
    )
    assert (
        "--intermediate-plans: expected a run recorded with `eval --intermediate-plans`"
        in refused(whiskers(run, "--intermediate-plans"))
    )
    said = refused(whiskers(run, "--policy", "act"))
    assert "--policy: expected `whiskers live`" in said and "knows what it ran" in said
    assert "a file that ends in .html or .mp4 or .png" in refused(
        whiskers(run, "--output", tmp_path / "a.gif")
    )


def test_without_a_run_the_runs_are_listed_and_nothing_else(whiskers, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refused(whiskers())
    assert "folder of runs 'runs': expected a folder that `eval` wrote to, got none" in said
    assert "eval --policy act --episodes 30" in said
    for flags in (
        ("--table",),
        ("--output", tmp_path / "a.html"),
        ("--episode", 0),
        ("--task", "pick_place"),
    ):
        assert f"{flags[0]}: expected a run folder, got none" in refused(whiskers(*flags))
        assert f"got the folder '{run.parent}'" in refused(whiskers(run.parent, *flags))
    (tmp_path / "file").touch()
    assert "run.json" in refused(whiskers(tmp_path / "file"))


def test_a_place_that_cannot_be_written_to(whiskers, run, tmp_path):
    (tmp_path / "file").touch()
    assert "expected a file that can be written" in refused(
        whiskers(run, "--output", tmp_path / "file" / "a.html")
    )


def test_a_file_of_the_page_that_is_missing_is_named(whiskers, run, tmp_path, monkeypatch):
    web = shutil.copytree(
        ROOT / "viz/web", tmp_path / "web", ignore=shutil.ignore_patterns("node_modules")
    )
    monkeypatch.setattr("viz.page._WEB", web)
    (web / "dist/viewer.js").unlink()
    for arguments in (("--output", tmp_path / "a.html"), ("--no-browser",)):
        said = refused(whiskers(run, *arguments))
        assert (
            f"viewer file {str(web / 'dist/viewer.js')!r}: expected a file that comes with Whisker"
            in said
        )
    assert not (tmp_path / "a.html").exists()


def test_a_file_that_cannot_be_read_is_not_taken_for_the_one_to_write(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    monkeypatch.setattr("viz.cli._make_file", lambda *asked: gone.read_text())
    with pytest.raises(
        WhiskerError, match=f"file '{gone}': expected a file to read, got No such file"
    ):
        _write(WhiskersConfig(output=tmp_path / "a.png"), None, None)


def test_a_run_without_its_rows(whiskers, run, tmp_path):
    (run / "episodes.jsonl").unlink()
    for arguments in ((), ("--table",), ("--output", tmp_path / "a.html")):
        said = refused(whiskers(run, *arguments))
        assert (
            f"rows file '{run / 'episodes.jsonl'}': "
            "expected a row for each episode, got No such file" in said
        )


def test_what_cannot_run_live_is_refused_before_a_page_is_served(whiskers):
    assert "'act'" in refused(whiskers("live", "--policy", "akt"))
    assert "at least 1" in refused(whiskers("live", "--policy", "act", "--max-steps", 0))
    assert "one that has a single plan" in refused(
        whiskers("live", "--policy", "scripted", "--samples", 3)
    )
