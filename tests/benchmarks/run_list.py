"""What the list of runs costs, and a run of many episodes.

    uv run python -m tests.benchmarks.run_list

The run folders are written by the run folder's own writer; their episodes are rows of a real one, without arrays.

- list: the server's answer for 200 runs of 50 episodes, read for the first time, and again when nothing has changed.
- first paint: from the page's address to the list, drawn: of 200 runs, and of the 2,000 episodes of one run. 1 s at
  most. Headless Chromium, OpenGL in software; beside it an empty page in the same browser.
"""

import tempfile
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from eval.config import EvalConfig
from eval.episode_row import make_row
from eval.evaluation import set_up
from eval.outcome import DEFAULT_THRESHOLDS, Outcome
from eval.provenance import describe
from eval.recorder import EpisodeRecord
from eval.run_description import RunDescription
from eval.run_folder import RunFolder
from tests.browser import Viewer, opened_browser
from viz.page import render_page
from viz.run_list import RunList
from viz.server import ViewerServer

N_RUNS, N_EPISODES, N_MANY = 200, 50, 2000
N_ROUNDS = 5
FIRST_PAINT = """() => new Promise((done) => {
  const look = () => {
    const { first_list_ms } = window.__state();
    if (first_list_ms === null) requestAnimationFrame(look);
    else done(first_list_ms);
  };
  look();
})"""
EMPTY = """() => performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd"""


def make_description() -> RunDescription:
    config = EvalConfig(policy="random", episodes=N_EPISODES)
    setup = set_up(config)
    with closing(setup.env):
        return describe(config, setup)


def write_run(folder: Path, description: RunDescription, n_episodes: int) -> str:
    """Write a run whose episodes end in turn in each of the outcomes; returns its name."""
    config = replace(description.config, episodes=n_episodes)
    outcomes = [outcome for outcome in Outcome if outcome is not Outcome.ERROR]
    with closing(RunFolder.create(folder, replace(description, config=config))) as run:
        for index in range(n_episodes):
            outcome = outcomes[index % len(outcomes)]
            record = EpisodeRecord("pick_place", index, outcome is Outcome.SUCCESS, "", 0.1, None)
            run.append(record, replace(make_row(record, DEFAULT_THRESHOLDS), outcome=outcome))
        return run.path.name


def measure_paint_ms(browser: Browser, url: str) -> float:
    """From the address to the list, drawn; each time in a context of its own."""
    times = []
    for _ in range(N_ROUNDS):
        with closing(browser.new_context()) as context:
            page = context.new_page()
            page.goto(url)
            times.append(page.evaluate(FIRST_PAINT))
    return median(times)


def measure_empty_ms(browser: Browser) -> float:
    times = []
    for _ in range(N_ROUNDS):
        with closing(browser.new_context()) as context:
            page = context.new_page()
            page.goto("data:text/html,<title>empty</title>")
            times.append(page.evaluate(EMPTY))
    return median(times)


def measure_keys_ms(browser: Browser, url: str) -> float:
    """From a press of ↓ in the list of many episodes to the next frame."""
    viewer = Viewer(browser, url)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        viewer.press("ArrowDown")
        times.append(1000 * (time.perf_counter() - start))
    return median(times)


def main() -> None:
    table = Table(title="the list of runs, wall time")
    for head in ("what", "time", "limit"):
        table.add_column(head, justify="left" if head == "what" else "right")

    def add(what: str, time_ms: float, limit: str = "") -> None:
        table.add_row(what, f"{time_ms:.0f} ms", limit)

    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        description = make_description()
        many = write_run(folder / "many", description, N_MANY)
        for _ in range(N_RUNS - 1):
            write_run(folder, description, N_EPISODES)
        with (
            closing(RunList(folder)) as runs,
            closing(ViewerServer(runs, render_page(None, serves_runs=True))) as server,
            opened_browser(playwright) as browser,
        ):
            for what in ("list, read for the first time", "list, again"):
                start = time.perf_counter()
                assert len(runs.listing()["runs"]) == N_RUNS
                add(f"{what}: {N_RUNS} runs", 1000 * (time.perf_counter() - start))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            run_url = f"{server.url}#run=many/{many}"
            try:
                add("empty page, until it is parsed", measure_empty_ms(browser))
                add(f"first paint: {N_RUNS} runs", measure_paint_ms(browser, server.url), "1000 ms")
                add(f"first paint: {N_MANY} episodes", measure_paint_ms(browser, run_url), "1000 ms")
                add(f"next of {N_MANY} episodes, by key", measure_keys_ms(browser, run_url))
            finally:
                server.shutdown()
                thread.join()
    Console().print(table)


if __name__ == "__main__":
    main()
