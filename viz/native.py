"""Shows recorded episodes with their whiskers in MuJoCo's own window, on a desktop."""

import os
import queue
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float32

from eval.episode_arrays import EpisodeArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.capabilities import Drawable, Snapshots, require
from sim.errors import WhiskerError
from viz.overlay import Overlay, compute_overlay, find_trail_begin
from viz.playhead import HELP, Playhead
from viz.replay import compute_body_poses
from viz.scene_lines import draw_into
from viz.scene_model import SceneModel
from viz.whiskers import (
    Whiskers,
    compute_whiskers,
    is_ensemble,
    load_planned_arrays,
    open_whisker_env,
)

_POLL_S = 0.005


@dataclass(frozen=True)
class _Episode:
    """Holds what the window shows of an episode."""

    row: EpisodeRow
    arrays: EpisodeArrays
    whiskers: Whiskers
    body_poses: Float32[np.ndarray, "T1 body 7"]


def show_native(
    run: Run,
    row: EpisodeRow,
    show_intermediate: bool = False,
) -> None:
    """Open the window at one episode, and return when it is closed.

    UP and DOWN go through the episodes of the same task.

    Args:
        run: the run.
        row: the row of the episode.
        show_intermediate: draw the intermediate plans, if they were recorded.

    Raises:
        WhiskerError: there is no display or no such episode file, or the environment cannot be
            drawn.
    """
    check_display()
    with closing(open_whisker_env(run, row.task, {})) as env:
        viewer = _Viewer(env, run, row, show_intermediate)
        with viewer.open_window() as window:
            viewer.look_at(window)
            while window.is_running():
                viewer.update(window)


class _Viewer:
    """Draws the episodes of a task into a window, as its keys ask for."""

    def __init__(
        self,
        env: Snapshots,
        run: Run,
        row: EpisodeRow,
        show_intermediate: bool,
    ) -> None:
        self._env = env
        self._run = run
        self._show_intermediate = show_intermediate
        self._scene = SceneModel(require(env, Drawable, "whiskers --native").geometry())
        rows_of_task = [other for other in run.rows if other.task == row.task]
        self._rows = [other for other in rows_of_task if other.n_predictions]
        self._index = self._rows.index(row)
        self._keys: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._episode = self._load()
        self._head = _start(self._episode)
        self._drawn: Playhead | None = None
        self._scene.show(self._episode.body_poses[0])

    def open_window(self) -> Any:
        """Return the window. Its callback runs in its own thread, and only queues the keys."""
        import mujoco.viewer  # loads GLFW

        return mujoco.viewer.launch_passive(
            self._scene.model,
            self._scene.data,
            key_callback=self._keys.put,
            show_left_ui=False,
            show_right_ui=False,
        )

    def look_at(self, window: Any) -> None:
        """Put the camera in front of the robot, to its left and above."""
        points = np.concatenate(self._episode.arrays.paths_world)
        low = points.min(axis=0)
        high = points.max(axis=0)
        extent_m = float(np.linalg.norm(high - low))
        with window.lock():
            window.cam.lookat[:] = (low + high) / 2
            window.cam.distance = max(0.6, 2.4 * extent_m)
            window.cam.azimuth = 145
            window.cam.elevation = -28

    def update(self, window: Any) -> None:
        """Handle the keys, draw the current step if it has changed, and wait for the next one."""
        start_s = time.perf_counter()
        while not self._keys.empty():
            self._head = self._head.press(self._keys.get())
        if self._head.other_episode:
            self._change_episode()
        if self._head != self._drawn:
            self._draw(window)
            self._drawn = self._head
        wait_s = _POLL_S
        if self._head.playing:
            self._head = self._head.play_on()
        if self._head.playing:
            step_s = self._env.spec.control_dt_s / self._head.speed
            elapsed_s = time.perf_counter() - start_s
            wait_s = max(_POLL_S, step_s - elapsed_s)
        time.sleep(wait_s)

    def _load(self) -> _Episode:
        row = self._rows[self._index]
        arrays = load_planned_arrays(self._run, row, self._show_intermediate)
        whiskers = compute_whiskers(self._env, arrays, is_ensemble(self._run))
        body_poses = compute_body_poses(self._env, arrays.step_snapshot)
        return _Episode(row, arrays, whiskers, body_poses)

    def _change_episode(self) -> None:
        last = len(self._rows) - 1
        index = self._index + self._head.other_episode
        self._index = min(last, max(0, index))
        self._episode = self._load()
        start = _start(self._episode)
        self._head = replace(
            self._head,
            n_steps=start.n_steps,
            prediction_step=start.prediction_step,
            step=0,
            other_episode=0,
        )

    def _draw(self, window: Any) -> None:
        overlay = self._compute_overlay()
        with window.lock():
            self._scene.show(self._episode.body_poses[self._head.step])
            draw_into(window.user_scn, overlay)
        window.set_texts(_format_texts(self._episode.row, self._head))
        window.sync()

    def _compute_overlay(self) -> Overlay:
        head = self._head
        whiskers = self._episode.whiskers
        control_dt_s = self._env.spec.control_dt_s
        begin = find_trail_begin(whiskers.prediction_step, head.step, control_dt_s, head.trail)
        overlay = compute_overlay(whiskers, self._episode.arrays, head.step, begin)
        if not head.ghosts:
            overlay = replace(overlay, ghosts=())
        if not head.alternatives:
            overlay = replace(overlay, alternatives=())
        return overlay


def check_display() -> None:
    """Raise `WhiskerError` if no window can be opened."""
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not has_display:
        raise WhiskerError(
            "--native",
            expected="a display",
            got="none (neither DISPLAY nor WAYLAND_DISPLAY is set)",
            hint="Without --native any browser shows the run, through ssh -L too; "
            "--output writes a file.",
        )


def _start(episode: _Episode) -> Playhead:
    prediction_step = tuple(episode.arrays.prediction_step.tolist())
    return Playhead(episode.row.n_steps, prediction_step)


def _format_texts(
    row: EpisodeRow,
    head: Playhead,
) -> list[tuple[int, int, str, str]]:
    """Return the texts in the window's corners, as font, corner, left and right column."""
    n_made = sum(step <= head.step for step in head.prediction_step)
    state = "playing" if head.playing else "paused"
    status = (
        ("episode", f"{row.episode_index} ({row.outcome})"),
        ("step", f"{head.step} of {head.n_steps}"),
        ("prediction", f"{n_made} of {len(head.prediction_step)}"),
        (state, f"{head.speed:g} x"),
    )
    font = mujoco.mjtFontScale.mjFONTSCALE_150
    lines_of_corner = {
        mujoco.mjtGridPos.mjGRID_TOPLEFT: status,
        mujoco.mjtGridPos.mjGRID_BOTTOMLEFT: HELP,
    }
    texts = []
    for corner, lines in lines_of_corner.items():
        left = "\n".join(name for name, _ in lines)
        right = "\n".join(value for _, value in lines)
        texts.append((font, corner, left, right))
    return texts
