"""Tests of the page in a real browser.

The page is an export from the disk, the server of a run, or a live rollout.
"""

import hashlib
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from eval.config import EvalConfig
from eval.declared_series import POLICY_LATENCY
from eval.run import Run
from eval.series import row_at
from sim.flags import make_config
from tests.browser import (
    NO_WEBGL,
    Viewer,
    needs_chromium,
    open_export,
    opened_browser,
    serve_run,
    served,
)
from tests.processes import catch_ctrl_c
from tests.recordings import make_suite_of
from viz.live import LiveSession
from viz.page import export_episode
from viz.run_source import RunSource

pytestmark = needs_chromium
WEB = Path(__file__).parents[1] / "viz" / "web"
# Returns the size of every visible text, and its contrast with its background.
TEXTS = """() => {
  const parse = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\\d.]+/g).map(Number);
    const scale = colour.startsWith("color(") ? 255 : 1;
    return [red * scale, green * scale, blue * scale, alpha];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]);
  const behind = (node) => {
    if (!node) return [255, 255, 255];
    const colour = parse(getComputedStyle(node).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, behind(node.parentElement));
  };
  const luminance = (colour) => {
    const [red, green, blue] = colour.map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const texts = [];
  const walker = document.createTreeWalker(document.getElementById("app"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.textContent.trim();
    const parent = node.parentElement;
    if (!text || !parent.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(parent);
    const background = behind(parent);
    const both = [over(parse(style.color), background), background]\
.map((colour) => luminance(colour) + 0.05);
    texts.push({ text, size: parseFloat(style.fontSize),\
 contrast: Math.max(...both) / Math.min(...both) });
  }
  return texts;
}"""
# Returns the number of colours in the second camera's image.
N_COLOURS = """() => {
  const canvas = document.querySelectorAll(".cameras canvas")[1];
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""
OTHER_GRIPPER_PATH = '[data-column="gripper.pos"] path.other'
LATENCY_PATH = '[data-column="policy latency"] path.measured'
# Every key that the help lists, and the part of the state that it changes.
SWITCHES = [
    ("p", "plan"),
    ("w", "taken"),
    ("l", "trail"),
    ("g", "ghosts"),
    ("a", "alternatives"),
    ("f", "intermediate_plans"),
    ("t", "theme"),
    ("c", "camera"),
    ("e", "list"),
    ("?", "help"),
]
MOVES = [
    ("ArrowRight", "next-step", 0, 1),
    ("ArrowLeft", "previous-step", 5, 4),
    ("Shift+ArrowRight", "next-prediction", 5, 20),
    ("Shift+ArrowLeft", "previous-prediction", 25, 20),
    ("Shift+ArrowLeft", "previous-prediction", 20, 0),
    ("End", "last", 5, 300),
    ("Home", "first", 25, 0),
    ("d", "failure", 5, "decisive"),
]


@pytest.fixture(scope="module")
def playwright():
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright):
    with opened_browser(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def export(opened_run, failure, tmp_path_factory):
    return export_episode(
        opened_run,
        failure,
        tmp_path_factory.mktemp("page") / "failed.html",
    )


@pytest.fixture(scope="module")
def exported(browser, export):
    """Yield the export in a browser without a network."""
    viewer = open_export(browser, export)
    yield viewer
    assert not viewer.complaints
    assert not viewer.requests


def seek(viewer, step):
    """Go to a step by keys alone, from the start."""
    viewer.press(
        "Home",
        *["Shift+ArrowRight"] * (step // 20),
        *["ArrowRight"] * (step % 20),
    )
    assert viewer.state["step"] == step


def test_the_bundle_is_built_of_these_sources():
    """The bundle's first line has the hash that viz/web/build.mjs computes of the sources."""
    digest = hashlib.sha256()
    names = ["build.mjs", "package.json", "package-lock.json", "../overlay.json"]
    files = [path for path in WEB.glob("src/**/*") if path.is_file()]
    names += [path.relative_to(WEB).as_posix() for path in files]
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + (WEB / name).read_bytes() + b"\0")
    expected = f"/* sources sha256 {digest.hexdigest()} */"
    for built in ("viewer.js", "viewer.css"):
        first_line = (WEB / "dist" / built).read_text().partition("\n")[0]
        assert first_line == expected, "npm --prefix viz/web run build"


