"""The page in a real browser: an export from the disk, the server of a run, and a live rollout."""

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from eval.config import EvalConfig
from eval.episode_loop import evaluate
from eval.episode_row import load_rows
from eval.evaluation import set_up
from eval.provenance import describe
from eval.run import Run
from eval.run_folder import RunFolder
from tests.browser import NO_WEBGL, Viewer, needs_chromium, opened_browser
from tests.processes import catch_ctrl_c
from tests.small_checkpoints import save_small_smolvla
from viz.live import LiveSession
from viz.page import export_episode, find_row, render_page
from viz.run_source import RunSource
from viz.server import ViewerServer

pytestmark = needs_chromium
WEB = Path(__file__).parents[1] / "viz" / "web"
# Every key that the help advertises, and what it changes.
SWITCHES = [
    ("p", "plan"),
    ("w", "taken"),
    ("l", "trail"),
    ("g", "ghosts"),
    ("a", "alternatives"),
    ("f", "drafts"),
    ("t", "theme"),
    ("c", "camera"),
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
        Run.open(failed_run), find_row(Run.open(failed_run), 8), tmp_path_factory.mktemp("page") / "failed.html"
    )


@pytest.fixture(scope="module")
def failure(failed_run):
    """The row of the episode that failed."""
    return find_row(failed_run, 8)


@pytest.fixture(scope="module")
def exported(browser, export):
    """The export in a browser without a network."""
    viewer = Viewer(browser, export.as_uri(), offline=True)
    yield viewer
    assert not viewer.complaints and not viewer.requests


