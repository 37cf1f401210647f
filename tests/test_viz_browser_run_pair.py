"""Tests of two runs side by side in a real browser: tick, compare, and see both in one scene."""

import shutil
import subprocess
import sys
from contextlib import closing, contextmanager

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from eval.run import Run
from tests.browser import Viewer, needs_chromium, opened_browser, served
from tests.recordings import write_rows
from tests.test_viz_browser import OTHER_GRIPPER_PATH, assert_legible, choose_theme
from tests.test_viz_browser_runs import place_of, wait_for_episode
from viz.run_list import RunList

pytestmark = needs_chromium
BOTH = {"run": "act", "against": "random"}


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright, opened_browser(playwright) as browser:
        yield browser


@pytest.fixture
def server(failed_run, random_run, tmp_path):
    for name, path in (("act", failed_run), ("random", random_run), ("none", failed_run)):
        shutil.copytree(path, tmp_path / name)
    write_rows(tmp_path / "none", [])
    with closing(RunList(tmp_path)) as runs, served(runs, serves_runs=True) as server:
        yield server


def tick(viewer, *names):
    for name in names:
        viewer.page.check(f'tr[data-run="{name}"] input')


def wait_for_other(viewer, name):
    viewer.wait(lambda: [other["name"] for other in viewer.state["others"]] == [name])


def test_two_ticked_runs_are_compared_and_seen_in_one_scene(browser, server, random_run):
    viewer = Viewer(browser, server.url)
    page = viewer.page
    compare = page.locator(".pair button.command")
    assert compare.is_disabled()
    tick(viewer, "act", "random")
    assert page.is_disabled('tr[data-run="none"] input')
    viewer.wait(compare.is_enabled)
    verdict = page.inner_text(".pair .note")
    compare.click()
    viewer.wait_for(page="comparison")
    assert place_of(viewer) == BOTH
    assert page.inner_text(".verdict") in verdict
    counts = page.locator(".counts b").all_inner_texts()
    assert counts == ["1", "0", "1", "0"]
    # The episode in which they differ comes first.
    keys = page.locator("tr[data-key]").evaluate_all(
        "rows => rows.map(({ dataset }) => dataset.key)"
    )
    assert keys == ["pick_place/7", "pick_place/8"]
    assert "success" in page.inner_text('tr[data-key="pick_place/7"] td:nth-child(2)')
    assert "never picked up" in page.inner_text('tr[data-key="pick_place/7"] td:nth-child(3)')

    page.click('tr[data-key="pick_place/8"] td:nth-child(2)')
    wait_for_episode(viewer, 8, run="act")
    wait_for_other(viewer, "random")
    other = Run.open(random_run)
    ee_pos_world = other.load_arrays(other.rows[1]).ee_pos_world
    for step in (40, 41):
        page.evaluate(f"location.hash = '#run=act&against=random&episode=pick_place/8&step={step}'")
        viewer.wait_for(step=step)
        (ghost,) = viewer.state["others"]
        assert np.array_equal(np.float32(ghost["ee"]), np.float32(ee_pos_world[step]))
    viewer.settled()
    assert viewer.count("magenta") > 200
    assert page.get_attribute(OTHER_GRIPPER_PATH, "d").count("L") >= 30
    for legend in (".graphs .key.other", ".scene-bar .legend-key"):
        assert page.inner_text(legend) == "random"
    assert page.inner_text(".other-run").startswith("random: never picked up")
    viewer.wait(lambda: place_of(viewer).get("step") == "41")
    moment = page.evaluate("location.href")

    # The next episode of the list is compared, too.
    page.click('.item[data-key="pick_place/7"]')
    wait_for_episode(viewer, 7)
    wait_for_other(viewer, "random")
    assert place_of(viewer)["against"] == "random"
    page.click(".to-comparison")
    viewer.wait_for(page="comparison")
    for _ in range(2):
        page.go_back()
    wait_for_episode(viewer, 8, step=41)
    # Links exchange the two runs.
    page.click(".other-run")
    wait_for_episode(viewer, 8, run="random")
    wait_for_other(viewer, "act")
    assert not viewer.complaints

    shared = Viewer(browser, moment)
    wait_for_episode(shared, 8, step=41, run="act")
    wait_for_other(shared, "random")
    assert shared.state["others"] == [ghost]
    # Without the other run, the episode is shown alone.
    shared.page.evaluate("location.hash = '#run=act&episode=pick_place/8'")
    shared.wait_for(others=[])
    shared.wait(shared.page.locator(".other-run").is_hidden)
    assert not shared.complaints


