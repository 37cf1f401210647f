"""Every command works with an environment and a policy from outside the project."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest

from eval.run import Run

OUTSIDE = Path(__file__).parent / "outside"
COMMANDS = Path(sys.executable).parent
POLICY = """
import numpy as np

from policies.simple_policy import SimplePolicy


class Sweeper(SimplePolicy):
    def plan(self, observation, rng):
        way = np.linspace(0.1, 0.8, 8)[:, None] * [1.0, observation.images["top"].mean() / 800]
        return observation.state + way + 0.05 * rng.normal(size=(8, 2))


def make(env, checkpoint, device):
    assert env.camera_names == ("top",)
    return Sweeper("sweeper", env, chunk_size=8, n_action_steps=4, stochastic=True, \
image_sizes={"top": (32, 32)})
"""
ENTRY_POINTS = (
    "[whisker.envs]\ntoy = toy_module:toy\n\n[whisker.policies]\nsweeper = sweeper:make\n"
)


@pytest.fixture
def folder(tmp_path):
    """Return the folder in which the user works, with both modules."""
    shutil.copy(OUTSIDE / "toy_module.py", tmp_path)
    (tmp_path / "sweeper.py").write_text(POLICY)
    return tmp_path


def install(folder):
    """Move both modules into a distribution with entry points, and return its folder."""
    site = folder / "site"
    info = site / "own-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    for name in ("toy_module.py", "sweeper.py"):
        (folder / name).rename(site / name)
    return site


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["import strings", "entry points"])
def test_what_is_outside_goes_through_every_command(kind, folder):
    environment = os.environ | {"MUJOCO_GL": "osmesa"}
    env = "toy_module:toy/reach"
    policy = "sweeper:make"
    if kind == "entry points":
        environment["PYTHONPATH"] = str(install(folder))
        env = "toy/reach"
        policy = "sweeper"

    def run(command, *, codes=(0,)):
        program, *arguments = command.split()
        done = subprocess.run(
            [COMMANDS / program, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode in codes, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def levels(command, **options):
        return {finding["level"] for finding in json.loads(run(command, **options))}

    assert levels(f"eval-doctor --env {env} --json") == {"fine"}
    examination = f"eval-doctor --policy {policy} --env {env} --json"
    assert "error" not in levels(examination, codes=(0, 1))
    run(f"eval --policy {policy} --env {env} --episodes 3 --samples 2 --quiet")
    (path,) = (folder / "runs").iterdir()
    recorded = Run.open(path)
    assert [row.episode_index for row in recorded.rows] == [0, 1, 2]
    assert not any(row.error for row in recorded.rows)
    assert {"toy_module.py", "sweeper.py"} <= recorded.description.versions.keys()
    run(f"whiskers {path} --output page.html --episode 1")
    assert (folder / "page.html").stat().st_size > 500_000  # it contains the viewer and its scene
    run(f"whiskers {path} --output plan.png --episode 1 --step 4")
    assert iio.imread(folder / "plan.png").ndim == 3
    run(f"eval-report {path} --output report.html")
    report = (folder / "report.html").read_text()
    assert "sweeper" in report
    assert "touch ball" in report
    run(f"eval --resume {path} --quiet")
