"""Tests of the list of runs in a real browser, and of addresses that name a moment."""

import json
import shutil
from contextlib import closing, contextmanager
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from eval.episode_arrays import EpisodeRecord
from eval.episode_row import load_rows
from eval.run import Run
from eval.run_folder import RunFolder
from tests.browser import Viewer, needs_chromium, opened_browser, served
from tests.test_viz_browser import TEXTS
from viz.page import export_episode, find_row
from viz.report.cli import REPORT_FILE
from viz.run_list import RunList

pytestmark = needs_chromium
NAME = "20260101T120000Z-act-so101-pick_place"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright, opened_browser(playwright) as browser:
        yield browser


@pytest.fixture
def folder(failed_run, tmp_path):
    """Return a folder with three runs.

    Two have a failed and a successful episode. The third still waits for its second episode.
    """
    for name in (NAME, "group/other"):
        shutil.copytree(failed_run, tmp_path / name)
    (tmp_path / NAME / REPORT_FILE).write_text("<title>report</title><p>all of it</p>")
    growing = shutil.copytree(failed_run, tmp_path / "growing")
    first, _ = (failed_run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (growing / "episodes.jsonl").write_text(first)
    (tmp_path / "photos").mkdir()
    return tmp_path


@contextmanager
def served_runs(folder):
    with closing(RunList(folder)) as runs, served(runs, serves_runs=True) as server:
        yield server


def place_of(viewer):
    """Return the run, the episode, the step and the view that the address names."""
    # Playwright notices a new fragment only during a call to the page.
    return {
        name: values[0] for name, values in parse_qs(urlsplit(address_of(viewer)).fragment).items()
    }


def address_of(viewer):
    return viewer.page.evaluate("location.href")


def shows(viewer, key, step=None):
    state = viewer.state
    is_there = state["key"] == key and state["n_steps"] and not state["loading"]
    return is_there and step in (None, state["step"])


def test_from_the_list_to_a_moment_and_back(browser, folder):
    with served_runs(folder) as server:
        viewer = Viewer(browser, server.url)
        assert viewer.state["page"] == "runs" and set(viewer.state["runs"]) == {
            NAME,
            "group/other",
            "growing",
        }
        assert "photos This folder is no run" in viewer.page.inner_text(".remarks")
        viewer.page.fill(".runs input", "other")
        assert viewer.state["runs"] == ["group/other"]
        viewer.page.fill(".runs input", "")
        viewer.page.click('th[data-column="episodes"] button')
        assert viewer.state["runs"][-1] == "growing"
        viewer.page.click(f'tr[data-run="{NAME}"] td[data-column="success"]')
        viewer.wait(lambda: shows(viewer, "pick_place/8"))
        viewer.press("Home", "ArrowRight", "ArrowRight", "c")
        viewer.wait(lambda: place_of(viewer).get("step") == "2")
        assert place_of(viewer) == {
            "run": NAME,
            "episode": "pick_place/8",
            "step": "2",
            "view": "front",
        }
        moment = address_of(viewer)
        viewer.page.click('.item[data-key="pick_place/7"]')
        viewer.wait(lambda: shows(viewer, "pick_place/7"))
        viewer.page.go_back()
        viewer.wait(lambda: shows(viewer, "pick_place/8", 2))
        viewer.page.go_back()
        viewer.wait(
            lambda: (
                viewer.state["page"] == "runs" and viewer.page.locator(".runs table").is_visible()
            )
        )
        viewer.page.go_forward()
        viewer.wait(lambda: shows(viewer, "pick_place/8", 2))
        # The same episode index in another run is another episode.
        viewer.page.click(".to-runs")
        viewer.page.click('tr[data-run="group/other"] a.open')
        viewer.wait(lambda: viewer.state["run"] == "group/other" and shows(viewer, "pick_place/8"))
        assert not viewer.complaints

        other = Viewer(browser, moment)
        other.wait(lambda: shows(other, "pick_place/8", 2))
        assert other.state["camera"] == "front" and other.state["run"] == NAME
        assert not other.complaints


def test_a_view_that_was_turned_is_in_the_address(browser, folder):
    with served_runs(folder) as server:
        viewer = Viewer(
            browser,
            f"{server.url}#run={NAME}&episode=pick_place/8&step=5",
        )
        box = viewer.page.locator(".picture canvas").bounding_box()
        x = box["x"] + box["width"] / 2
        y = box["y"] + box["height"] / 2
        viewer.page.mouse.move(x, y)
        viewer.page.mouse.down()
        viewer.page.mouse.move(x + 90, y + 40)
        viewer.page.mouse.up()
        viewer.wait(lambda: place_of(viewer).get("view", "").startswith("free:"))
        turned = place_of(viewer)["view"]
        # Another browser that opens the address shows the same view.
        other = Viewer(browser, address_of(viewer))
        other.wait(lambda: place_of(other).get("view") == turned and other.state["step"] == 5)


def test_what_is_not_there_is_said_in_one_sentence(browser, folder):
    with served_runs(folder) as server:
        viewer = Viewer(browser, f"{server.url}#run=nothing&episode=pick_place/8")
        viewer.wait(
            lambda: "run 'nothing': expected one of those in" in (viewer.state["error"] or "")
        )
        assert viewer.state["page"] == "runs" and len(viewer.state["runs"]) == 3
        viewer.page.click(f'tr[data-run="{NAME}"] a.open')
        viewer.wait(lambda: shows(viewer, "pick_place/8") and viewer.state["error"] is None)
        viewer.page.evaluate(f"location.hash = '#run={NAME}&episode=pick_place/99'")
        viewer.wait(
            lambda: viewer.state["error"] == f"The run {NAME} has no episode pick_place/99."
        )
        assert len(viewer.state["episodes"]) == 2 and not viewer.state["n_steps"]
        viewer.page.click('.item[data-key="pick_place/7"]')
        viewer.wait(lambda: shows(viewer, "pick_place/7") and viewer.state["error"] is None)


def test_a_run_that_is_written_grows_on_both_pages(browser, folder, failed_run):
    row = load_rows(failed_run)[1]
    with served_runs(folder) as server:
        runs = Viewer(browser, server.url)
        episodes = Viewer(browser, f"{server.url}#run=growing")
        cell = runs.page.locator('tr[data-run="growing"] td[data-column="episodes"]')
        assert "1 of 2" in cell.inner_text() and "unfinished" in cell.inner_text()
        assert episodes.state["episodes"] == ["pick_place/7"]
        assert episodes.page.inner_text(".progress") == "1 of 2"
        with closing(RunFolder.reopen(folder / "growing")) as run:
            run.append(
                EpisodeRecord(
                    row.task,
                    row.episode_index,
                    False,
                    "",
                    0.1,
                    None,
                ),
                row,
            )
        episodes.wait(lambda: episodes.state["episodes"] == ["pick_place/8", "pick_place/7"])
        episodes.wait(lambda: episodes.page.inner_text(".progress") == "")
        runs.wait(lambda: cell.inner_text() == "2")
        # The shown episode stays the same.
        assert episodes.state["key"] == "pick_place/7"
        assert not runs.complaints and not episodes.complaints


def test_a_tab_that_nobody_sees_gives_its_connection_back(browser, folder):
    """A hidden tab closes its event stream.

    A browser allows six connections to a server, and each open episode would keep one of them.
    """
    see = (
        "(isHidden) => { Object.defineProperty("
        "document, 'hidden', { value: isHidden, configurable: true });"
    )
    see += "document.dispatchEvent(new Event('visibilitychange')); }"
    with served_runs(folder) as server:
        viewer = Viewer(browser, f"{server.url}#run={NAME}")
        board = server.source.open(NAME)._board

        def n_listeners():
            # A server notices a closed connection when it writes to it.
            board.tell("progress", {"message": ""})
            return len(board._listeners)

        viewer.wait(lambda: n_listeners() == 1)
        viewer.page.evaluate(see, True)
        viewer.wait(lambda: n_listeners() == 0)
        viewer.page.evaluate(see, False)
        viewer.wait(lambda: n_listeners() == 1)
        assert viewer.state["error"] is None and not viewer.complaints


def test_a_report_is_opened_or_told_how_to_make(browser, folder):
    with served_runs(folder) as server:
        viewer = Viewer(browser, server.url)
        with viewer.page.context.expect_page() as opened:
            viewer.page.click(f'tr[data-run="{NAME}"] td[data-column="report"] a')
        opened.value.wait_for_load_state()
        assert opened.value.title() == "report" and opened.value.inner_text("p") == "all of it"
        viewer.page.click('tr[data-run="growing"] td[data-column="report"] button')
        assert viewer.page.inner_text(".explained code").endswith(
            f"eval-report {folder / 'growing'}"
        )
        assert viewer.state["page"] == "runs"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_list_is_legible(browser, folder, theme):
    with served_runs(folder) as server:
        viewer = Viewer(
            browser,
            server.url,
            width=390,
            height=844,
        )
        while viewer.state["theme"] != theme:
            viewer.press("t")
        texts = viewer.page.evaluate(TEXTS)
        assert len(texts) > 30 and not [
            text for text in texts if text["size"] < 12 or text["contrast"] < 4.5
        ]
        assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_empty_folder_says_what_to_do(browser, tmp_path):
    with served_runs(tmp_path) as server:
        viewer = Viewer(browser, server.url)
        assert "There is no run here yet" in viewer.page.inner_text(".empty")
        assert "eval --policy act --episodes 30" in viewer.page.inner_text(".empty code")


def test_an_episode_of_a_suite_is_two_clicks_away(browser, folder, failed_run):
    """An episode of a suite of ten tasks is reached by two clicks.

    Only episodes of the first task are opened, since the test has no environment for the others.
    """
    run = folder / "growing"
    tasks = ["pick_place", *(f"put_it_{place}_away" for place in "bcdefghij")]
    lines = [replace(row, task=task).to_json() for task in tasks for row in load_rows(failed_run)]
    (run / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    description = json.loads((run / "run.json").read_text())
    env = description["env"]["name"]
    description["tasks"] = {
        task: env if task == "pick_place" else f"suite/{task}" for task in tasks
    }
    (run / "run.json").write_text(json.dumps(description))
    with served_runs(folder) as server:
        viewer = Viewer(browser, server.url)

        def focused():
            return viewer.page.evaluate("document.activeElement.dataset.key")

        viewer.page.click('tr[data-run="growing"] a.open')
        viewer.wait(
            lambda: viewer.state["shape"] == "grid" and viewer.page.locator(".cell").count() == 20
        )
        assert viewer.page.locator(".grid h3 .words").all_inner_texts()[1] == "put it b away"
        viewer.page.click('.cell[data-key="pick_place/7"]')
        viewer.wait(lambda: shows(viewer, "pick_place/7"))
        # The arrow keys still step through the picture.
        assert viewer.press("ArrowRight")["step"] == 1
        # TAB focuses the shown cell, and arrows move on from there.
        viewer.page.focus('.cell[tabindex="0"]')
        viewer.page.keyboard.press("ArrowDown")
        assert focused() == "put_it_b_away/7"
        viewer.page.keyboard.press("ArrowUp")
        viewer.page.keyboard.press("ArrowRight")
        assert focused() == "pick_place/8" and viewer.state["step"] == 1
        viewer.page.keyboard.press("Enter")
        viewer.wait(lambda: shows(viewer, "pick_place/8"))
        viewer.page.click('[data-filter="success"]')
        assert viewer.page.locator(".cell.faded").count() == 10
        assert all(key.endswith("/7") for key in viewer.settled()["episodes"])


def test_an_export_opens_at_the_moment_that_its_address_names(browser, failed_run, tmp_path):
    run = Run.open(failed_run)
    page = export_episode(run, find_row(run, 8), tmp_path / "page.html")
    viewer = Viewer(
        browser,
        f"{page.as_uri()}#episode=pick_place/8&step=12",
        offline=True,
    )
    assert viewer.state["step"] == 12
    viewer.press("ArrowRight")
    viewer.wait(lambda: place_of(viewer).get("step") == "13")
    assert not viewer.complaints
    elsewhere = Viewer(
        browser,
        f"{page.as_uri()}#run=another&episode=pick_place/8",
        offline=True,
    )
    assert (
        elsewhere.state["error"] == f"The link is for the run another, but this is {run.path.name}."
    )
