"""Measures the viewer's page: making it, opening it, and stepping through it.

    uv run python -m tests.benchmarks.viewer [RUN_FOLDER ...]

Without a run folder, an episode of act-early is recorded that fails and is 300 steps long. Both
sides of a ratio take turns, and the ratio is the median of their ratios.

- export: wall time of `whiskers --output file.html` without the start of the process, against
  rolling the episode out anew. The limit is 5 s.
- open: the time from the page's address to its first frame, against an empty page in the same
  browser. The limit is 3 s. The browser is headless Chromium with OpenGL in software.
- step: the time from a key press to the picture with its pixels, against the next frame of an empty
  page. The limit is 50 ms.
"""

import sys
import tempfile
import time
from collections.abc import Callable
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
from tests.browser import Viewer, opened_browser
from viz.page import export_episode, find_row

N_ROUNDS = 5
N_STEPS = 60
EMPTY = "data:text/html,<title>empty</title>"
NEXT_FRAME_MS = """() => new Promise((done) => {
  const start = performance.now();
  requestAnimationFrame(() => done(performance.now() - start));
})"""


def wall_s(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def record(folder: Path) -> Path:
    """Record episode 8 of act-early, which fails in all of its 300 steps."""
    config = make_config(
        EvalConfig, policy="act", checkpoint="act-early", first_episode=8, episodes=1
    )
    setup = set_up(config)
    run = RunFolder.create(folder, describe(config, setup))
    with closing(setup.env), closing(run):
        list(evaluate(config, setup, run))
    return run.path


def measure_export(run: Path, folder: Path) -> list[tuple[float, float]]:
    """Return (export, rollout) [s]."""
    row = find_row(Run.open(run), None)
    times = []
    for index in range(N_ROUNDS):
        exported_s = wall_s(lambda: export_episode(Run.open(run), row, folder / "page.html"))
        times.append((exported_s, wall_s(lambda at=folder / str(index): record(at))))
    return times


def measure_opening(browser: Browser, url: str) -> list[tuple[float, float]]:
    """Return (page, empty page) [s], each in a new browser context."""
    times = []
    for _ in range(N_ROUNDS):
        page_s = wall_s(lambda: Viewer(browser, url).page.context.close())
        with closing(browser.new_context()) as context:
            page = context.new_page()
            start = time.perf_counter()
            page.goto(EMPTY)
            times.append((page_s, time.perf_counter() - start))
    return times


def measure_steps(browser: Browser, url: str) -> list[tuple[float, float]]:
    """Return (step, next frame of an empty page) [s]."""
    viewer = Viewer(browser, f"{url}?measure")
    viewer.press("Shift+ArrowRight")
    empty = browser.new_page()
    empty.goto(EMPTY)
    times = []
    for _ in range(N_STEPS):
        drawn_ms = viewer.press("ArrowRight")["last_draw_ms"]
        times.append((drawn_ms / 1000, empty.evaluate(NEXT_FRAME_MS) / 1000))
    return times


def main() -> None:
    table = Table(title="the viewer's page, wall time")
    for head in ("what", "ours", "theirs", "ratio", "limit"):
        table.add_column(head, justify="left" if head == "what" else "right")

    def add(what: str, times: list[tuple[float, float]], limit: str) -> None:
        ours, theirs = (median(side) for side in zip(*times, strict=True))
        ratio = median(a / b for a, b in times)
        table.add_row(
            what, f"{1000 * ours:.1f} ms", f"{1000 * theirs:.1f} ms", f"{ratio:.1f} x", limit
        )

    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        runs = [Path(argument) for argument in sys.argv[1:]] or [record(folder / "run")]
        for run in runs:
            page = folder / "page.html"
            if len(sys.argv) == 1:
                add("export, the rollout itself", measure_export(run, folder), "5000 ms")
            else:
                export_episode(Run.open(run), find_row(Run.open(run), None), page)
            with opened_browser(playwright) as browser:
                add(
                    f"open ({page.stat().st_size / 1e6:.2f} MB), empty page",
                    measure_opening(browser, page.as_uri()),
                    "3000 ms",
                )
                add(
                    "step, empty frame",
                    measure_steps(browser, page.as_uri()),
                    "50 ms",
                )
    Console().print(table)


if __name__ == "__main__":
    main()
