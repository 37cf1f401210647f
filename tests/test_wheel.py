"""The wheel is complete, and every command works where only the wheel is installed."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from eval.config import EvalConfig
from eval.episode_row import load_rows
from sim.flags import make_config
from tests.recordings import record_run

ROOT = Path(__file__).parents[1]
PACKAGES = ("sim", "policies", "cknna", "eval", "viz")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@dataclass(frozen=True)
class Installed:
    """An environment that has Whisker from its wheel alone.

    Attributes:
        bin_folder: the folder of its commands.
        folder: the commands run here; no folder above it belongs to the repository.
    """

    bin_folder: Path
    folder: Path

    def start(self, command, *arguments):
        environ = {**os.environ, "PYTHONPATH": ""}
        environ.pop("VIRTUAL_ENV", None)
        return subprocess.Popen(
            [self.bin_folder / command, *arguments],
            cwd=self.folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command, *arguments):
        """Return what the command printed, and assert that it succeeded."""
        with self.start(command, *arguments) as process:
            out, err = process.communicate()
        assert process.returncode == 0, f"{command} {arguments}: {process.returncode}\n{out}\n{err}"
        return out


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a new environment with the wheel, which `uv build` makes as for a release.

    The environment borrows our dependencies. Nothing is downloaded, because the build backend is
    among the development dependencies.
    """
    folder = tmp_path_factory.mktemp("installed")
    dist = folder / "dist"
    env = folder / "env"
    uv = shutil.which(
        "uv",
        path=f"{ROOT / '.uv/bin'}{os.pathsep}{os.environ['PATH']}",
    )
    assert uv, "these tests need uv, which ./run installs"

    def run_uv(*arguments):
        subprocess.run(
            [uv, *arguments, "--offline", "--quiet"],
            cwd=ROOT,
            check=True,
        )

    run_uv(
        "build",
        "--no-build-isolation",
        "--python",
        sys.executable,
        "--out-dir",
        dist,
    )
    run_uv("venv", "--python", sys.executable, env)
    (wheel,) = dist.glob("*.whl")
    run_uv(
        "pip",
        "install",
        "--no-deps",
        "--python",
        env / "bin/python",
        wheel,
    )
    # Python searches a folder from a .pth file last, and reads no .pth file in it. The repository
    # is therefore not on the path.
    site_packages = env / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    work = folder / "work"
    work.mkdir()
    installed = Installed(env / "bin", work)
    for package in PACKAGES:
        file = installed.run(
            "python",
            "-c",
            f"import {package}; print({package}.__file__)",
        )
        assert Path(file).is_relative_to(site_packages)
    return installed


@pytest.mark.parametrize("builder", [WheelBuilder, SdistBuilder])
def test_every_tracked_file_of_the_packages_is_packaged(builder):
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *PACKAGES], cwd=ROOT, capture_output=True, check=True
    )
    tracked = set(listed.stdout.decode().rstrip("\0").split("\0"))
    packaged = {file.distribution_path for file in builder(str(ROOT)).recurse_included_files()}
    assert {"viz/web/dist/viewer.js", "policies/checkpoints/act/model.safetensors"} <= tracked
    assert tracked <= packaged


@pytest.fixture(scope="module")
def run(installed):
    """Return a run folder that the installed `eval` made."""
    installed.run("eval", "--policy", "act", "--episodes", "1", "--record-observations")
    (run,) = (installed.folder / "runs").iterdir()
    return run


def _eval(installed, run):
    """The row equals the one from the repository's own code."""
    config = make_config(EvalConfig, policy="act", episodes=1)
    (expected,) = record_run(config, installed.folder / "twin").rows
    (row,) = load_rows(run)
    assert row == replace(expected, duration_s=row.duration_s)
    assert not row.error


def _eval_doctor(installed, run):
    assert "act" in installed.run("eval-doctor", "--checkpoint", "act")


def _eval_compare(installed, run):
    shutil.copytree(run, installed.folder / "copy")
    assert "Both ran the same policy" in installed.run("eval-compare", run, "copy")


def _eval_sweep(installed, run):
    flags = ("--policy", "zero", "random", "--episodes", "1", "--max-steps", "2", "--no-doctor")
    assert "success by policy" in installed.run("eval-sweep", *flags, "--run-dir", "sweeps")
    (folder,) = (installed.folder / "sweeps").iterdir()
    assert "whisker sweep" in (folder / "sweep.html").read_text()


def _eval_demos(installed, run):
    installed.run("eval-demos", "--output", "demos", "--episodes", "1")
    info = json.loads((installed.folder / "demos/meta/info.json").read_text())
    assert info["total_episodes"] == 1


def _eval_report(installed, run):
    """The template and the style come with the wheel."""
    assert (run / "report.html").exists()
    installed.run("eval-report", run, "--output", "report.html")
    assert "<svg" in (installed.folder / "report.html").read_text(encoding="utf-8")


def _whiskers(installed, run):
    """The exported page and the served page both contain the built bundle."""
    script = (ROOT / "viz/web/dist/viewer.js").read_text(encoding="utf-8").strip()
    installed.run("whiskers", run, "--output", "x.html")
    assert script in (installed.folder / "x.html").read_text(encoding="utf-8")
    with installed.start("whiskers", run, "--no-browser") as server:
        url = server.stdout.readline().strip()
        try:
            with urllib.request.urlopen(url) as answer:
                assert script in gzip.decompress(answer.read()).decode()
        finally:
            server.terminate()


def _whisker_serve(installed, run):
    with installed.start("whisker-serve", "--policy", "act", "--port", "0") as server:
        try:
            address = server.stdout.readline().split()[-1]
            flags = ("--server", address, "--episodes", "1", "--max-steps", "2")
            assert "0 errors" in installed.run("eval", *flags, "--quiet", "--run-dir", "served")
        finally:
            server.terminate()


def _cknna(installed, run):
    arguments = ["--policy", "act", "--on", run, "--output", "bank"]
    installed.run("cknna", "extract", *arguments)
    assert (installed.folder / "bank").is_dir()


USES = {
    "eval": _eval,
    "eval-doctor": _eval_doctor,
    "eval-compare": _eval_compare,
    "eval-demos": _eval_demos,
    "eval-report": _eval_report,
    "eval-sweep": _eval_sweep,
    "whisker-serve": _whisker_serve,
    "whiskers": _whiskers,
    "cknna": _cknna,
}


@pytest.mark.slow
@pytest.mark.parametrize("command", SCRIPTS)
def test_every_command_works_from_the_wheel(command, installed, run):
    assert "usage:" in installed.run(command, "--help")
    USES[command](installed, run)