def test_an_export_opens_from_the_disk_where_the_episode_failed(browser, export, failure):
    step = failure.decisive_step
    assert 0 < step < 300
    viewer = open_export(browser, export)
    state = viewer.state
    assert state == state | {
        "kind": "export",
        "key": "pick_place/8",
        "error": None,
        "webgl": True,
        "n_steps": 300,
        "step": step,
    }
    assert viewer.page.title()
    assert viewer.page.inner_text('[data-fact="step"]') == f"{step} / 300"
    event = failure.decisive_event.replace("_", " ")
    assert viewer.page.inner_text(".item").split("\n") == ["#8", event, f"step {step}"]


@pytest.mark.parametrize(
    ("key", "command", "before", "after"),
    MOVES,
)
def test_a_key_and_its_button_move_alike(exported, failure, key, command, before, after):
    after = failure.decisive_step if after == "decisive" else after
    seek(exported, before)
    assert exported.press(key)["step"] == after
    seek(exported, before)
    assert exported.click(command)["step"] == after


@pytest.mark.parametrize(
    ("key", "name"),
    SWITCHES,
)
def test_a_key_and_its_button_switch_alike(exported, key, name):
    before = exported.state[name]
    after = exported.press(key)[name]
    assert after != before
    # The help covers the buttons.
    if name == "help":
        assert exported.press(key)[name] == before
        assert exported.click(name)[name] == after
        assert exported.press("Escape")[name] == before
        return
    changed_by_button = exported.click(name)[name]
    assert changed_by_button != after
    while exported.state[name] != before:
        exported.press(key)


def test_brackets_change_the_speed_and_so_do_buttons(exported):
    assert exported.press("]")["speed"] == 2
    assert exported.press("[", "[")["speed"] == 0.5
    assert exported.click("faster")["speed"] == 1
    assert exported.click("slower")["speed"] == 0.5
    exported.press("]")


def test_space_plays_and_pauses(exported):
    # The speed is 1, at which the episode does not end before a busy machine checks the state.
    exported.press("Home", "Space")
    assert exported.state["playing"]
    exported.wait(lambda: exported.state["step"] > 5)
    paused = exported.press("Space")
    assert not paused["playing"]
    assert exported.settled()["step"] == paused["step"]
    exported.press("]", "]", "]")
    exported.click("play")
    exported.wait_for(playing=False)
    assert exported.state["step"] == 300
    exported.press("[", "[", "[")


def test_one_episode_says_so_when_another_is_asked_for(exported):
    assert "only this episode" in exported.press("ArrowDown")["toast"]
    assert exported.press("ArrowUp")["key"] == "pick_place/8"


def test_every_button_has_a_key_and_every_key_is_in_the_help(exported):
    exported.press("?")
    text = exported.page.inner_text("body")
    for name in ("SPACE", "SHIFT", "HOME", "END", *"[]GABCDEFILOPTW?"):
        assert name in text
    exported.press("?")
    buttons = exported.page.locator("button[data-command]")
    titles = [buttons.nth(i).get_attribute("title") for i in range(buttons.count())]
    assert len(titles) == 25
    assert all("(" in title for title in titles)


def test_the_whiskers_are_drawn_in_their_colours(exported):
    seek(exported, 0)
    orange_at_the_start = exported.count("orange")
    assert exported.count("green") > 60
    # The trail becomes the whole executed path.
    exported.press("l", "l")
    seek(exported, 110)
    assert exported.count("green") > 60
    assert exported.count("orange") > orange_at_the_start + 100
    exported.press("l")
    assert exported.state["n_ghosts_drawn"] == 5
    with_ghosts = exported.count("blue")
    assert exported.press("g")["n_ghosts_drawn"] == 0
    assert exported.count("blue") < with_ghosts - 20
    exported.press("g")


def test_the_trail_is_short_unless_one_asks_for_more(exported):
    assert exported.state["trail"] == 2
    exported.press("End")
    orange = [exported.count("orange")]
    for trail in (5, "all"):
        assert exported.press("l")["trail"] == trail
        orange.append(exported.count("orange"))
    assert 0 < 1.3 * orange[0] < orange[1]
    assert 1.3 * orange[1] < orange[2], orange
    exported.press("w")
    assert exported.count("orange") < orange[0]
    # Choosing a trail shows it.
    assert exported.press("l")["taken"]
    assert exported.state["trail"] == 2


