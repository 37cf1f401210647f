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

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder
from sim.flags import make_config
from sim.registry import make_env
from tests.browser import Viewer, opened_browser

N_ROUNDS = 3
LIMIT = 1.5
RECORDED = (
    make_config(
        EvalConfig,
        policy="act",
        checkpoint="act-early",
        first_episode=8,
        episodes=1,
    ),
    make_config(
        EvalConfig,
        policy="scripted",
        env="libero_spatial/3",
        max_steps=60,
        episodes=1,
    ),
)


def record(config: EvalConfig, folder: Path) -> Path:
    """Record the configured episode and return its run folder."""
    setup = set_up(config)
    run = RunFolder.create(folder, describe(config, setup))
    with closing(setup.env), closing(run):
        list(evaluate(config, setup, run))
    return run.path


def measure_opening(browser: Browser, run: Path) -> tuple[float, float]:
    """Return the seconds until the scene, and until plan and images, are shown."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "viz", str(run), "--no-browser"]
    whiskers = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert whiskers.stdout is not None
        viewer = Viewer(
            browser,
            whiskers.stdout.readline().strip(),
            limit_s=600,
        )
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


def measure_geometry(run: Path) -> float:
    """Return the seconds that opening the run's environment and reading its shapes take."""
    name = Run.open(run).description.env.name
    start = time.perf_counter()
    with closing(make_env(name, {})) as env:
        env.geometry()
        return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = [Path(argument) for argument in sys.argv[1:]]
        so101, libero = runs or [record(config, Path(folder)) for config in RECORDED]
        rounds = []
        with opened_browser(playwright) as browser:
            for _ in range(N_ROUNDS):
                rounds.append(
                    (
                        measure_opening(browser, so101),
                        measure_geometry(libero),
                        measure_opening(browser, libero),
                    )
                )
    table = Table(title=f"from the command to the first frame, wall time, medians of {N_ROUNDS}")
    for head in ("what", "SO-101", "LIBERO"):
        table.add_column(head, justify="left" if head == "what" else "right")
    for what, index in (("scene", 0), ("with plan and images", 1)):
        ours, libero_s = (
            median(side[index] for side in sides) for sides in list(zip(*rounds, strict=True))[::2]
        )
        table.add_row(what, f"{ours:.1f} s", f"{libero_s:.1f} s")
    table.add_row(
        "opening its environment and reading its shapes",
        "",
        f"{median(r[1] for r in rounds):.1f} s",
    )
    ratio = median(
        scene_s / (so101_s + geometry_s) for (so101_s, _), geometry_s, (scene_s, _) in rounds
    )
    table.add_row(
        "LIBERO's scene over (SO-101's + LIBERO's geometry)", "", f"{ratio:.2f} x (limit {LIMIT} x)"
    )
    Console().print(table)


if __name__ == "__main__":
    main()
