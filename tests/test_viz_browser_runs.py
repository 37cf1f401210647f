"""Tests of the list of runs in a real browser, and of addresses that name a moment."""

import shutil
from contextlib import closing, contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from eval.episode_arrays import EpisodeRecord
from eval.run_folder import RunFolder
from tests.browser import Viewer, needs_chromium, open_export, opened_browser, served
from tests.recordings import make_suite_of, write_rows
from tests.test_viz_browser import assert_legible, choose_theme
from viz.page import export_episode
from viz.report.cli import REPORT_FILE
from viz.run_list import RunList

pytestmark = needs_chromium
NAME = "20260101T120000Z-act-so101-pick_place"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright, opened_browser(playwright) as browser:
        yield browser


@pytest.fixture
def folder(failed_run, opened_run, tmp_path):
    """Return a folder with three runs.

    Two have a failed and a successful episode. The third still waits for its second episode.
    """
    for name in (NAME, "group/other"):
        shutil.copytree(failed_run, tmp_path / name)
    (tmp_path / NAME / REPORT_FILE).write_text("<title>report</title><p>all of it</p>")
    write_rows(
        shutil.copytree(failed_run, tmp_path / "growing"),
        opened_run.rows[:1],
    )
    (tmp_path / "photos").mkdir()
    return tmp_path


@contextmanager
def served_runs(folder):
    with closing(RunList(folder)) as runs, served(runs, serves_runs=True) as server:
        yield server


@pytest.fixture
def server(folder):
    with served_runs(folder) as server:
        yield server


def place_of(viewer):
    """Return the run, the episode, the step and the view that the address names."""
    places = parse_qs(urlsplit(address_of(viewer)).fragment)
    return {name: value for name, (value,) in places.items()}


def address_of(viewer):
    # Playwright notices a new fragment only during a call to the page.
    return viewer.page.evaluate("location.href")


def wait_for_step(viewer, step):
    viewer.wait(lambda: place_of(viewer).get("step") == step)


def wait_for_episode(viewer, number, **state):
    viewer.wait_for(
        key=f"pick_place/{number}",
        loading=False,
        **state,
    )
    viewer.wait(lambda: viewer.state["n_steps"])


def test_from_the_list_to_a_moment_and_back(browser, server):
    viewer = Viewer(browser, server.url)
    page = viewer.page
    assert viewer.state["page"] == "runs"
    assert set(viewer.state["runs"]) == {NAME, "group/other", "growing"}
    assert "photos This folder is no run" in page.inner_text(".remarks")
    page.fill(".runs input", "other")
    assert viewer.state["runs"] == ["group/other"]
    page.fill(".runs input", "")
    page.click('th[data-column="episodes"] button')
    assert viewer.state["runs"][-1] == "growing"
    page.click(f'tr[data-run="{NAME}"] td[data-column="success"]')
    wait_for_episode(viewer, 8)
    viewer.press("Home", "ArrowRight", "ArrowRight", "c")
    wait_for_step(viewer, "2")
    assert place_of(viewer) == {
        "run": NAME,
        "episode": "pick_place/8",
        "step": "2",
        "view": "front",
    }
    moment = address_of(viewer)
    page.click('.item[data-key="pick_place/7"]')
    wait_for_episode(viewer, 7)
    page.go_back()
    wait_for_episode(viewer, 8, step=2)
    page.go_back()
    viewer.wait_for(page="runs")
    viewer.wait(page.locator(".runs table").is_visible)
    page.go_forward()
    wait_for_episode(viewer, 8, step=2)
    # The same episode index in another run is another episode.
    page.click(".to-runs")
    page.click('tr[data-run="group/other"] a.open')
    wait_for_episode(viewer, 8, run="group/other")
    assert not viewer.complaints

    other = Viewer(browser, moment)
    wait_for_episode(other, 8, step=2)
    assert other.state["camera"] == "front"
    assert other.state["run"] == NAME
    assert not other.complaints


def test_a_view_that_was_turned_is_in_the_address(browser, server):
    viewer = Viewer(
        browser,
        f"{server.url}#run={NAME}&episode=pick_place/8&step=5",
    )
    canvas = viewer.page.locator(".picture canvas")
    canvas.drag_to(
        canvas,
        target_position={
            "x": 90,
            "y": 40,
        },
    )
    viewer.wait(lambda: place_of(viewer).get("view", "").startswith("free:"))
    turned = place_of(viewer)["view"]
    # Another browser that opens the address shows the same view.
    other = Viewer(browser, address_of(viewer))
    other.wait(lambda: place_of(other).get("view") == turned)
    other.wait_for(step=5)


def test_what_is_not_there_is_said_in_one_sentence(browser, server):
    viewer = Viewer(
        browser,
        f"{server.url}#run=nothing&episode=pick_place/8",
    )
    viewer.wait(lambda: "run 'nothing': expected one of those in" in (viewer.state["error"] or ""))
    assert viewer.state["page"] == "runs"
    assert len(viewer.state["runs"]) == 3
    viewer.page.click(f'tr[data-run="{NAME}"] a.open')
    wait_for_episode(viewer, 8, error=None)
    viewer.page.evaluate(f"location.hash = '#run={NAME}&episode=pick_place/99'")
    viewer.wait_for(error=f"The run {NAME} has no episode pick_place/99.")
    assert len(viewer.state["episodes"]) == 2
    assert not viewer.state["n_steps"]
    viewer.page.click('.item[data-key="pick_place/7"]')
    wait_for_episode(viewer, 7, error=None)