@pytest.mark.parametrize(
    "deficiency",
    ["none", "deuteranopia"],
)
def test_plan_and_way_taken_stand_out_for_every_eye(exported, deficiency):
    """Plan and executed path stand out under a colour vision deficiency, too.

    Chromium simulates the deficiency. The picture without a line shows what the line covers.
    """
    chromium = exported.page.context.new_cdp_session(exported.page)
    chromium.send("Emulation.setEmulatedVisionDeficiency", {"type": deficiency})
    try:
        seek(exported, 70)
        for key, least in (("p", 100), ("w", 20)):
            with_line = exported.lab(".picture canvas")
            exported.press(key)
            without = exported.lab(".picture canvas")
            distance = np.linalg.norm(with_line - without, axis=2)
            exported.press(key)
            # The distance is in CIELAB. A difference of 10 is visible at a glance.
            assert (distance > 25).sum() > least
    finally:
        chromium.send("Emulation.setEmulatedVisionDeficiency", {"type": "none"})
        chromium.detach()


def test_stepping_back_shows_the_very_same_picture(exported):
    seek(exported, 43)
    first = exported.picture()
    exported.press("End")
    seek(exported, 60)
    exported.press(*["ArrowLeft"] * 17)
    assert exported.picture() == first


def test_the_timeline_is_clicked_to_seek(exported):
    box = exported.page.locator(".timeline .track").bounding_box()
    exported.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 8)
    assert abs(exported.settled()["step"] - 150) <= 2


def test_a_graph_tells_the_value_at_the_pointer(exported, opened_run, failure):
    """The tooltip of a graph shows the value of the recorded arrays."""
    arrays = opened_run.load_arrays(failure)
    seek(exported, 60)
    in_force = [row_at("prediction", step, arrays.prediction_step) for step in range(301)]
    for name, values in (
        ("gripper.pos", arrays.state[:, -1]),
        ("object height", 100 * arrays.object_height_m),
        ("policy latency", arrays.series[POLICY_LATENCY].values[in_force]),
    ):
        plot = exported.page.locator(f'[data-column="{name}"] .plot')
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        exported.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
        told = exported.page.inner_text(".tip")
        step = int(re.match(r"step (\d+), ", told)[1])
        assert abs(step - 75) <= 1
        assert f"{step / 30:.2f} s" in told
        shown = float(re.search(r"measured (\S+)", told)[1].replace("−", "-"))
        assert shown == pytest.approx(
            values[step],
            abs=0.06,
            rel=0.005,
        )
    # A latency is neither commanded nor planned.
    assert "predicted" not in told
    exported.page.mouse.move(1, 1)
    exported.wait(lambda: exported.page.locator(".tip").is_hidden())


def test_units_do_not_read_as_values(exported):
    units = exported.page.locator(".graph .unit").all_inner_texts()
    assert units[0] == "[cm]"
    assert "[deg]" in units
    assert len(units) == 10
    assert units[-2:] == ["[ms]", "[share of range]"]
    assert not any(character.isdigit() for character in "".join(units))


def test_graphs_are_zoomed_and_follow(exported):
    def ticks():
        return exported.page.locator(".time-axis .tick").all_inner_texts()

    seek(exported, 200)
    assert exported.state["graph_steps"] == [0, 300]
    assert ticks() == [f"{second} s" for second in range(0, 11, 2)]
    assert exported.press("i")["graph_steps"] == [125, 275]
    assert ticks() == [f"{second} s" for second in range(5, 10)]
    assert exported.press("Home")["graph_steps"] == [0, 150]
    assert exported.click("zoom-out")["graph_steps"] == [0, 300]
    # The zoom stops at 10 steps.
    assert exported.press(*"iiiiiii")["graph_steps"] == [0, 10]
    assert exported.press(*"oooooo")["graph_steps"] == [0, 300]


def test_a_channel_is_hidden_until_it_is_wanted_again(exported):
    graph = exported.page.locator('[data-column="wrist_roll.pos"]')
    graph.locator(".hide").click()
    assert exported.state["hidden_channels"] == ["wrist_roll.pos"]
    assert graph.is_hidden()
    exported.page.click(".hidden-channels button")
    assert exported.state["hidden_channels"] == []
    assert graph.is_visible()


def choose_theme(viewer, theme):
    while viewer.state["theme"] != theme:
        viewer.press("t")


def assert_legible(viewer, least_texts):
    """Assert that text has at least 12 px and the contrast of WCAG 2.2 level AA."""
    texts = viewer.page.evaluate(TEXTS)
    assert len(texts) > least_texts
    assert not [text for text in texts if text["size"] < 12 or text["contrast"] < 4.5]