@contextmanager
def served(source):
    with closing(ViewerServer(source, render_page(None))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def run_viewer(browser, failed_run):
    with (
        closing(RunSource(Run.open(failed_run), find_row(Run.open(failed_run), None))) as source,
        served(source) as server,
    ):
        viewer = Viewer(browser, server.url)
        yield viewer
        assert not viewer.complaints


def seek(viewer, step):
    """By keys alone, from the start."""
    viewer.press("Home", *["Shift+ArrowRight"] * (step // 20), *["ArrowRight"] * (step % 20))
    assert viewer.state["step"] == step


def test_the_bundle_is_built_of_these_sources():
    """As viz/web/build.mjs computes it."""
    digest = hashlib.sha256()
    names = ["build.mjs", "package.json", "package-lock.json"]
    names += [path.relative_to(WEB).as_posix() for path in (WEB / "src").rglob("*") if path.is_file()]
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + (WEB / name).read_bytes() + b"\0")
    for built in ("viewer.js", "viewer.css"):
        first = (WEB / "dist" / built).read_text().partition("\n")[0]
        assert first == f"/* sources sha256 {digest.hexdigest()} */", "npm --prefix viz/web run build"


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
    assert viewer.page.inner_text(".item").split("\n") == ["#8", event, f"step {failure.decisive_step}"]


@pytest.mark.parametrize(("key", "command", "before", "after"), MOVES)
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
    if name == "help":  # it lies over the buttons
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
    exported.press("Home", "Space")  # at single speed: it would end before a busy machine looks
    assert exported.state["playing"]
    exported.wait(lambda: exported.state["step"] > 5)
    paused = exported.press("Space")
    assert not paused["playing"] and exported.settled()["step"] == paused["step"]
    exported.press("]", "]", "]")
    exported.click("play")
    exported.wait(lambda: not exported.state["playing"])
    assert exported.state["step"] == 300  # it ends where the episode does
    exported.press("[", "[", "[")


def test_one_episode_says_so_when_another_is_asked_for(exported):
    assert "only this episode" in exported.press("ArrowDown")["toast"]
    assert exported.press("ArrowUp")["key"] == "pick_place/8"


def test_every_button_has_a_key_and_every_key_is_in_the_help(exported):
    exported.press("?")
    text = exported.page.inner_text("body")
    for name in ("SPACE", "SHIFT", "HOME", "END", "[", "]", "G", "A", "C", "D", "F", "L", "P", "T", "W", "?"):
        assert name in text
    exported.press("?")
    buttons = exported.page.locator("button[data-command]")
    titles = [buttons.nth(i).get_attribute("title") for i in range(buttons.count())]
    assert len(titles) == 21 and all("(" in title for title in titles)


def test_the_whiskers_are_drawn_in_their_colours(exported):
    seek(exported, 0)
    orange_at_the_start = exported.count("orange")
    assert exported.count("green") > 60
    exported.press("l", "l")  # the whole way
    seek(exported, 110)
    assert exported.count("green") > 60 and exported.count("orange") > orange_at_the_start + 100
    exported.press("l")
    assert exported.state["n_ghosts_drawn"] == 5
    with_ghosts = exported.count("blue")
    assert exported.press("g")["n_ghosts_drawn"] == 0
    assert exported.count("blue") < with_ghosts - 50
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
    assert exported.press("l")["taken"]  # who asks for a trail wants to see it
    assert exported.state["trail"] == 2


@pytest.mark.parametrize("deficiency", ["none", "deuteranopia"])
def test_plan_and_way_taken_stand_out_for_every_eye(exported, deficiency):
    """Chromium shows the page as such an eye sees it; what a line covers is seen without it."""
    chromium = exported.page.context.new_cdp_session(exported.page)
    chromium.send("Emulation.setEmulatedVisionDeficiency", {"type": deficiency})
    try:
        seek(exported, 70)
        for key, least in (("p", 100), ("w", 50)):
            with_line = exported.lab(".picture canvas")
            exported.press(key)
            distance = np.linalg.norm(with_line - exported.lab(".picture canvas"), axis=2)
            exported.press(key)
            assert (distance > 25).sum() > least  # px; 10 is told apart at a glance
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


def test_a_run_is_browsed_failures_first(run_viewer, failed_run):
    state = run_viewer.state
    assert state["episodes"] == ["pick_place/8", "pick_place/7"] and state["key"] == "pick_place/8"
    assert run_viewer.press("ArrowDown")["key"] == "pick_place/7"
    n_steps = next(row.n_steps for row in load_rows(failed_run) if row.episode_index == 7)
    run_viewer.wait(lambda: run_viewer.state["n_steps"] == n_steps)
    assert run_viewer.state["step"] == 0  # it succeeded
    assert "succeeded" in run_viewer.press("d")["toast"] and run_viewer.state["step"] == 0
    assert run_viewer.click("previous-episode")["key"] == "pick_place/8"
    run_viewer.page.click('[data-filter="success"]')
    assert run_viewer.settled()["episodes"] == ["pick_place/7"]
    run_viewer.page.click('[data-filter="all"]')
    assert len(run_viewer.settled()["episodes"]) == 2


def test_a_damaged_episode_is_said_and_the_others_still_open(browser, failed_run, tmp_path):
    run = shutil.copytree(failed_run, tmp_path / "run")
    (run / "episodes" / "pick_place" / "8.npz").write_bytes(b"torn")
    with closing(RunSource(Run.open(run), find_row(Run.open(run), None))) as source, served(source) as server:
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


def test_alternatives_and_denoising_steps_are_drawn_where_they_were_recorded(browser, tmp_path):
    checkpoint = save_small_smolvla(tmp_path / "smolvla")
    config = EvalConfig(policy="smolvla", checkpoint=str(checkpoint), horizon=8, episodes=1, samples=4, drafts=True)
    setup = set_up(config)
    with closing(setup.env), closing(RunFolder.create(tmp_path, describe(config, setup))) as run:
        list(evaluate(config, setup, run))
    page = export_episode(Run.open(run.path), find_row(Run.open(run.path), 0), tmp_path / "page.html", show_flow=True)
    viewer = Viewer(browser, page.as_uri(), offline=True)
    assert viewer.state["drafts"] and viewer.state["alternatives"]
    pictures = [viewer.picture()]
    for key in ("a", "f"):
        viewer.press(key)
        pictures.append(viewer.picture())
    assert all(a != b for a, b in pairwise(pictures))  # each switch takes something away
    assert viewer.press("a", "f")["toast"] is None and viewer.picture() == pictures[0]


def test_a_rollout_is_driven_from_the_page(browser):
    config = EvalConfig(policy="act", checkpoint="act-early", n_action_steps=10)
    with closing(LiveSession(config)) as session, served(session) as server:
        viewer = Viewer(browser, server.url)

        def live():
            return viewer.state["live"]

        def idle():
            return live()["state"] == "paused" and viewer.state["step"] == viewer.state["n_steps"]

        assert viewer.state["kind"] == "live" and viewer.state["key"] == "pick_place/0"
        viewer.click("live-step")
        viewer.wait(lambda: idle() and viewer.state["step"] == 1)
        viewer.press("ArrowRight")  # at the head a step is one of the rollout
        viewer.wait(lambda: idle() and viewer.state["step"] == 2)
        viewer.press("Shift+ArrowRight")
        viewer.wait(lambda: idle() and viewer.state["step"] == 10)
        viewer.press("Space")
        viewer.wait(lambda: viewer.state["step"] > 15)
        viewer.press("Space")
        viewer.wait(idle)
        trunk_steps = viewer.state["n_steps"]
        before = [dict(part) for part in session.episode("pick_place/0")["parts"]]
        # Back into the past, and on into another future from there.
        viewer.press("Home", "ArrowRight")
        assert viewer.state["step"] == 1 and session.episode("pick_place/0")["parts"] == before
        viewer.page.click("details.branch summary")
        viewer.page.check('input[name="wrist_cam"]')
        viewer.page.fill('input[name="n_action_steps"]', "5")
        viewer.click("live-branch")
        viewer.wait(lambda: viewer.state["key"] == "pick_place/0 ~1" and live()["state"] == "paused")
        viewer.click("live-step-prediction", "live-step-prediction")
        viewer.wait(lambda: idle() and viewer.state["step"] == 10)
        assert viewer.count("magenta") > 30  # the other future
        assert session.episode("pick_place/0")["parts"] == before
        assert (
            session.episode("pick_place/0 ~1")["header"]["branch"]["changes"] == "n_action_steps 5, wrist_cam blinded"
        )
        # The first can be gone on with.
        viewer.press("ArrowUp")
        viewer.wait(lambda: viewer.state["key"] == "pick_place/0")
        viewer.press("End", "ArrowRight")
        viewer.wait(lambda: idle() and viewer.state["n_steps"] == trunk_steps + 1)
        # Reset, by its form; what cannot be done is said.
        viewer.page.fill('input[name="episode"]', "3")
        viewer.click("live-reset")
        viewer.wait(lambda: viewer.state["key"] == "pick_place/3")
        assert not viewer.complaints


def test_the_command_serves_the_page_until_it_is_ended(browser, failed_run):
    command = [sys.executable, "-m", "viz", str(failed_run), "--no-browser"]
    whiskers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=catch_ctrl_c)
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
