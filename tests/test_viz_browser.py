"""Tests of the page in a real browser.

The page is an export from the disk, the server of a run, or a live rollout.
"""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from eval.config import EvalConfig
from eval.declared_series import POLICY_LATENCY
from eval.episode_loop import evaluate
from eval.episode_row import load_rows
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder
from eval.series import row_at
from sim.capabilities import Drawable
from sim.flags import make_config
from tests.browser import NO_WEBGL, Viewer, needs_chromium, opened_browser, served
from tests.processes import catch_ctrl_c
from tests.small_checkpoints import save_small_smolvla
from tests.without import Without
from viz.live import LiveSession
from viz.page import export_episode, find_row
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
def export(failed_run, tmp_path_factory):
    return export_episode(
        Run.open(failed_run),
        find_row(Run.open(failed_run), 8),
        tmp_path_factory.mktemp("page") / "failed.html",
    )


@pytest.fixture(scope="module")
def failure(failed_run):
    """Return the row of the episode that failed."""
    return find_row(Run.open(failed_run), 8)


@pytest.fixture(scope="module")
def exported(browser, export):
    """Yield the export in a browser without a network."""
    viewer = Viewer(browser, export.as_uri(), offline=True)
    yield viewer
    assert not viewer.complaints and not viewer.requests


@pytest.fixture(scope="module")
def run_viewer(browser, failed_run):
    with (
        closing(
            RunSource(
                Run.open(failed_run),
                find_row(Run.open(failed_run), None),
            )
        ) as source,
        served(source) as server,
    ):
        viewer = Viewer(browser, server.url)
        yield viewer
        assert not viewer.complaints


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
    names += [
        path.relative_to(WEB).as_posix() for path in (WEB / "src").rglob("*") if path.is_file()
    ]
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + (WEB / name).read_bytes() + b"\0")
    for built in ("viewer.js", "viewer.css"):
        first = (WEB / "dist" / built).read_text().partition("\n")[0]
        assert first == f"/* sources sha256 {digest.hexdigest()} */", (
            "npm --prefix viz/web run build"
        )


def test_an_export_opens_from_the_disk_with_no_network(exported):
    state = exported.state
    assert state["kind"] == "export" and state["key"] == "pick_place/8" and state["error"] is None
    assert state["webgl"] and state["n_steps"] == 300 and exported.page.title()


def test_a_failed_episode_opens_where_it_failed(browser, export, failure):
    assert 0 < failure.decisive_step < 300
    viewer = Viewer(browser, export.as_uri(), offline=True)
    assert viewer.state["step"] == failure.decisive_step
    assert viewer.page.inner_text('[data-fact="step"]') == f"{failure.decisive_step} / 300"
    event = str(failure.decisive_event).replace("_", " ")
    assert viewer.page.inner_text(".item").split("\n") == [
        "#8",
        event,
        f"step {failure.decisive_step}",
    ]


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


@pytest.mark.parametrize(("key", "name"), SWITCHES)
def test_a_key_and_its_button_switch_alike(exported, key, name):
    before = exported.state[name]
    after = exported.press(key)[name]
    assert after != before
    # The help covers the buttons.
    if name == "help":
        assert exported.press(key)[name] == before
        assert exported.click(name)[name] == after and exported.press("Escape")[name] == before
        return
    changed_by_button = exported.click(name)[name]
    assert changed_by_button != after
    while exported.state[name] != before:
        exported.press(key)


def test_brackets_change_the_speed_and_so_do_buttons(exported):
    assert exported.press("]")["speed"] == 2 and exported.press("[", "[")["speed"] == 0.5
    assert exported.click("faster")["speed"] == 1 and exported.click("slower")["speed"] == 0.5
    exported.press("]")


def test_space_plays_and_pauses(exported):
    # The speed is 1, at which the episode does not end before a busy machine checks the state.
    exported.press("Home", "Space")
    assert exported.state["playing"]
    exported.wait(lambda: exported.state["step"] > 5)
    paused = exported.press("Space")
    assert not paused["playing"] and exported.settled()["step"] == paused["step"]
    exported.press("]", "]", "]")
    exported.click("play")
    exported.wait(lambda: not exported.state["playing"])
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
    assert len(titles) == 25 and all("(" in title for title in titles)