@pytest.mark.parametrize(
    "theme",
    ["dark", "light"],
)
def test_text_is_large_enough_and_stands_out(exported, theme):
    choose_theme(exported, theme)
    exported.press("?")
    assert_legible(exported, 100)
    exported.press("?")
    choose_theme(exported, "light")


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (1440, 900),
        (900, 700),
        (700, 900),
        (390, 844),
    ],
)
def test_the_picture_has_room_on_every_screen(browser, export, width, height):
    viewer = open_export(
        browser,
        export,
        width=width,
        height=height,
    )
    canvas = viewer.page.locator(".picture canvas").bounding_box()
    assert canvas["width"] >= min(width, 400)
    assert canvas["height"] >= 300
    assert canvas["y"] + canvas["height"] <= height
    legend = viewer.page.locator(".scene-bar").bounding_box()
    # The legend does not cover the arm.
    assert legend["y"] + legend["height"] <= canvas["y"] + 1
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width
    assert viewer.press("Home")["step"] == 0
    assert viewer.click("next-step")["step"] == 1
    # A narrow screen has no room for the list, and a button opens it.
    if not viewer.state["list"]:
        viewer.click("list")
    viewer.page.click(".item")
    viewer.wait_for(list=width > 860)


def test_a_run_is_browsed_failures_first(browser, opened_run):
    with serve_run(browser, opened_run) as viewer:
        assert viewer.state["episodes"] == ["pick_place/8", "pick_place/7"]
        assert viewer.state["key"] == "pick_place/8"
        assert viewer.press("ArrowDown")["key"] == "pick_place/7"
        viewer.wait_for(n_steps=opened_run.rows[0].n_steps)
        # The episode succeeded.
        assert viewer.state["step"] == 0
        assert "succeeded" in viewer.press("d")["toast"]
        assert viewer.state["step"] == 0
        assert viewer.click("previous-episode")["key"] == "pick_place/8"
        viewer.page.click('[data-filter="success"]')
        assert viewer.settled()["episodes"] == ["pick_place/7"]
        viewer.page.click('[data-filter="all"]')
        assert len(viewer.settled()["episodes"]) == 2
        assert not viewer.complaints


def test_plans_and_images_come_as_they_are_looked_at(browser, opened_run):
    """The scene does not wait for plans and images, and the page says which are missing."""
    there = threading.Event()
    asked = []

    class SlowSource(RunSource):
        def images(self, key, prediction):
            asked.append(prediction)
            assert there.wait(60)
            return super().images(key, prediction)

    with serve_run(browser, opened_run, SlowSource) as viewer:
        viewer.wait(lambda: asked)
        assert viewer.state["filling"]
        assert viewer.state["error"] is None
        shown = viewer.state["prediction"]
        words = viewer.page.locator(".cameras .waiting").all_inner_texts()
        assert asked == [shown]
        assert words == [f"rendering image {shown + 1} of 15"] * 2
        there.set()
        assert not viewer.settled()["filling"]
        assert viewer.page.locator(".cameras .waiting:visible").count() == 0
        viewer.press("Home")
        viewer.wait(lambda: viewer.count("green", ".cameras canvas") > 3)
        # Images that are never shown are not rendered.
        assert set(asked) < set(range(15))
        assert not viewer.complaints


def test_a_suite_is_searched_filtered_and_sorted(browser, opened_run, tmp_path):
    """The list of a suite of ten tasks is searched, filtered and sorted.

    Each task has a row of a failed episode and one of a successful episode. None of them is opened.
    """
    run = shutil.copytree(opened_run.path, tmp_path / "run")
    places = ["between_the_plate_and_the_ramekin", "from_table_center", "on_the_stove", *"abcdefg"]
    tasks = [
        f"libero_spatial/pick_up_the_black_bowl_{place}_and_place_it_on_the_plate"
        for place in places
    ]
    envs = [f"suite/{number}" for number in range(10)]
    make_suite_of(
        run,
        dict(zip(tasks, envs, strict=True)),
        n_predictions=0,
    )
    with serve_run(browser, Run.open(run)) as viewer:

        def shown():
            # An item has its lines only once it is drawn.
            viewer.settled()
            return viewer.page.locator(".item").all_inner_texts()

        def names():
            return [item.partition("\n")[0] for item in shown()]

        # A run of several tasks is shown as a grid.
        assert viewer.state["shape"] == "grid"
        viewer.page.click('[data-shape="list"]')
        # Number and episode come first, then the decisive event, then the words that distinguish
        # the tasks.
        step = opened_run.rows[1].decisive_step
        first = f"0 #8\nclosest approach\nstep {step}\nbetween the plate and the ramekin"
        assert shown()[0] == first
        assert names()[:10] == [f"{number} #8" for number in range(10)]
        viewer.press("/")
        viewer.page.keyboard.type("stove")
        viewer.press("Enter")
        assert names() == ["2 #8", "2 #7"]
        viewer.page.fill('input[type="search"]', "task 1 closest")
        (found,) = shown()
        assert found.startswith("1 #8\n")
        assert found.endswith("\nfrom table center")
        viewer.page.fill('input[type="search"]', "")
        viewer.page.select_option('select[aria-label="task"]', tasks[1])
        assert names() == ["1 #8", "1 #7"]
        viewer.page.select_option('select[aria-label="task"]', "")
        viewer.page.select_option('select[aria-label="order"]', "task")
        assert names()[:4] == ["0 #7", "0 #8", "1 #7", "1 #8"]
        viewer.page.select_option('select[aria-label="order"]', "step")
        assert names()[:2] == ["0 #8", "1 #8"]
        viewer.page.click('[data-filter="success"]')
        assert sorted(names()) == [f"{number} #7" for number in range(10)]


