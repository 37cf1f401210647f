"""The viewer in MuJoCo's own window, for a desktop: the page's lines, and those of its keys that are free there."""

import os
import queue
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float32

from eval.episode_arrays import EpisodeArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.capabilities import Drawable, Snapshots, require
from sim.errors import WhiskerError
from viz.overlay import Overlay, StyledLine, compute_overlay, find_trail_begin, style_lines
from viz.overlay_style import (
    DOT_WIDER_PX,
    HALO_OPACITY,
    HALO_WIDER_PX,
    LAYERS,
    TRAILS,
    WINDOW_RADIUS_M_PER_PX,
    Colour,
)
from viz.replay import compute_body_poses
from viz.scene_model import SceneModel
from viz.whiskers import (
    Whiskers,
    compute_whiskers,
    is_ensemble,
    load_planned_arrays,
    open_whisker_env,
)


class Key(IntEnum):
    """GLFW's numbers.

    Letters are the window's own switches, and its callback is not told of SHIFT.
    """

    SPACE, COMMA, PERIOD = 32, 44, 46
    RIGHT, LEFT, DOWN, UP = 262, 263, 264, 265
    PAGE_UP, PAGE_DOWN, HOME, END = 266, 267, 268, 269
    F9, F10, F11 = 298, 299, 300


HELP = (
    ("SPACE", "pause or resume"),
    ("LEFT, RIGHT", "one step"),
    ("PAGE UP, PAGE DOWN", "one prediction"),
    ("HOME, END", "first, last step"),
    ("UP, DOWN", "previous, next episode"),
    (", and .", "slower, faster"),
    ("F9, F10", f"{LAYERS['ghosts'].label}, {LAYERS['alternatives'].label}"),
    ("F11", "a longer trail"),
)
_SLOWEST, _FASTEST = 1 / 8, 8.0
# Lights add a little of a geom's colour to what it emits: of a colour as dark and bright as this,
# nothing one sees.
_EMISSION = 100.0
_POLL_S = 0.005


@dataclass(frozen=True)
class Playhead:
    """Where the window is in an episode of `n_steps` steps whose predictions were made at `prediction_step`.

    Attributes:
        trail: the one of `TRAILS` that says how much of the way taken is drawn.
        other_episode: by how many episodes to go on; 0 stays.
    """

    n_steps: int
    prediction_step: tuple[int, ...]
    step: int = 0
    playing: bool = False
    speed: float = 1.0
    ghosts: bool = True
    alternatives: bool = True
    trail: int = TRAILS[0]
    other_episode: int = 0

    def press(self, key: int) -> "Playhead":
        """After that key; one that means nothing here changes nothing."""
        match key:
            case Key.SPACE if self.step == self.n_steps:
                return replace(self, playing=True, step=0)
            case Key.SPACE:
                return replace(self, playing=not self.playing)
            case Key.RIGHT:
                return self.seek(self.step + 1)
            case Key.LEFT:
                return self.seek(self.step - 1)
            case Key.PAGE_DOWN:
                return self.seek(
                    min((s for s in self.prediction_step if s > self.step), default=self.step)
                )
            case Key.PAGE_UP:
                return self.seek(
                    max((s for s in self.prediction_step if s < self.step), default=self.step)
                )
            case Key.HOME:
                return self.seek(0)
            case Key.END:
                return self.seek(self.n_steps)
            case Key.UP | Key.DOWN:
                return replace(self, other_episode=1 if key == Key.DOWN else -1)
            case Key.COMMA:
                return replace(self, speed=max(_SLOWEST, self.speed / 2))
            case Key.PERIOD:
                return replace(self, speed=min(_FASTEST, self.speed * 2))
            case Key.F9:
                return replace(self, ghosts=not self.ghosts)
            case Key.F10:
                return replace(self, alternatives=not self.alternatives)
            case Key.F11:
                return replace(self, trail=TRAILS[(TRAILS.index(self.trail) + 1) % len(TRAILS)])
        return self

    def seek(self, step: int) -> "Playhead":
        return replace(self, step=min(self.n_steps, max(0, step)), playing=False)

    def play_on(self) -> "Playhead":
        """One step later; paused at the end."""
        on = self.seek(self.step + 1)
        return replace(on, playing=on.step < self.n_steps)