def test_the_whiskers_are_drawn_in_their_colours(exported):
    seek(exported, 0)
    orange_at_the_start = exported.count("orange")
    assert exported.count("green") > 60
    # The trail becomes the whole executed path.
    exported.press("l", "l")
    seek(exported, 110)
    assert exported.count("green") > 60 and exported.count("orange") > orange_at_the_start + 100
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
    assert 0 < orange[0] < orange[1] - 30 and orange[1] < orange[2] - 30
    exported.press("w")
    assert exported.count("orange") < orange[0]
    # Choosing a trail shows it.
    assert exported.press("l")["taken"]
    assert exported.state["trail"] == 2


@pytest.mark.parametrize("deficiency", ["none", "deuteranopia"])
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
            distance = np.linalg.norm(
                with_line - exported.lab(".picture canvas"),
                axis=2,
            )
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


def test_a_graph_tells_the_value_at_the_pointer(exported, failed_run, failure):
    """The tooltip of a graph shows the value of the recorded arrays."""
    arrays = Run.open(failed_run).load_arrays(failure)
    seek(exported, 60)
    in_force = [
        row_at("prediction", step, arrays.prediction_step) for step in range(len(arrays.state))
    ]
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
        assert abs(step - 75) <= 1 and f"{step / 30:.2f} s" in told
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
    assert units[0] == "[cm]" and "[deg]" in units and len(units) == 10
    assert units[-2:] == ["[ms]", "[share of range]"]
    assert not any(character.isdigit() for character in "".join(units))


def test_graphs_are_zoomed_and_follow(exported):
    def ticks():
        return exported.page.locator(".time-axis .tick").all_inner_texts()

    seek(exported, 200)
    assert exported.state["graph_steps"] == [0, 300] and ticks() == [
        "0 s",
        "2 s",
        "4 s",
        "6 s",
        "8 s",
        "10 s",
    ]
    assert exported.press("i")["graph_steps"] == [125, 275] and ticks() == [
        "5 s",
        "6 s",
        "7 s",
        "8 s",
        "9 s",
    ]
    begin, end = exported.press("Home")["graph_steps"]
    assert begin == 0 and end == 150
    assert exported.click("zoom-out")["graph_steps"] == [0, 300]
    # The zoom stops at 10 steps.
    assert exported.press("i", "i", "i", "i", "i", "i", "i")["graph_steps"] == [
        0,
        10,
    ]
    exported.press(*["o"] * 6)
    assert exported.state["graph_steps"] == [0, 300]


def test_a_channel_is_hidden_until_it_is_wanted_again(exported):
    graph = exported.page.locator('[data-column="wrist_roll.pos"]')
    graph.locator(".hide").click()
    assert exported.state["hidden_channels"] == ["wrist_roll.pos"] and graph.is_hidden()
    exported.page.click(".hidden-channels button")
    assert exported.state["hidden_channels"] == [] and graph.is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_large_enough_and_stands_out(exported, theme):
    """Text has at least 12 px and the contrast of WCAG 2.2 level AA."""
    while exported.state["theme"] != theme:
        exported.press("t")
    exported.press("?")
    texts = exported.page.evaluate(TEXTS)
    exported.press("?")
    if theme == "dark":
        exported.press("t")
    assert len(texts) > 100
    assert not [text for text in texts if text["size"] < 12 or text["contrast"] < 4.5]


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
    viewer = Viewer(
        browser,
        export.as_uri(),
        offline=True,
        width=width,
        height=height,
    )
    canvas = viewer.page.locator(".picture canvas").bounding_box()
    assert canvas["width"] >= min(width, 400) and canvas["height"] >= 300
    assert canvas["y"] + canvas["height"] <= height
    legend = viewer.page.locator(".scene-bar").bounding_box()
    # The legend does not cover the arm.
    assert legend["y"] + legend["height"] <= canvas["y"] + 1
    assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width
    assert viewer.press("Home")["step"] == 0 and viewer.click("next-step")["step"] == 1
    # A narrow screen has no room for the list, and a button opens it.
    if not viewer.state["list"]:
        viewer.click("list")
    viewer.page.click(".item")
    viewer.wait(lambda: viewer.state["list"] == (width > 860))