def test_a_damaged_episode_is_said_and_the_others_still_open(browser, failed_run, tmp_path):
    run = shutil.copytree(failed_run, tmp_path / "run")
    (run / "episodes" / "pick_place" / "8.npz").write_bytes(b"torn")
    with serve_run(browser, Run.open(run)) as viewer:
        assert "expected the recorded arrays" in viewer.state["error"]
        assert viewer.press("ArrowDown")["key"] == "pick_place/7"
        assert viewer.state["error"] is None


def assert_second_plan_opens_beside_two_images(viewer):
    assert viewer.press("Home", "Shift+ArrowRight", "ArrowRight")["step"] == 21
    assert viewer.page.locator(".cameras canvas").count() == 2
    assert not viewer.complaints


def test_without_webgl_the_page_says_so_and_shows_the_camera_images(playwright, export):
    with opened_browser(playwright, NO_WEBGL) as browser:
        viewer = open_export(browser, export)
        assert not viewer.state["webgl"]
        assert "WebGL" in viewer.page.inner_text("body")
        assert_second_plan_opens_beside_two_images(viewer)
        assert viewer.count("green", ".cameras canvas >> nth=1") > 3


@pytest.mark.usefixtures("undrawable")
def test_without_a_scene_the_page_says_so_and_shows_the_camera_images(
    browser, opened_run, failure, tmp_path
):
    viewer = open_export(
        browser,
        export_episode(opened_run, failure, tmp_path / "page.html"),
    )
    assert "cannot be drawn in 3D" in viewer.page.inner_text(".scene")
    assert not viewer.page.locator(".scene canvas").is_visible()
    assert_second_plan_opens_beside_two_images(viewer)
    assert viewer.page.evaluate(N_COLOURS) > 200
    assert viewer.count("green", ".cameras canvas >> nth=1") <= 3


def test_alternatives_and_denoising_steps_are_drawn_where_they_were_recorded(browser, sampled_page):
    viewer = open_export(browser, sampled_page)
    assert viewer.state["intermediate_plans"]
    assert viewer.state["alternatives"]
    whole = before = viewer.picture()
    for key in ("a", "f"):
        viewer.press(key)
        after = viewer.picture()
        # The switch removes lines.
        assert after != before
        before = after
    assert viewer.press("a", "f")["toast"] is None
    assert viewer.picture() == whole


def test_a_recorded_run_is_branched_off(browser, failed_run, tmp_path):
    run = Run.open(shutil.copytree(failed_run, tmp_path / "run"))
    with serve_run(browser, run) as viewer:
        page = viewer.page
        assert page.locator(".live").is_hidden()
        viewer.press("End", "Shift+ArrowLeft", "Shift+ArrowLeft", "b")
        assert page.inner_text("details.branch summary") == "branch at prediction 14"
        # A field that this policy cannot use is disabled, and says why.
        for field, reason in (
            ("seed", "act is deterministic"),
            ("instruction", "does not read the instruction"),
        ):
            assert page.is_disabled(f'input[name="{field}"]')
            assert reason in page.inner_text(f".branch .field:has([name={field}])")
        page.check('input[name="wrist_cam"]')
        viewer.click("live-branch")
        viewer.wait_for(
            key="pick_place/8 ~1",
            n_steps=300,
        )
        viewer.wait(lambda: viewer.state["live"]["state"] == "paused")
        (kept,) = run.branches
        name, _, step, changes = page.inner_text(".item.branch").split("\n")
        assert (name, step, changes) == ("↳ ~1", f"step {kept.decisive_step}", "wrist_cam blinded")
        assert page.get_attribute(OTHER_GRIPPER_PATH, "d").count("L") >= 30
        assert "other future" in page.inner_text(".legend")
        assert viewer.press("ArrowUp")["key"] == "pick_place/8"
        # The address changes a little later. Playwright updates `page.url` only during its own
        # calls, so the test asks the page.
        viewer.wait(lambda: "episode=pick_place/8&" in page.evaluate("location.hash"))
        # The branch is still listed after the run is opened again.
        page.reload()
        viewer.wait(lambda: page.evaluate("window.__ready === true"))
        assert viewer.settled()["episodes"] == ["pick_place/8", "pick_place/8 ~1", "pick_place/7"]
        assert viewer.press("ArrowDown")["n_steps"] == kept.n_steps
        assert not viewer.complaints


