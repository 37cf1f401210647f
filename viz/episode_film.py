"""Draws frames and stills of recorded episodes with their whiskers, from the run folder."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
from jaxtyping import UInt8

from eval.episode_arrays import EpisodeArrays, ReplayableArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from eval.series import row_at
from sim.capabilities import Drawable, require
from sim.errors import WhiskerError
from sim.files import atomic_write
from sim.registry import camera_names, family_of, path_in
from viz.goal_measures import add_measures
from viz.overlay import compute_overlay, draw_legend, draw_overlay, find_trail_begin
from viz.overlay_style import TRAILS
from viz.progress import Report, report_nothing
from viz.whiskers import (
    Whiskers,
    compute_whiskers,
    is_ensemble,
    load_planned_arrays,
    open_whisker_env,
)

MAIN_SIZE = (480, 640)
_CAPTION_PX = 28
_CAPTION_GREY = 245
_SUCCESS_COLOUR = (20, 110, 40)
_TEXT_COLOUR = (20, 20, 20)

_Image = UInt8[np.ndarray, "height width 3"]
# Camera → height and width, px.
type Views = Mapping[str, tuple[int, int]]


class EpisodeFilm:
    """Draws recorded episodes of a task: a large view, and the others in a column on the right.

    It has its own environment, whose cameras are larger than the policy's, and whose state is set
    from the record.
    """

    def __init__(
        self,
        run: Run,
        task: str,
        fps: int | None = None,
        views: Views | None = None,
        show_intermediate: bool = False,
        trail: int = TRAILS[0],
    ) -> None:
        """Build the environment.

        Args:
            run: the run.
            task: the task of the run whose episodes are drawn.
            fps: frames per second of simulated time. Default: one per control step.
            views: camera → (height_px, width_px). The large view comes first; the heights of the
                others add up to its height. Default: for the SO-101 the viewer's camera and the
                robot's two, for LIBERO the policies' two.
            show_intermediate: draw the intermediate plans, if they were recorded.
            trail: number of plans back to which the path taken is drawn, see `find_trail_begin`.
        """
        self._run = run
        self._show_intermediate = show_intermediate
        self._trail = trail
        if views is None:
            views = choose_views(run, task)
        self._main, *self._insets = views
        self._env = open_whisker_env(run, task, views)
        self._projection = require(self._env, Drawable, "a film with whiskers").projection
        self._control_dt_s = self._env.spec.control_dt_s
        self.fps = fps or round(1 / self._control_dt_s)

    def frames(
        self,
        row: EpisodeRow,
        report: Report = report_nothing,
    ) -> Iterator[_Image]:
        """Yield the RGB frames of an episode, `fps` per second of simulated time."""
        planned = load_planned_arrays(self._run, row, self._show_intermediate)
        arrays = add_measures(planned, row)
        whiskers = compute_whiskers(self._env, arrays, is_ensemble(self._run), report)
        steps = _find_frame_steps(len(arrays.step_snapshot), self._control_dt_s, self.fps)
        for nth, step in enumerate(steps, start=1):
            report("drawing frame", nth, len(steps))
            image = self._draw(arrays, whiskers, step)
            frame = _with_caption(image, _describe_step(row, step), row.success)
            if arrays.series:
                frame = _with_caption(frame, describe_series(arrays, step), row.success)
            yield frame

    def still(
        self,
        row: EpisodeRow,
        step: int,
    ) -> _Image:
        """Return the RGB image before a control step. `row.n_steps` is the end of the episode.

        Raises:
            WhiskerError: the episode has no such step.
        """
        if not 0 <= step <= row.n_steps:
            raise WhiskerError(
                f"step {step} of episode {row.episode_index}",
                expected=f"0 to {row.n_steps}",
                hint="Step 0 is the start, and the last step is the end.",
            )
        arrays = load_planned_arrays(self._run, row, self._show_intermediate)
        whiskers = compute_whiskers(self._env, arrays, is_ensemble(self._run))
        return self._draw(arrays, whiskers, step)

    def write_mp4(
        self,
        path: Path,
        row: EpisodeRow,
        report: Report,
    ) -> None:
        """Write an episode as H.264. The file appears complete or not at all."""
        with atomic_write(path) as unfinished, iio.imopen(unfinished, "w", plugin="pyav") as file:
            # Every browser plays yuv420p.
            file.init_video_stream("libx264", fps=self.fps, pixel_format="yuv420p")
            for frame in self.frames(row, report):
                file.write_frame(frame)

    def write_png(
        self,
        path: Path,
        row: EpisodeRow,
        step: int,
    ) -> None:
        """Write the image before a control step as PNG. The file appears complete or not at all."""
        image = self.still(row, step)
        with atomic_write(path) as unfinished:
            iio.imwrite(unfinished, image, extension=".png")

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _draw(
        self,
        arrays: ReplayableArrays,
        whiskers: Whiskers,
        step: int,
    ) -> _Image:
        self._env.restore(arrays.step_snapshot[step])
        begin = find_trail_begin(whiskers.prediction_step, step, self._control_dt_s, self._trail)
        overlay = compute_overlay(whiskers, arrays, step, begin)
        images = {}
        for view, image in self._env.observe().images.items():
            images[view] = draw_overlay(image, self._projection(view), overlay)
        main = draw_legend(images[self._main], overlay, is_ensemble(self._run))
        if not self._insets:
            return main
        column = np.concatenate([images[view] for view in self._insets])
        return np.concatenate([main, column], axis=1)


def open_camera_film(
    run: Run,
    task: str,
    camera: str | None = None,
    size: tuple[int, int] = MAIN_SIZE,
    show_intermediate: bool = False,
) -> EpisodeFilm:
    """Return a film of a single camera.

    Args:
        run: the run.
        task: the task of the run.
        camera: the camera. Default: the viewer's camera of the SO-101, and the policies' camera in
            LIBERO that sees the table.
        size: height and width, px. Images of LIBERO are squares of that height.
        show_intermediate: draw the intermediate plans, if they were recorded.

    Raises:
        WhiskerError: there is no such camera.
    """
    default, size = next(iter(choose_views(run, task, size).items()))
    if camera is None:
        camera = default
    else:
        _check_camera(run.description.tasks[task], camera)
    views = {camera: size}
    return EpisodeFilm(run, task, views=views, show_intermediate=show_intermediate)


def _check_camera(env_name: str, camera: str) -> None:
    """Raise unless the environment has the camera, or it is its viewer's camera.

    No policy may use the viewer's camera.
    """
    family = family_of(env_name)
    known = camera_names(env_name)
    if family.viewer_camera in family.film_cameras(known, path_in(env_name)):
        known = (family.viewer_camera, *known)
    if camera not in known:
        subject = f"camera {camera!r} of {env_name!r}"
        raise WhiskerError(subject, expected=f"one of {', '.join(known)}")


def choose_views(
    run: Run,
    task: str,
    size: tuple[int, int] = MAIN_SIZE,
) -> Views:
    """Return the sizes of the large view and then of the others, from top to bottom.

    The heights of the others add up to that of the large one.

    Args:
        run: the run.
        task: the task of the run.
        size: height and width of the large view, px. Images of LIBERO are squares of that height.

    Raises:
        WhiskerError: the environment has no camera.
    """
    env_name = run.description.tasks[task]
    family = family_of(env_name)
    # Older runs do not record the camera names.
    names = run.description.env.camera_names or camera_names(env_name)
    views = family.film_cameras(names, path_in(env_name))
    if not views:
        raise WhiskerError(
            f"film of {env_name!r}", expected="an environment with a camera", got="one without"
        )
    height_px, width_px = size
    if family.square_images:
        width_px = height_px
    main, *others = views
    sizes = {main: (height_px, width_px)}
    for view in others:
        sizes[view] = (height_px // len(others), width_px // len(others))
    return sizes


def describe_series(arrays: EpisodeArrays, step: int) -> str:
    """Return the current values of all series before a control step, without undefined ones."""
    parts = []
    for recorded in arrays.series.values():
        series = recorded.series
        values = recorded.values
        row = row_at(series.axis, step, arrays.prediction_step)
        if 0 <= row < len(values) and np.isfinite(values[row]):
            text = f"{series.title} {values[row]:.3g} {series.unit}"
            parts.append(text.rstrip())
    return "   ".join(parts)


def _find_frame_steps(
    n_moments: int,
    control_dt_s: float,
    fps: int,
) -> list[int]:
    """Return the control step that each frame of a film shows."""
    steps_per_frame = 1 / (control_dt_s * fps)
    return np.arange(0, n_moments, steps_per_frame).astype(int).tolist()


def _describe_step(row: EpisodeRow, step: int) -> str:
    text = f"episode {row.episode_index}   step {step} of {row.n_steps}"
    if step < row.shown_step:
        return text
    text += f"   {row.outcome}"
    return f"{text}: {row.failed_stage} not met" if row.failed_stage else text


def _with_caption(
    frame: _Image,
    text: str,
    success: bool,
) -> np.ndarray:
    strip = np.full(
        (_CAPTION_PX, frame.shape[1], 3),
        _CAPTION_GREY,
        np.uint8,
    )
    colour = _SUCCESS_COLOUR if success else _TEXT_COLOUR
    cv2.putText(
        strip,
        text,
        (10, 19),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.5,
        colour,
        1,
        cv2.LINE_AA,
    )
    return np.concatenate([frame, strip])
