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
from contextlib import closing
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright
from rich.console import Console

from eval.config import EvalConfig
from eval.run import Run
from sim.flags import make_config
from tests.benchmarks.measuring import make_table, wall_s
from tests.browser import Viewer, opened_browser
from tests.recordings import record_run
from viz.page import export_episode, find_row

N_ROUNDS = 5
N_STEPS = 60
# The policy fails in all of the 300 steps of this episode.
FAILURE = make_config(
    EvalConfig,
    policy="act",
    checkpoint="act-early",
    first_episode=8,
    episodes=1,
)
EMPTY = "data:text/html,<title>empty</title>"
NEXT_FRAME_MS = """() => new Promise((done) => {
  const start = performance.now();
  requestAnimationFrame(() => done(performance.now() - start));
})"""


def export(run, page):
    opened = Run.open(run)
    export_episode(opened, find_row(opened, None), page)


def measure_export(run, page):
    """Return (export, rollout) [s]."""
    times = []
    for _ in range(N_ROUNDS):
        exported_s = wall_s(lambda: export(run, page))
        times.append((exported_s, wall_s(lambda: record_run(FAILURE, run.parent))))
    return times


def measure_opening(browser, url):
    """Return (page, empty page) [s], each in a new browser context."""
    times = []
    for _ in range(N_ROUNDS):
        page_s = wall_s(lambda: Viewer(browser, url).page.context.close())
        with closing(browser.new_context()) as context:
            empty = context.new_page()
            times.append((page_s, wall_s(lambda page=empty: page.goto(EMPTY))))
    return times


def measure_steps(browser, url):
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


def main():
    table = make_table("the viewer's page, wall time", "what", "ours", "theirs", "ratio", "limit")

    def add(what, times, limit):
        ours, theirs = (f"{1000 * median(side):.1f} ms" for side in zip(*times, strict=True))
        ratio = median(a / b for a, b in times)
        table.add_row(
            what,
            ours,
            theirs,
            f"{ratio:.1f} x",
            limit,
        )

    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        page = folder / "page.html"
        runs = [Path(argument) for argument in sys.argv[1:]]
        if not runs:
            runs = [record_run(FAILURE, folder).path]
            add("export, the rollout itself", measure_export(runs[0], page), "5000 ms")
        for run in runs:
            export(run, page)
            with opened_browser(playwright) as browser:
                what = f"open ({page.stat().st_size / 1e6:.2f} MB), empty page"
                add(
                    what,
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
