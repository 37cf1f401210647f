"""Measures the time from the start of `whiskers` to the first frame in the browser.

    uv run python -m tests.benchmarks.first_frame [SO101_RUN LIBERO_RUN]

Without run folders, an episode of act-early is recorded, and 60 steps of `scripted` in
libero_spatial/3, which plans at every step. All sides take turns.

- scene: the time until the first frame of the scene is drawn. The limit for LIBERO is 1.5 times the
  sum of the SO-101's time and the time of LIBERO's geometry. The latter opens the environment
  without cameras and reads its shapes, which every viewer has to do.
- plan, images: the time until those of the shown decision are drawn, too.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright
from rich.console import Console

from eval.config import EvalConfig
from eval.run import Run
from sim.flags import make_config
from sim.registry import make_env
from tests.benchmarks.measuring import make_table, wall_s
from tests.browser import Viewer, opened_browser
from tests.recordings import record_run

N_ROUNDS = 3
LIMIT = 1.5
RECORDED = (
    {"policy": "act", "checkpoint": "act-early", "first_episode": 8},
    {"policy": "scripted", "env": "libero_spatial/3", "max_steps": 60},
)


def measure_opening(browser, run):
    """Return the seconds until the scene, and until plan and images, are shown."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "viz", str(run), "--no-browser"]
    whiskers = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = whiskers.stdout.readline().strip()
        viewer = Viewer(browser, url, limit_s=600)
        scene_s = time.perf_counter() - start
        viewer.wait(
            lambda: not viewer.state["filling"],
            limit_s=600,
        )
        whole_s = time.perf_counter() - start
        viewer.page.context.close()
        return scene_s, whole_s
    finally:
        whiskers.kill()
        whiskers.wait()


def measure_geometry(run):
    """Return the seconds that opening the run's environment and reading its shapes take."""
    name = Run.open(run).description.env.name

    def open_and_read():
        with closing(make_env(name, {})) as env:
            env.geometry()

    return wall_s(open_and_read)


def main():
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = [Path(argument) for argument in sys.argv[1:]]
        for flags in RECORDED[len(runs) :]:
            runs.append(
                record_run(
                    make_config(EvalConfig, episodes=1, **flags),
                    Path(folder),
                ).path
            )
        so101, libero = runs
        rounds = []
        with opened_browser(playwright) as browser:
            for _ in range(N_ROUNDS):
                times_s = (*measure_opening(browser, so101), *measure_opening(browser, libero))
                rounds.append((*times_s, measure_geometry(libero)))
    title = f"from the command to the first frame, wall time, medians of {N_ROUNDS}"
    table = make_table(title, "what", "SO-101", "LIBERO")
    medians = [f"{median(times_s):.1f} s" for times_s in zip(*rounds, strict=True)]
    table.add_row("scene", *medians[:4:2])
    table.add_row("with plan and images", *medians[1:4:2])
    table.add_row("opening its environment and reading its shapes", "", medians[4])
    ratio = median(libero_s / (so101_s + shapes_s) for so101_s, _, libero_s, _, shapes_s in rounds)
    what = "LIBERO's scene over (SO-101's + LIBERO's geometry)"
    table.add_row(
        what,
        "",
        f"{ratio:.2f} x (limit {LIMIT} x)",
    )
    Console().print(table)


if __name__ == "__main__":
    main()