def test_a_run_is_browsed_failures_first(run_viewer, failed_run):
    state = run_viewer.state
    assert state["episodes"] == ["pick_place/8", "pick_place/7"] and state["key"] == "pick_place/8"
    assert run_viewer.press("ArrowDown")["key"] == "pick_place/7"
    n_steps = next(row.n_steps for row in load_rows(failed_run) if row.episode_index == 7)
    run_viewer.wait(lambda: run_viewer.state["n_steps"] == n_steps)
    # The episode succeeded.
    assert run_viewer.state["step"] == 0
    assert "succeeded" in run_viewer.press("d")["toast"] and run_viewer.state["step"] == 0
    assert run_viewer.click("previous-episode")["key"] == "pick_place/8"
    run_viewer.page.click('[data-filter="success"]')
    assert run_viewer.settled()["episodes"] == ["pick_place/7"]
    run_viewer.page.click('[data-filter="all"]')
    assert len(run_viewer.settled()["episodes"]) == 2


def test_plans_and_images_come_as_they_are_looked_at(browser, failed_run):
    """The scene does not wait for plans and images, and the page says which are missing."""
    there = threading.Event()
    asked = []

    class SlowSource(RunSource):
        def images(self, key, prediction):
            asked.append(prediction)
            assert there.wait(60)
            return super().images(key, prediction)

    run = Run.open(failed_run)
    with closing(SlowSource(run, find_row(run, None))) as source, served(source) as server:
        viewer = Viewer(browser, server.url)
        viewer.wait(lambda: asked)
        assert viewer.state["filling"] and viewer.state["error"] is None
        shown = viewer.state["prediction"]
        words = viewer.page.locator(".cameras .waiting").all_inner_texts()
        assert asked == [shown] and words == [f"rendering image {shown + 1} of 15"] * 2
        there.set()
        assert not viewer.settled()["filling"]
        assert viewer.page.locator(".cameras .waiting:visible").count() == 0
        viewer.press("Home")
        viewer.wait(lambda: viewer.count("green", ".cameras canvas") > 3)
        # Images that are never shown are not rendered.
        assert set(asked) < set(range(15)) and not viewer.complaints


