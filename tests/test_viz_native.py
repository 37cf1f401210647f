"""Tests of the viewer in MuJoCo's own window.

They cover its keys, its lines in a scene, and the window on a virtual screen.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import mujoco
import numpy as np
import pytest

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


def press(head, *keys):
    for key in keys:
        head = head.press(key)
    return head


@pytest.mark.parametrize(
    ("keys", "step"),
    [
        ([Key.RIGHT], 1),
        ([Key.RIGHT, Key.RIGHT, Key.LEFT], 1),
        ([Key.LEFT], 0),
        ([Key.END], 30),
        ([Key.END, Key.RIGHT], 30),
        ([Key.END, Key.HOME], 0),
        ([Key.PAGE_DOWN], 10),
        ([Key.PAGE_DOWN, Key.PAGE_DOWN, Key.PAGE_DOWN], 20),
        ([Key.PAGE_DOWN, Key.RIGHT, Key.PAGE_UP], 10),
        ([Key.PAGE_DOWN, Key.PAGE_UP, Key.PAGE_UP], 0),
    ],
)
def test_keys_lead_to_a_step(keys, step):
    assert press(HEAD, *keys).step == step


def test_space_plays_pauses_and_begins_again_at_the_end():
    playing = press(HEAD, Key.SPACE)
    assert playing.playing and playing.play_on().step == 1 and not press(playing, Key.SPACE).playing
    assert not press(playing, Key.RIGHT).playing
    last = press(
        HEAD,
        Key.END,
        Key.LEFT,
        Key.SPACE,
    ).play_on()
    assert last.step == 30 and not last.playing
    assert press(last, Key.SPACE) == Playhead(
        30,
        (0, 10, 20),
        step=0,
        playing=True,
    )


def test_the_other_keys_switch_what_they_say():
    assert not press(HEAD, Key.F9).ghosts and press(HEAD, Key.F9, Key.F9).ghosts
    assert not press(HEAD, Key.F10).alternatives
    assert press(HEAD, Key.COMMA).speed == 0.5 and press(HEAD, *[Key.PERIOD] * 9).speed == 8
    assert press(HEAD, Key.DOWN).other_episode == 1 and press(HEAD, Key.UP).other_episode == -1
    assert press(HEAD, ord("W")) == HEAD


def test_the_trail_is_as_long_as_one_asks_for():
    assert [press(HEAD, *[Key.F11] * n).trail for n in range(4)] == [2, 5, 0, 2]


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
        np.testing.assert_allclose(colours, [LINES["plan"].colour] * 3, atol=0.01)
    np.testing.assert_allclose(scene.geoms[0].pos, (path[0] + path[1]) / 2, atol=1e-6)


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
    overlays = {
        "plan": Overlay(
            NOWHERE,
            np.array([[-0.05, 0, 0.05], [0.05, 0, 0.05]]),
            2,
            EMPTY,
        ),
        "taken": Overlay(
            NOWHERE,
            EMPTY,
            0,
            np.array([[-0.05, 0, 0.05], [0.05, 0, 0.05]]),
        ),
    }
    with mujoco.Renderer(model, 240, 320) as renderer:
        for kind, overlay in overlays.items():
            renderer.update_scene(data, "above")
            seen = mujoco.MjvScene(model, maxgeom=100)
            draw_into(seen, overlay)
            own = renderer.scene
            for geom in seen.geoms[: seen.ngeom]:
                mujoco.mjv_initGeom(
                    own.geoms[own.ngeom],
                    geom.type,
                    geom.size,
                    geom.pos,
                    geom.mat.ravel(),
                    geom.rgba,
                )
                own.geoms[own.ngeom].emission = geom.emission
                own.geoms[own.ngeom].specular = geom.specular
                own.ngeom += 1
            column = renderer.render()[:, 160].astype(int)
            is_line = (np.abs(column - LINES[kind].colour) <= 4).all(axis=1)
            assert (
                is_line[120]
                and 0.35 < is_line.sum() / (column != column[0]).any(axis=1).sum() < 0.85
            )
            (first, *_, last) = np.flatnonzero(is_line)
            halo = LINES[kind].halo
            background = column[0]
            for rim in (column[first - 2], column[last + 2]):
                assert np.abs(rim - halo).sum() < 0.6 * np.abs(background - np.array(halo)).sum()


def test_the_scene_to_look_at_is_where_the_simulation_is(blind_env):
    blind_env.reset(3)
    blind_env.step(np.linspace(-10, 10, 6))
    scene = SceneModel(blind_env.geometry())
    before = blind_env.snapshot()
    scene.show(blind_env.body_poses())
    visible = [g for g in range(blind_env.model.ngeom) if blind_env.model.geom_group[g] <= 2]
    assert scene.model.ngeom == len(visible)

    def places(data, geoms):
        """Return sorted distances, since bodies with fixed poses change the order of geoms."""
        return np.sort(np.linalg.norm(data.geom_xpos[geoms], axis=1))

    # The compiler centres meshes, which moves a geom's frame within its body. Only primitives are
    # compared.
    def primitives(model):
        return model.geom_type != int(mujoco.mjtGeom.mjGEOM_MESH)

    shown = np.flatnonzero(primitives(scene.model))
    true = [g for g in visible if primitives(blind_env.model)[g]]
    np.testing.assert_allclose(places(scene.data, shown), places(blind_env.data, true), atol=1e-6)
    np.testing.assert_array_equal(blind_env.snapshot(), before)


@contextmanager
def virtual_screen():
    """Yield the name of a new virtual display.

    Without it, the test would need a user's display.
    """
    ready, tell = os.pipe()
    # Xvfb picks a free number, and writes it once it accepts connections.
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(tell), "-screen", "0", "800x600x24"],
        pass_fds=[tell],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(tell)
    try:
        with os.fdopen(ready) as numbers:
            yield f":{numbers.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


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
def test_the_window_opens_takes_keys_and_shows_the_whiskers(failed_run, tmp_path):
    """Real key presses change the picture of the real window on a virtual screen."""
    from PIL import ImageGrab

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
        image = np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB")).astype(int)
        red = image[..., 0]
        green = image[..., 1]
        blue = image[..., 2]
        match colour:
            case "green":
                return int(((green > 1.5 * red) & (green > 1.4 * blue) & (green > 90)).sum())
            # The bowl is blue too, and always visible.
            case "blue":
                return int(((blue > 1.4 * red) & (blue > 1.4 * green) & (blue > 90)).sum())
            # The yellow of the arm is darker, and its green is closer to its red.
            case _:
                return int(((red > 240) & (green > 100) & (red > 1.24 * green) & (blue < 90)).sum())

    with virtual_screen() as display:
        environ = {**os.environ, "DISPLAY": display, "LIBGL_ALWAYS_SOFTWARE": "1"}
        environ.pop("WAYLAND_DISPLAY", None)
        window = subprocess.Popen(
            [sys.executable, "-m", "viz", str(failed_run), "--native"],
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert holds_within(
                60, lambda: xdotool("search", "--name", "MuJoCo") or window.poll() is not None
            )
            assert window.poll() is None, window.stderr.read()
            (shown, *_) = xdotool("search", "--name", "MuJoCo")
            xdotool(
                "windowmove",
                shown,
                "0",
                "0",
                "windowsize",
                shown,
                "800",
                "600",
            )
            assert holds_within(60, lambda: count("green") > 30)
            # The robot has not moved yet.
            assert count("orange") == 0
            xdotool("key", "--window", shown, "End")
            # The gripper hides the last part of the executed path.
            press_until("F11", lambda: count("orange") > 30)
            with_ghosts = count("blue")
            press_until("F9", lambda: count("blue") < with_ghosts - 10)
            press_until("Home", lambda: count("orange") == 0)
            # The episode plays.
            press_until("space", lambda: count("orange") > 30)
        finally:
            window.terminate()
            window.wait()
