"""Tests of the viewer in MuJoCo's own window.

They cover its keys, its lines in a scene, and the window on a virtual screen.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import ImageGrab

from viz.overlay import Overlay
from viz.overlay_style import LINES
from viz.playhead import Key, Playhead
from viz.scene_lines import draw_into
from viz.scene_model import SceneModel

HEAD = Playhead(
    n_steps=30,
    prediction_step=(0, 10, 20),
)
NOWHERE = np.full(3, np.nan)
EMPTY = np.empty((0, 3))


def press(head, keys):
    """Press keys, which are given by their names."""
    for name in keys.split():
        head = head.press(Key[name])
    return head


@pytest.mark.parametrize(
    ("keys", "step"),
    [
        ("RIGHT", 1),
        ("RIGHT RIGHT LEFT", 1),
        ("LEFT", 0),
        ("END", 30),
        ("END RIGHT", 30),
        ("END HOME", 0),
        ("PAGE_DOWN", 10),
        ("PAGE_DOWN PAGE_DOWN PAGE_DOWN", 20),
        ("PAGE_DOWN RIGHT PAGE_UP", 10),
        ("PAGE_DOWN PAGE_UP PAGE_UP", 0),
    ],
)
def test_keys_lead_to_a_step(keys, step):
    assert press(HEAD, keys).step == step


def test_space_plays_pauses_and_begins_again_at_the_end():
    playing = press(HEAD, "SPACE")
    assert playing.playing
    assert playing.play_on().step == 1
    assert not press(playing, "SPACE").playing
    assert not press(playing, "RIGHT").playing
    last = press(HEAD, "END LEFT SPACE").play_on()
    assert last.step == 30
    assert not last.playing
    assert press(last, "SPACE") == replace(
        HEAD,
        step=0,
        playing=True,
    )


def test_the_other_keys_switch_what_they_say():
    assert not press(HEAD, "F9").ghosts
    assert press(HEAD, "F9 F9").ghosts
    assert not press(HEAD, "F10").alternatives
    assert press(HEAD, "COMMA").speed == 0.5
    assert press(HEAD, "PERIOD " * 9).speed == 8
    assert press(HEAD, "DOWN").other_episode == 1
    assert press(HEAD, "UP").other_episode == -1
    assert HEAD.press(ord("W")) == HEAD


def test_the_trail_is_as_long_as_one_asks_for():
    assert [press(HEAD, "F11 " * n).trail for n in range(4)] == [2, 5, 0, 2]


def test_what_does_not_fit_is_the_lowest_line():
    path = np.linspace([0, 0, 0], [0.1, 0, 0], 4)
    overlay = Overlay(
        path[0],
        path,
        3,
        taken=path[:1],
        ghosts=[path],
    )
    scene = mujoco.MjvScene(
        mujoco.MjModel.from_xml_string("<mujoco/>"),
        maxgeom=3,
    )
    # The second call replaces the lines of the first.
    for _ in range(2):
        draw_into(scene, overlay)
        colours = [geom.rgba[:3] * geom.emission * 255 for geom in scene.geoms[: scene.ngeom]]
        assert_allclose(colours, [LINES["plan"].colour] * 3, atol=0.01)
    assert_allclose(scene.geoms[0].pos, (path[0] + path[1]) / 2, atol=1e-6)


def test_the_window_shows_the_very_colours_and_their_rims():
    """A line has its exact colour even under bright light.

    Shading would wash out a surface there, and orange would look like the yellow of the arm.
    """
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><light pos="0 0 2"/>'
        '<camera name="above" pos="0 0 0.2"/></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    path = np.array([[-0.05, 0, 0.05], [0.05, 0, 0.05]])
    overlays = {
        "plan": Overlay(NOWHERE, path, 2, EMPTY),
        "taken": Overlay(NOWHERE, EMPTY, 0, path),
    }
    with mujoco.Renderer(model, 240, 320) as renderer:
        for kind, overlay in overlays.items():
            renderer.update_scene(data, "above")
            seen = mujoco.MjvScene(model, maxgeom=100)
            draw_into(seen, overlay)
            own = renderer.scene
            for geom in seen.geoms[: seen.ngeom]:
                copy = own.geoms[own.ngeom]
                mujoco.mjv_initGeom(
                    copy,
                    geom.type,
                    geom.size,
                    geom.pos,
                    geom.mat.ravel(),
                    geom.rgba,
                )
                copy.emission = geom.emission
                copy.specular = geom.specular
                own.ngeom += 1
            column = renderer.render()[:, 160].astype(int)
            background = column[0]
            is_line = (np.abs(column - LINES[kind].colour) <= 4).all(axis=1)
            is_drawn = (column != background).any(axis=1)
            assert is_line[120]
            assert 0.35 < is_line.sum() / is_drawn.sum() < 0.85
            first, *_, last = np.flatnonzero(is_line)
            halo = np.array(LINES[kind].halo)
            for rim in (column[first - 2], column[last + 2]):
                assert np.abs(rim - halo).sum() < 0.6 * np.abs(background - halo).sum()


def test_the_scene_to_look_at_is_where_the_simulation_is(blind_env):
    blind_env.reset(3)
    blind_env.step(np.linspace(-10, 10, 6))
    scene = SceneModel(blind_env.geometry())
    before = blind_env.snapshot()
    scene.show(blind_env.body_poses())
    visible = np.flatnonzero(blind_env.model.geom_group <= 2)
    assert scene.model.ngeom == len(visible)

    def places(model, data, geoms):
        """Return sorted distances of primitives, since fixed bodies change the order of geoms.

        The compiler centres meshes, which moves a geom's frame within its body.
        """
        primitives = model.geom_type[geoms] != int(mujoco.mjtGeom.mjGEOM_MESH)
        return np.sort(
            np.linalg.norm(
                data.geom_xpos[geoms][primitives],
                axis=1,
            )
        )

    shown = places(scene.model, scene.data, range(scene.model.ngeom))
    assert_allclose(
        shown,
        places(blind_env.model, blind_env.data, visible),
        atol=1e-6,
    )
    assert_array_equal(blind_env.snapshot(), before)


@pytest.fixture
def display():
    """Yield the name of a new virtual display.

    Without it, the test would need a user's display.
    """
    # Xvfb picks a free number, and writes it once it accepts connections. Without -noreset, it
    # begins anew each time its last client leaves (xdotool does), and turns away who comes then.
    with subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-noreset", "-screen", "0", "800x600x24"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        yield f":{server.stdout.readline().strip()}"
        server.terminate()


def holds_within(limit_s, condition):
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.skipif(
    not (
        os.environ.get("WHISKER_BROWSER_TESTS")
        or (shutil.which("Xvfb") and shutil.which("xdotool"))
    ),
    reason="needs Xvfb and xdotool",
)
def test_the_window_opens_takes_keys_and_shows_the_whiskers(failed_run, display):
    """Real key presses change the picture of the real window on a virtual screen."""
    environ = {
        **os.environ,
        "DISPLAY": display,
        "LIBGL_ALWAYS_SOFTWARE": "1",
    }
    environ.pop("WAYLAND_DISPLAY", None)

    def xdotool(*arguments):
        return subprocess.run(
            ["xdotool", *arguments], env=environ, capture_output=True, text=True
        ).stdout.split()

    def press_until(key, condition):
        """Press the key until the condition holds.

        On a busy machine the window misses a synthetic press now and then.
        """
        for _ in range(6):
            xdotool("key", "--window", shown, key)
            if holds_within(10, condition):
                return
        raise AssertionError(f"{key!r} had no effect")

    def count(colour):
        image = ImageGrab.grab(xdisplay=display).convert("RGB")
        red, green, blue = np.moveaxis(np.asarray(image).astype(int), -1, 0)
        masks = {
            "green": (green > 1.5 * red) & (green > 1.4 * blue) & (green > 90),
            # The bowl is blue too, and always visible.
            "blue": (blue > 1.4 * red) & (blue > 1.4 * green) & (blue > 90),
            # The yellow of the arm is darker, and its green is closer to its red.
            "orange": (red > 240) & (green > 100) & (red > 1.24 * green) & (blue < 90),
        }
        return int(masks[colour].sum())

    def find_window():
        return xdotool("search", "--name", "MuJoCo")

    command = [sys.executable, "-m", "viz", failed_run, "--native"]
    with subprocess.Popen(
        command,
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
    ) as viewer:
        try:
            assert holds_within(
                60,
                lambda: find_window() or viewer.poll() is not None,
            )
            assert viewer.poll() is None, viewer.stderr.read()
            shown, *_ = find_window()
            xdotool("windowmove", shown, "0", "0")
            xdotool("windowsize", shown, "800", "600")
            assert holds_within(60, lambda: count("green") > 30)
            # The robot has not moved yet.
            assert count("orange") == 0
            xdotool("key", "--window", shown, "End")
            # The gripper hides the last part of the executed path.
            press_until("F11", lambda: count("orange") > 30)
            with_ghosts = count("blue")
            press_until(
                "F9",
                lambda: count("blue") < with_ghosts - 10,
            )
            press_until("Home", lambda: count("orange") == 0)
            # The episode plays.
            press_until("space", lambda: count("orange") > 30)
        finally:
            viewer.terminate()