def test_a_suite_is_searched_filtered_and_sorted(browser, failed_run, tmp_path):
    """The list of a suite of ten tasks is searched, filtered and sorted.

    Each task has a row of a failed episode and one of a successful episode. None of them is opened.
    """
    run = shutil.copytree(failed_run, tmp_path / "run")
    places = ["between_the_plate_and_the_ramekin", "from_table_center", "on_the_stove", *"abcdefg"]
    tasks = [
        f"libero_spatial/pick_up_the_black_bowl_{place}_and_place_it_on_the_plate"
        for place in places
    ]
    rows = [replace(row, n_predictions=0) for row in load_rows(failed_run)]
    lines = [replace(row, task=task).to_json() for task in tasks for row in rows]
    (run / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    description = json.loads((run / "run.json").read_text())
    description["tasks"] = {task: f"libero_spatial/{number}" for number, task in enumerate(tasks)}
    (run / "run.json").write_text(json.dumps(description))
    with (
        closing(RunSource(Run.open(run), find_row(Run.open(run), None))) as source,
        served(source) as server,
    ):
        viewer = Viewer(browser, server.url)

        def shown():
            # An item has its lines only once it is drawn.
            viewer.settled()
            return [item.split("\n") for item in viewer.page.locator(".item").all_inner_texts()]

        # A run of several tasks is shown as a grid.
        assert viewer.state["shape"] == "grid"
        viewer.page.click('[data-shape="list"]')
        # Number and episode come first, then the decisive event, then the words that distinguish
        # the tasks.
        assert shown()[0] == [
            "0 #8",
            "closest approach",
            "step 38",
            "between the plate and the ramekin",
        ]
        assert [item[0] for item in shown()[:10]] == [f"{number} #8" for number in range(10)]
        viewer.press("/")
        viewer.page.keyboard.type("stove")
        viewer.press("Enter")
        assert [item[0] for item in shown()] == ["2 #8", "2 #7"]
        viewer.page.fill('input[type="search"]', "task 1 closest")
        assert [(item[0], item[3]) for item in shown()] == [("1 #8", "from table center")]
        viewer.page.fill('input[type="search"]', "")
        viewer.page.select_option('select[aria-label="task"]', tasks[1])
        assert [item[0] for item in shown()] == ["1 #8", "1 #7"]
        viewer.page.select_option('select[aria-label="task"]', "")
        viewer.page.select_option('select[aria-label="order"]', "task")
        assert [item[0] for item in shown()[:4]] == ["0 #7", "0 #8", "1 #7", "1 #8"]
        viewer.page.select_option('select[aria-label="order"]', "step")
        assert [item[0] for item in shown()[:2]] == ["0 #8", "1 #8"]
        viewer.page.click('[data-filter="success"]')
        assert len(shown()) == 10 and all(item[0].endswith("#7") for item in shown())


def test_a_damaged_episode_is_said_and_the_others_still_open(browser, failed_run, tmp_path):
    run = shutil.copytree(failed_run, tmp_path / "run")
    (run / "episodes" / "pick_place" / "8.npz").write_bytes(b"torn")
    with (
        closing(RunSource(Run.open(run), find_row(Run.open(run), None))) as source,
        served(source) as server,
    ):
        viewer = Viewer(browser, server.url)
        assert "expected the recorded arrays" in viewer.state["error"]
        assert viewer.press("ArrowDown")["key"] == "pick_place/7" and viewer.state["error"] is None


def test_without_webgl_the_page_says_so_and_shows_the_camera_images(playwright, export):
    with opened_browser(playwright, NO_WEBGL) as browser:
        viewer = Viewer(browser, export.as_uri(), offline=True)
        assert not viewer.state["webgl"] and "WebGL" in viewer.page.inner_text("body")
        assert viewer.press("Home", "Shift+ArrowRight", "ArrowRight")["step"] == 21
        assert viewer.page.locator(".cameras canvas").count() == 2
        assert viewer.count("green", ".cameras canvas >> nth=1") > 3
        assert not viewer.complaints


def test_without_a_scene_the_page_says_so_and_shows_the_camera_images(
    browser, failed_run, tmp_path, monkeypatch
):
    open_env = Run.open_env
    monkeypatch.setattr(
        Run, "open_env", lambda run, *asked: Without(open_env(run, *asked), Drawable)
    )
    run = Run.open(failed_run)
    viewer = Viewer(
        browser,
        export_episode(run, find_row(run, 8), tmp_path / "page.html").as_uri(),
        offline=True,
    )
    assert "cannot be drawn in 3D" in viewer.page.inner_text(".scene")
    assert not viewer.page.locator(".scene canvas").is_visible()
    assert viewer.press("Home", "Shift+ArrowRight", "ArrowRight")["step"] == 21
    assert viewer.page.locator(".cameras canvas").count() == 2
    assert viewer.page.evaluate(N_COLOURS) > 200
    assert viewer.count("green", ".cameras canvas >> nth=1") <= 3
    assert not viewer.complaints


def test_alternatives_and_denoising_steps_are_drawn_where_they_were_recorded(browser, tmp_path):
    checkpoint = save_small_smolvla(tmp_path / "smolvla")
    config = make_config(
        EvalConfig,
        policy="smolvla",
        checkpoint=str(checkpoint),
        max_steps=8,
        episodes=1,
        samples=4,
        intermediate_plans=True,
    )
    setup = set_up(config)
    with closing(setup.env), closing(RunFolder.create(tmp_path, describe(config, setup))) as run:
        list(evaluate(config, setup, run))
    page = export_episode(
        Run.open(run.path),
        find_row(Run.open(run.path), 0),
        tmp_path / "page.html",
        show_intermediate=True,
    )
    viewer = Viewer(browser, page.as_uri(), offline=True)
    assert viewer.state["intermediate_plans"] and viewer.state["alternatives"]
    pictures = [viewer.picture()]
    for key in ("a", "f"):
        viewer.press(key)
        pictures.append(viewer.picture())
    # Each switch removes lines.
    assert all(a != b for a, b in pairwise(pictures))
    assert viewer.press("a", "f")["toast"] is None and viewer.picture() == pictures[0]


def test_a_recorded_run_is_branched_off(browser, failed_run, tmp_path):
    run = Run.open(shutil.copytree(failed_run, tmp_path / "run"))
    with closing(RunSource(run, find_row(run, 8))) as source, served(source) as server:
        viewer = Viewer(browser, server.url)
        assert viewer.page.locator(".live").is_hidden()
        viewer.press("End", "Shift+ArrowLeft", "Shift+ArrowLeft", "b")
        assert (
            viewer.page.locator("details.branch summary").inner_text() == "branch at prediction 14"
        )
        # A field that this policy cannot use is disabled, and says why.
        for field, reason in (
            ("seed", "act is deterministic"),
            ("instruction", "does not read the instruction"),
        ):
            assert viewer.page.locator(f'input[name="{field}"]').is_disabled()
            assert (
                reason
                in viewer.page.locator(
                    ".branch .field", has=viewer.page.locator(f"[name={field}]")
                ).inner_text()
            )
        viewer.page.check('input[name="wrist_cam"]')
        viewer.click("live-branch")
        viewer.wait(lambda: viewer.state["key"] == "pick_place/8 ~1")
        viewer.wait(
            lambda: viewer.state["live"]["state"] == "paused" and viewer.state["n_steps"] == 300
        )
        (kept,) = run.branches
        branch = viewer.page.locator(".item.branch")
        name, _, step, changes = branch.inner_text().split("\n")
        assert (name, step, changes) == ("↳ ~1", f"step {kept.decisive_step}", "wrist_cam blinded")
        assert (
            viewer.page.get_attribute('[data-column="gripper.pos"] path.other', "d").count("L")
            >= 30
        )
        assert "other future" in viewer.page.locator(".legend").inner_text()
        assert viewer.press("ArrowUp")["key"] == "pick_place/8"
        # The address changes a little later. Playwright updates `page.url` only during its own
        # calls, so the test asks the page.
        viewer.wait(lambda: "episode=pick_place/8&" in viewer.page.evaluate("location.hash"))
        # The branch is still listed after the run is opened again.
        viewer.page.reload()
        viewer.wait(lambda: viewer.page.evaluate("window.__ready === true"))
        assert viewer.settled()["episodes"] == ["pick_place/8", "pick_place/8 ~1", "pick_place/7"]
        assert viewer.press("ArrowDown")["n_steps"] == kept.n_steps and not viewer.complaints


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

        def live():
            return viewer.state["live"]

        def idle():
            return live()["state"] == "paused" and viewer.state["step"] == viewer.state["n_steps"]

        assert viewer.state["kind"] == "live" and viewer.state["key"] == "pick_place/0"
        viewer.click("live-step")
        viewer.wait(lambda: idle() and viewer.state["step"] == 1)
        # At the latest step, the key advances the rollout.
        viewer.press("ArrowRight")
        viewer.wait(lambda: idle() and viewer.state["step"] == 2)
        viewer.press("Shift+ArrowRight")
        viewer.wait(lambda: idle() and viewer.state["step"] == 10)
        viewer.press("Space")
        viewer.wait(lambda: viewer.state["step"] > 15)
        viewer.press("Space")
        viewer.wait(idle)
        trunk_steps = viewer.state["n_steps"]
        before = [dict(part) for part in session.episode("pick_place/0")["parts"]]
        assert viewer.page.get_attribute(
            '[data-column="policy latency"] path.measured', "d"
        ).startswith("M0 ")
        # The viewer goes back to an earlier step and branches off there.
        viewer.press("Home", "ArrowRight")
        assert viewer.state["step"] == 1 and session.episode("pick_place/0")["parts"] == before
        viewer.page.click("details.branch summary")
        viewer.page.check('input[name="wrist_cam"]')
        viewer.page.fill('input[name="n_action_steps"]', "5")
        viewer.click("live-branch")
        viewer.wait(
            lambda: viewer.state["key"] == "pick_place/0 ~1" and live()["state"] == "paused"
        )
        viewer.click("live-step-prediction", "live-step-prediction")
        viewer.wait(lambda: idle() and viewer.state["step"] == 10)
        # Magenta is the colour of the other branch.
        assert viewer.count("magenta") > 30
        assert (
            viewer.page.get_attribute('[data-column="gripper.pos"] path.other', "d").count("L")
            >= 10
        )
        assert session.episode("pick_place/0")["parts"] == before
        assert (
            session.episode("pick_place/0 ~1")["header"]["branch"]["changes"]
            == "n_action_steps 5, wrist_cam blinded"
        )
        # The first episode can be continued.
        viewer.press("ArrowUp")
        viewer.wait(lambda: viewer.state["key"] == "pick_place/0" and not viewer.state["loading"])
        viewer.press("End")
        viewer.wait(lambda: viewer.state["step"] == trunk_steps)
        viewer.press("ArrowRight")
        viewer.wait(lambda: idle() and viewer.state["n_steps"] == trunk_steps + 1)
        # The form resets the session to another episode.
        viewer.page.fill('input[name="episode"]', "3")
        viewer.click("live-reset")
        viewer.wait(lambda: viewer.state["key"] == "pick_place/3")
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
    viewer.wait(lambda: viewer.state["error"] is not None)
    assert "server" in viewer.state["error"]