@dataclass(frozen=True)
class _Episode:
    row: EpisodeRow
    arrays: EpisodeArrays
    whiskers: Whiskers
    body_poses: Float32[np.ndarray, "T1 body 7"]


def show_native(run: Run, row: EpisodeRow, show_intermediate: bool = False) -> None:
    """Open the window, at one episode; returns when it is closed. UP and DOWN go through those of the same task.

    Args:
        show_drafts: draw what each plan was made from, where that was recorded.

    Raises:
        WhiskerError: no display, no such episode file, or an environment that cannot be drawn.
    """
    check_display()
    rows = [other for other in run.rows if other.task == row.task and other.n_predictions]
    with closing(open_whisker_env(run, row.task, {})) as env:
        scene = SceneModel(require(env, Drawable, "whiskers --native").geometry())
        index = rows.index(row)
        episode = _load(env, run, row, show_intermediate)
        scene.show(episode.body_poses[0])
        keys: queue.SimpleQueue[int] = queue.SimpleQueue()
        with _opened_window(scene, keys) as window:
            _look_at(window, episode)
            head, dt_s = _start(episode), env.spec.control_dt_s
            shown: Playhead | None = None
            while window.is_running():
                began_s = time.perf_counter()
                while not keys.empty():
                    head = head.press(keys.get())
                if head.other_episode:
                    index = min(len(rows) - 1, max(0, index + head.other_episode))
                    episode = _load(env, run, rows[index], show_intermediate)
                    there = _start(episode)
                    head = replace(
                        head,
                        n_steps=there.n_steps,
                        prediction_step=there.prediction_step,
                        step=0,
                        other_episode=0,
                    )
                if head != shown:
                    _draw(window, scene, episode, head, dt_s)
                    shown = head
                if head.playing:
                    head = head.play_on()
                time.sleep(
                    max(
                        _POLL_S,
                        dt_s / head.speed - (time.perf_counter() - began_s) if head.playing else 0,
                    )
                )


def check_display() -> None:
    """Raise `WhiskerError` where no window can be opened."""
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise WhiskerError(
            "--native",
            expected="a display",
            got="none (neither DISPLAY nor WAYLAND_DISPLAY is set)",
            hint="Without --native any browser shows it, through ssh -L too; --output writes a file.",
        )


def _opened_window(scene: SceneModel, keys: "queue.SimpleQueue[int]") -> Any:
    """The callback runs in the window's thread, and only notes what was pressed."""
    import mujoco.viewer  # loads GLFW

    return mujoco.viewer.launch_passive(
        scene.model, scene.data, key_callback=keys.put, show_left_ui=False, show_right_ui=False
    )


def _load(env: Snapshots, run: Run, row: EpisodeRow, with_intermediate_plans: bool) -> _Episode:
    arrays = load_planned_arrays(run, row, with_intermediate_plans)
    whiskers = compute_whiskers(env, arrays, is_ensemble(run))
    return _Episode(row, arrays, whiskers, compute_body_poses(env, arrays.step_snapshot))


def _start(episode: _Episode) -> Playhead:
    return Playhead(episode.row.n_steps, tuple(episode.arrays.prediction_step.tolist()))


def _look_at(window: Any, episode: _Episode) -> None:
    """From in front of the robot, to its left and above."""
    points = np.concatenate(episode.arrays.paths_world)
    low, high = points.min(axis=0), points.max(axis=0)
    with window.lock():
        window.cam.lookat[:] = (low + high) / 2
        window.cam.distance = max(0.6, 2.4 * float(np.linalg.norm(high - low)))
        window.cam.azimuth, window.cam.elevation = 145, -28