def test_a_run_that_is_written_grows_on_both_pages(browser, folder, server, failure):
    runs = Viewer(browser, server.url)
    episodes = Viewer(browser, f"{server.url}#run=growing")
    cell = runs.page.locator('tr[data-run="growing"] td[data-column="episodes"]')
    assert "1 of 2" in cell.inner_text()
    assert "unfinished" in cell.inner_text()
    assert episodes.state["episodes"] == ["pick_place/7"]
    assert episodes.page.inner_text(".progress") == "1 of 2"
    record = EpisodeRecord("pick_place", 8, False, "", 0.1, None)
    with closing(RunFolder.reopen(folder / "growing")) as run:
        run.append(record, failure)
    episodes.wait_for(episodes=["pick_place/8", "pick_place/7"])
    episodes.wait(lambda: episodes.page.inner_text(".progress") == "")
    runs.wait(lambda: cell.inner_text() == "2")
    # The shown episode stays the same.
    assert episodes.state["key"] == "pick_place/7"
    assert not runs.complaints
    assert not episodes.complaints


HIDE_TAB = """(isHidden) => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_tab_that_nobody_sees_gives_its_connection_back(browser, server):
    """A hidden tab closes its event stream.

    A browser allows six connections to a server, and each open episode would keep one of them.
    """
    viewer = Viewer(browser, f"{server.url}#run={NAME}")
    board = server.source.open(NAME)._board

    def wait_for_listeners(n):
        def has_them():
            # A server notices a closed connection when it writes to it.
            board.tell("progress", {"message": ""})
            return len(board._listeners) == n

        viewer.wait(has_them)

    wait_for_listeners(1)
    viewer.page.evaluate(HIDE_TAB, True)
    wait_for_listeners(0)
    viewer.page.evaluate(HIDE_TAB, False)
    wait_for_listeners(1)
    assert viewer.state["error"] is None
    assert not viewer.complaints


def test_a_report_is_opened_or_told_how_to_make(browser, folder, server):
    viewer = Viewer(browser, server.url)
    with viewer.page.expect_popup() as opened:
        viewer.page.click(f'tr[data-run="{NAME}"] td[data-column="report"] a')
    report = opened.value
    report.wait_for_load_state()
    assert report.title() == "report"
    assert report.inner_text("p") == "all of it"
    viewer.page.click('tr[data-run="growing"] td[data-column="report"] button')
    command = viewer.page.inner_text(".explained code")
    assert command.endswith(f"eval-report {folder / 'growing'}")
    assert viewer.state["page"] == "runs"


@pytest.mark.parametrize(
    "theme",
    ["light", "dark"],
)
def test_the_list_is_legible(browser, server, theme):
    viewer = Viewer(
        browser,
        server.url,
        width=390,
        height=844,
    )
    choose_theme(viewer, theme)
    assert_legible(viewer, 30)
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_empty_folder_says_what_to_do(browser, tmp_path):
    with served_runs(tmp_path) as server:
        viewer = Viewer(browser, server.url)
        assert "There is no run here yet" in viewer.page.inner_text(".empty")
        assert "eval --policy act --episodes 30" in viewer.page.inner_text(".empty code")


def test_an_episode_of_a_suite_is_two_clicks_away(browser, folder, server, opened_run):
    """An episode of a suite of ten tasks is reached by two clicks.

    Only episodes of the first task are opened, since the test has no environment for the others.
    """
    run = folder / "growing"
    write_rows(run, opened_run.rows)
    tasks = {f"put_it_{place}_away": f"suite/{place}" for place in "bcdefghij"}
    make_suite_of(
        run,
        {"pick_place": "so101/pick_place", **tasks},
    )
    viewer = Viewer(browser, server.url)
    page = viewer.page

    def focused():
        return page.evaluate("document.activeElement.dataset.key")

    page.click('tr[data-run="growing"] a.open')
    viewer.wait_for(shape="grid")
    viewer.wait(lambda: page.locator(".cell").count() == 20)
    assert page.locator(".grid h3 .words").all_inner_texts()[1] == "put it b away"
    page.click('.cell[data-key="pick_place/7"]')
    wait_for_episode(viewer, 7)
    # The arrow keys still step through the picture.
    assert viewer.press("ArrowRight")["step"] == 1
    # TAB focuses the shown cell, and arrows move on from there.
    page.focus('.cell[tabindex="0"]')
    page.keyboard.press("ArrowDown")
    assert focused() == "put_it_b_away/7"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert focused() == "pick_place/8"
    assert viewer.state["step"] == 1
    page.keyboard.press("Enter")
    wait_for_episode(viewer, 8)
    page.click('[data-filter="success"]')
    assert page.locator(".cell.faded").count() == 10
    assert {key[-2:] for key in viewer.settled()["episodes"]} == {"/7"}


def test_an_export_opens_at_the_moment_that_its_address_names(
    browser, opened_run, failure, tmp_path
):
    page = export_episode(opened_run, failure, tmp_path / "page.html")
    viewer = open_export(browser, page, "#episode=pick_place/8&step=12")
    assert viewer.state["step"] == 12
    viewer.press("ArrowRight")
    wait_for_step(viewer, "13")
    assert not viewer.complaints
    elsewhere = open_export(browser, page, "#run=another&episode=pick_place/8")
    name = opened_run.path.name
    assert elsewhere.state["error"] == f"The link is for the run another, but this is {name}."
