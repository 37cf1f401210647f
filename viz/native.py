"""The viewer in MuJoCo's own window, for a desktop: the page's colours, and those of its keys that are free there."""

import os
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, Float32

from eval.episode_row import EpisodeRow
from eval.recorder import EpisodeArrays
from eval.run import Run
from sim.capabilities import Drawable, Snapshots, require
from sim.errors import WhiskerError
from viz.overlay import (
    ALTERNATIVE_COLOUR,
    GHOST_COLOUR,
    PLAN_COLOUR,
    TAKEN_COLOUR,
    Overlay,
    compute_overlay,
    draft_colour,
    ghost_opacity,
)
from viz.replay import compute_body_poses
from viz.scene_model import SceneModel
from viz.whiskers import Whiskers, compute_whiskers, is_ensemble, load_planned_arrays, open_whisker_env


class Key(IntEnum):
    """GLFW's numbers. Letters are the window's own switches, and its callback is not told of SHIFT."""

    SPACE, COMMA, PERIOD = 32, 44, 46
    RIGHT, LEFT, DOWN, UP = 262, 263, 264, 265
    PAGE_UP, PAGE_DOWN, HOME, END = 266, 267, 268, 269
    F9, F10 = 298, 299


HELP = (
    ("SPACE", "pause or resume"),
    ("LEFT, RIGHT", "one step"),
    ("PAGE UP, PAGE DOWN", "one prediction"),
    ("HOME, END", "first, last step"),
    ("UP, DOWN", "previous, next episode"),
    (", and .", "slower, faster"),
    ("F9, F10", "ghosts, alternatives"),
)
_SLOWEST, _FASTEST = 1 / 8, 8.0
# Radii, m.
_PLAN_M, _TAKEN_M, _GHOST_M, _ALTERNATIVE_M = 0.0022, 0.0018, 0.0012, 0.0010
_REST_OPACITY = 0.5
_POLL_S = 0.005


@dataclass(frozen=True)
class Playhead:
    """Where the window is in an episode of `n_steps` steps whose predictions were made at `prediction_step`.

    Attributes:
        other_episode: by how many episodes to go on; 0 stays.
    """

    n_steps: int
    prediction_step: tuple[int, ...]
    step: int = 0
    playing: bool = False
    speed: float = 1.0
    ghosts: bool = True
    alternatives: bool = True
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
                return self.seek(min((s for s in self.prediction_step if s > self.step), default=self.step))
            case Key.PAGE_UP:
                return self.seek(max((s for s in self.prediction_step if s < self.step), default=self.step))
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


def show_native(run: Run, row: EpisodeRow, show_drafts: bool = False) -> None:
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
        episode = _load(env, run, row, show_drafts)
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
                    episode = _load(env, run, rows[index], show_drafts)
                    there = _start(episode)
                    head = replace(
                        head, n_steps=there.n_steps, prediction_step=there.prediction_step, step=0, other_episode=0
                    )
                if head != shown:
                    _draw(window, scene, episode, head)
                    shown = head
                if head.playing:
                    head = head.play_on()
                time.sleep(max(_POLL_S, dt_s / head.speed - (time.perf_counter() - began_s) if head.playing else 0))


def check_display() -> None:
    """Raise `WhiskerError` where no window can be opened."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise WhiskerError(
            "--native",
            expected="a display",
            got="none (neither DISPLAY nor WAYLAND_DISPLAY is set)",
            do="Without --native any browser shows it, through ssh -L too; --export writes a file.",
        )


def _opened_window(scene: SceneModel, keys: "queue.SimpleQueue[int]") -> Any:
    """The callback runs in the window's thread, and only notes what was pressed."""
    import mujoco.viewer  # loads GLFW

    return mujoco.viewer.launch_passive(
        scene.model, scene.data, key_callback=keys.put, show_left_ui=False, show_right_ui=False
    )


def _load(env: Snapshots, run: Run, row: EpisodeRow, with_drafts: bool) -> _Episode:
    arrays = load_planned_arrays(run, row, with_drafts)
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


def _draw(window: Any, scene: SceneModel, episode: _Episode, head: Playhead) -> None:
    overlay = compute_overlay(episode.whiskers, episode.arrays, head.step)
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
    """Replace the scene's own geoms by the lines of an overlay; what does not fit is left out, ghosts first."""
    scene.ngeom = 0
    for path, radius_m, colour, opacity in _lines(overlay):
        for start, end in pairwise(path):
            if scene.ngeom == scene.maxgeom:
                return
            if np.isfinite(start).all() and np.isfinite(end).all():
                _add_capsule(scene, start, end, radius_m, colour, opacity)


def _lines(overlay: Overlay) -> Iterator[tuple[Float[np.ndarray, "moment 3"], float, tuple[int, int, int], float]]:
    """Path, radius [m], colour and opacity of each, the most telling first."""
    n = max(0, overlay.n_to_execute)
    yield overlay.plan[: n + 1], _PLAN_M, PLAN_COLOUR, 1.0
    yield overlay.plan[n:], _GHOST_M, PLAN_COLOUR, _REST_OPACITY
    yield overlay.taken, _TAKEN_M, TAKEN_COLOUR, 1.0
    for nth, path in enumerate(overlay.drafts, start=1):
        yield path, _ALTERNATIVE_M, draft_colour(nth / len(overlay.drafts)), 1.0
    for path in overlay.alternatives:
        yield path, _ALTERNATIVE_M, ALTERNATIVE_COLOUR, 1.0
    for age, path in enumerate(overlay.ghosts, start=1):
        yield path, _GHOST_M, GHOST_COLOUR, ghost_opacity(age)


def _add_capsule(scene: mujoco.MjvScene, start, end, radius_m: float, colour, opacity: float) -> None:
    geom = scene.geoms[scene.ngeom]
    # MuJoCo blends a transparent geom twice.
    alpha = 1.0 if opacity == 1 else 1 - np.sqrt(1 - opacity)
    rgba = np.array([*(channel / 255 for channel in colour), alpha], np.float32)
    capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
    mujoco.mjv_initGeom(geom, capsule, np.zeros(3), np.zeros(3), np.zeros(9), rgba)
    mujoco.mjv_connector(geom, capsule, radius_m, start, end)
    geom.emission = 0.6
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
