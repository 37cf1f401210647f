"""Measures the list of runs, and a run of many episodes.

    uv run python -m tests.benchmarks.run_list

The run folders are written by the run folder's own writer. Their episodes are rows of a real one,
without arrays.

- list: the server's answer for 200 runs of 50 episodes, read for the first time, and again when
  nothing has changed.
- first paint: the time from the page's address to the drawn list, of 200 runs, and of the 2,000
  episodes of one run. The limit is 1 s. The browser is headless Chromium with OpenGL in software,
  and an empty page in the same browser is measured for comparison. The processor time of the server
  and of the page's main thread does not depend on other load of the machine.
"""

import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

from playwright.sync_api import sync_playwright
from rich.console import Console

from eval.config import EvalConfig
from eval.episode_arrays import EpisodeRecord
from eval.episode_row import make_row
from eval.evaluation import set_up
from eval.outcome import Outcome
from eval.provenance import describe
from eval.run_folder import RunFolder
from sim.flags import make_config, replace_flags
from tests.benchmarks.measuring import make_table, wall_s
from tests.browser import Viewer, opened_browser, served
from viz.run_list import RunList

N_RUNS = 200
N_EPISODES = 50
N_MANY = 2000
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


def make_description():
    config = make_config(EvalConfig, policy="random", episodes=N_EPISODES)
    setup = set_up(config)
    with closing(setup.env):
        return describe(config, setup)


def write_run(folder, description, n_episodes):
    """Write a run whose episodes take each of the outcomes in turn, and return its name."""
    config = replace_flags(description.config, episodes=n_episodes)
    outcomes = [outcome for outcome in Outcome if outcome is not Outcome.ERROR]
    with closing(
        RunFolder.create(
            folder,
            replace(description, config=config),
        )
    ) as run:
        for index in range(n_episodes):
            outcome = outcomes[index % len(outcomes)]
            success = outcome is Outcome.SUCCESS
            record = EpisodeRecord(
                "pick_place",
                index,
                success,
                "",
                0.1,
                None,
            )
            run.append(
                record,
                replace(make_row(record), outcome=outcome),
            )
        return run.path.name


def measure_paint_ms(browser, url):
    """Return the times from the address to the drawn list, each in a new browser context.

    Returns:
        Wall time, processor time of the page's main thread, and of this process, which is the
        server.
    """
    times = []
    for _ in range(N_ROUNDS):
        with closing(browser.new_context()) as context:
            page = context.new_page()
            chromium = context.new_cdp_session(page)
            chromium.send("Performance.enable", {"timeDomain": "threadTicks"})
            start_s = time.process_time()
            page.goto(url)
            wall_ms = page.evaluate(FIRST_PAINT)
            server_ms = 1000 * (time.process_time() - start_s)
            (page_s,) = (
                metric["value"]
                for metric in chromium.send("Performance.getMetrics")["metrics"]
                if metric["name"] == "TaskDuration"
            )
            times.append((wall_ms, 1000 * page_s, server_ms))
    wall_ms, page_ms, server_ms = (median(each) for each in zip(*times, strict=True))
    return wall_ms, page_ms, server_ms


def measure_empty_ms(browser):
    times = []
    for _ in range(N_ROUNDS):
        with closing(browser.new_context()) as context:
            page = context.new_page()
            page.goto("data:text/html,<title>empty</title>")
            times.append(page.evaluate(EMPTY))
    return median(times)


def measure_keys_ms(browser, url):
    """Return the time from a press of ↓ in the list of many episodes to the next frame."""
    viewer = Viewer(browser, url)
    return 1000 * median(wall_s(lambda: viewer.press("ArrowDown")) for _ in range(20))


def main():
    heads = ("what", "wall time", "limit", "processor: page", "processor: server")
    table = make_table("the list of runs", *heads)

    def add(what, wall_ms, limit="", *processor_ms):
        processors = (f"{each:.0f} ms" for each in processor_ms)
        table.add_row(
            what,
            f"{wall_ms:.0f} ms",
            limit,
            *processors,
        )

    def add_paint(what, browser, url):
        wall_ms, *processor_ms = measure_paint_ms(browser, url)
        add(
            f"first paint: {what}",
            wall_ms,
            "1000 ms",
            *processor_ms,
        )

    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        description = make_description()
        many = write_run(folder / "many", description, N_MANY)
        for _ in range(N_RUNS - 1):
            write_run(folder, description, N_EPISODES)
        with closing(RunList(folder)) as runs, opened_browser(playwright) as browser:
            for what in ("list, read for the first time", "list, again"):
                start_s = time.process_time()
                wall_ms = 1000 * wall_s(runs.listing)
                server_ms = 1000 * (time.process_time() - start_s)
                row = (f"{what}: {N_RUNS} runs", f"{wall_ms:.0f} ms", "", "")
                table.add_row(*row, f"{server_ms:.0f} ms")
            assert len(runs.listing()["runs"]) == N_RUNS
            with served(runs, serves_runs=True) as server:
                run_url = f"{server.url}#run=many/{many}"
                add("empty page, until it is parsed", measure_empty_ms(browser))
                add_paint(f"{N_RUNS} runs", browser, server.url)
                add_paint(f"{N_MANY} episodes", browser, run_url)
                add(
                    f"next of {N_MANY} episodes, by key",
                    measure_keys_ms(browser, run_url),
                )
    Console().print(table)


if __name__ == "__main__":
    main()