def test_a_rollout_is_driven_from_the_page(browser):
    # A gripper that stays open never succeeds. On a busy machine the rollout runs far before it is
    # paused, and a success would end it.
    config = make_config(
        EvalConfig,
        policy="act",
        checkpoint="act-early",
        n_action_steps=10,
        gripper_min=100.0,
        max_steps=3000,
    )
    with closing(LiveSession(config)) as session, served(session) as server:
        viewer = Viewer(browser, server.url)
        page = viewer.page

        def wait_until_paused(**state):
            viewer.wait(lambda: viewer.state["live"]["state"] == "paused")
            viewer.wait_for(**state)

        def wait_until_idle_at(n_steps):
            wait_until_paused(step=n_steps, n_steps=n_steps)

        def trunk_parts():
            return [dict(part) for part in session.episode("pick_place/0")["parts"]]

        assert viewer.state["kind"] == "live"
        assert viewer.state["key"] == "pick_place/0"
        viewer.click("live-step")
        wait_until_idle_at(1)
        # At the latest step, the key advances the rollout.
        viewer.press("ArrowRight")
        wait_until_idle_at(2)
        viewer.press("Shift+ArrowRight")
        wait_until_idle_at(10)
        viewer.press("Space")
        viewer.wait(lambda: viewer.state["step"] > 15)
        viewer.press("Space")
        wait_until_paused()
        viewer.wait(lambda: viewer.state["step"] == viewer.state["n_steps"])
        trunk_steps = viewer.state["n_steps"]
        before = trunk_parts()
        assert page.get_attribute(LATENCY_PATH, "d").startswith("M0 ")
        # The viewer goes back to an earlier step and branches off there.
        assert viewer.press("Home", "ArrowRight")["step"] == 1
        assert trunk_parts() == before
        page.click("details.branch summary")
        page.check('input[name="wrist_cam"]')
        page.fill('input[name="n_action_steps"]', "5")
        viewer.click("live-branch")
        viewer.wait_for(key="pick_place/0 ~1")
        wait_until_paused()
        viewer.click("live-step-prediction", "live-step-prediction")
        wait_until_idle_at(10)
        # Magenta is the colour of the other branch.
        assert viewer.count("magenta") > 30
        assert page.get_attribute(OTHER_GRIPPER_PATH, "d").count("L") >= 10
        assert trunk_parts() == before
        branch = session.episode("pick_place/0 ~1")["header"]["branch"]
        assert branch["changes"] == "n_action_steps 5, wrist_cam blinded"
        # The first episode can be continued.
        viewer.press("ArrowUp")
        viewer.wait_for(
            key="pick_place/0",
            loading=False,
        )
        viewer.press("End")
        viewer.wait_for(step=trunk_steps)
        viewer.press("ArrowRight")
        wait_until_idle_at(trunk_steps + 1)
        # The form resets the session to another episode.
        page.fill('input[name="episode"]', "3")
        viewer.click("live-reset")
        viewer.wait_for(key="pick_place/3")
        assert not viewer.complaints


def test_the_command_serves_the_page_until_it_is_ended(browser, failed_run):
    command = [sys.executable, "-m", "viz", str(failed_run), "--no-browser"]
    whiskers = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=catch_ctrl_c,
    )
    try:
        url = whiskers.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        viewer = Viewer(browser, url)
        assert viewer.state["error"] is None
        whiskers.send_signal(signal.SIGINT)
        assert whiskers.wait(20) == 0
    finally:
        whiskers.kill()
    viewer.press("ArrowDown")
    viewer.wait(lambda: "server" in (viewer.state["error"] or ""))