def _draw(
    window: Any, scene: SceneModel, episode: _Episode, head: Playhead, control_dt_s: float
) -> None:
    trail_begin = find_trail_begin(
        episode.whiskers.prediction_step, head.step, control_dt_s, head.trail
    )
    overlay = compute_overlay(episode.whiskers, episode.arrays, head.step, trail_begin)
    overlay = replace(
        overlay,
        ghosts=overlay.ghosts if head.ghosts else (),
        alternatives=overlay.alternatives if head.alternatives else (),
    )
    with window.lock():
        scene.show(episode.body_poses[head.step])
        draw_into(window.user_scn, overlay)
    window.set_texts(_texts(episode, head))
    window.sync()


def draw_into(scene: mujoco.MjvScene, overlay: Overlay) -> None:
    """Replace the scene's own geoms by an overlay's lines.

    If there are too many, the lowest ones are left out.
    """
    scene.ngeom = 0
    for line in reversed(style_lines(overlay)):
        if line.style.scenes:
            _add_line(scene, line)


def _add_line(scene: mujoco.MjvScene, line: StyledLine) -> None:
    """Add a tube, around it another one that is its halo, and a ball at every action."""
    style, path = line.style, line.path
    segments = [(start, end) for start, end in pairwise(path) if np.isfinite([start, end]).all()]
    for start, end in segments:
        _add_capsule(scene, start, end, style.width_px, line.colour, line.opacity)
    if style.halo is not None:
        for start, end in segments:
            width_px, opacity = style.width_px + HALO_WIDER_PX, line.opacity * HALO_OPACITY
            _add_capsule(scene, start, end, width_px, style.halo, opacity, inside_out=True)
    if style.has_dots:
        for point in path[np.isfinite(path).all(axis=1)]:
            _add_capsule(
                scene, point, point, style.width_px + DOT_WIDER_PX, line.colour, line.opacity
            )


def _add_capsule(
    scene: mujoco.MjvScene,
    start,
    end,
    width_px: float,
    colour: Colour,
    opacity: float,
    inside_out: bool = False,
) -> None:
    """Add a capsule, if there is room; `inside_out`: only its far side is seen, behind what is in it."""
    if scene.ngeom == scene.maxgeom:
        return
    geom = scene.geoms[scene.ngeom]
    # MuJoCo blends a transparent geom twice.
    alpha = 1.0 if opacity == 1 else 1 - np.sqrt(1 - opacity)
    rgba = np.array([*(channel / 255 / _EMISSION for channel in colour), alpha], np.float32)
    capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
    mujoco.mjv_initGeom(geom, capsule, np.zeros(3), np.zeros(3), np.zeros(9), rgba)
    mujoco.mjv_connector(geom, capsule, width_px * WINDOW_RADIUS_M_PER_PX, start, end)
    geom.emission, geom.specular = _EMISSION, 0
    if inside_out:
        geom.mat[
            :, 0
        ] *= -1  # a mirror image, of which OpenGL takes the inner faces for the outer ones
    scene.ngeom += 1


def _texts(episode: _Episode, head: Playhead) -> list[tuple[int, int, str, str]]:
    row = episode.row
    place = mujoco.mjtGridPos
    n_made = sum(step <= head.step for step in head.prediction_step)
    state = "playing" if head.playing else "paused"
    now = (
        ("episode", f"{row.episode_index} ({row.outcome})"),
        ("step", f"{head.step} of {head.n_steps}"),
        ("prediction", f"{n_made} of {len(head.prediction_step)}"),
        (state, f"{head.speed:g} x"),
    )
    font = mujoco.mjtFontScale.mjFONTSCALE_150
    return [
        (font, corner, "\n".join(left for left, _ in lines), "\n".join(right for _, right in lines))
        for corner, lines in ((place.mjGRID_TOPLEFT, now), (place.mjGRID_BOTTOMLEFT, HELP))
    ]