def test_back_leads_from_an_episode_to_the_comparison_and_the_list(browser, server):
    viewer = Viewer(browser, server.url)
    page = viewer.page
    tick(viewer, "random", "act")
    page.click(".pair button.command:enabled")
    viewer.wait_for(page="comparison")
    page.click('tr[data-key="pick_place/7"] a')
    wait_for_episode(viewer, 7, run="random")
    page.go_back()
    viewer.wait_for(page="comparison")
    page.go_back()
    viewer.wait_for(page="runs")
    # The runs are still ticked.
    assert page.is_checked('tr[data-run="act"] input')
    assert not viewer.complaints


def test_what_cannot_be_compared_is_said_in_one_sentence(browser, server):
    viewer = Viewer(browser, server.url)
    page = viewer.page
    tick(viewer, "act", "none")
    viewer.wait(lambda: "expected finished episodes, got none" in page.inner_text(".pair .note"))
    button = page.locator(".pair button.command")
    assert button.is_disabled()
    assert "expected finished episodes" in button.get_attribute("title")
    page.click('.pair .chip:has-text("none")')
    tick(viewer, "random")
    viewer.wait(button.is_enabled)
    # A link to what cannot be compared leads to the list, with the reason.
    for against, reason in (("none", "expected finished episodes"), ("gone", "expected one of")):
        page.evaluate(f"location.hash = '#run=act&against={against}'")
        viewer.wait(lambda reason=reason: reason in (viewer.state["error"] or ""))
        assert viewer.state["page"] == "runs"
        assert len(viewer.state["runs"]) == 3
    # An episode whose link names such a run is shown without it.
    page.evaluate("location.hash = '#run=act&against=none&episode=pick_place/8'")
    wait_for_episode(viewer, 8)
    viewer.wait(lambda: "expected finished episodes" in (viewer.state["error"] or ""))
    assert viewer.state["others"] == []


@contextmanager
def opened_command(browser, *arguments):
    """Run `whiskers` in a process of its own, and yield a viewer at the address that it prints."""
    command = [sys.executable, "-m", "viz", *map(str, arguments), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as whiskers:
        try:
            yield Viewer(browser, whiskers.stdout.readline().strip())
        finally:
            whiskers.kill()


@pytest.mark.slow
def test_the_command_opens_a_run_with_another_in_it(browser, failed_run, random_run):
    """The runs lie in different folders, and the first one solves episode 7 alone."""
    with opened_command(browser, failed_run, "--against", random_run) as viewer:
        wait_for_episode(viewer, 7)
        (other,) = wait_for_other(viewer, "random") or viewer.state["others"]
        step = viewer.state["step"]
        ee_pos_world = Run.open(random_run).load_arrays(Run.open(random_run).rows[0]).ee_pos_world
        assert np.array_equal(np.float32(other["ee"]), np.float32(ee_pos_world[step]))
        viewer.settled()
        assert viewer.count("magenta") > 200
        viewer.page.click(".to-comparison")
        viewer.wait_for(page="comparison")
        assert viewer.page.inner_text(".counts b") == "1"
        # The list has these two runs alone.
        viewer.page.evaluate("location.hash = '#'")
        viewer.wait_for(page="runs")
        viewer.wait(lambda: len(viewer.state["runs"]) == 2)
        assert not viewer.complaints
    with opened_command(browser, random_run, "--against", failed_run, "--episode", 8) as viewer:
        wait_for_episode(viewer, 8)
        wait_for_other(viewer, "act")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("width", "height"),
    [(900, 700), pytest.param(390, 844, marks=pytest.mark.slow)],
)
def test_the_comparison_is_legible(browser, server, theme, width, height):
    viewer = Viewer(browser, server.url, width=width, height=height)
    choose_theme(viewer, theme)
    tick(viewer, "act", "random")
    viewer.wait(viewer.page.locator(".pair button.command").is_enabled)
    assert_legible(viewer, 30)
    viewer.page.click(".pair button.command")
    viewer.wait_for(page="comparison")
    assert_legible(viewer, 15)
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width
    viewer.page.click('tr[data-key="pick_place/8"]')
    wait_for_episode(viewer, 8)
    wait_for_other(viewer, "random")
    assert_legible(viewer, 20)
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width
