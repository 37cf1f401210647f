"""Videos and stills of recorded episodes with their whiskers, rendered from the run folder after the fact.

python -m viz.video runs/<run> --which failures
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal

import cv2
import imageio.v3 as iio
import numpy as np
import tyro
from jaxtyping import UInt8

from eval.episode_arrays import EpisodeArrays, ReplayableArrays
from eval.episode_row import EpisodeRow
from eval.run import Run
from eval.run_folder import video_path
from eval.series import row_at
from sim.capabilities import Drawable, require
from sim.errors import WhiskerError
from sim.files import atomic_write
from sim.registry import camera_names, family_of, path_in
from viz.goal_measures import add_measures
from viz.overlay import compute_overlay, draw_legend, draw_overlay, find_trail_begin
from viz.overlay_style import TRAILS
from viz.progress import Report, report_nothing, terminal_bar
from viz.whiskers import (
    Whiskers,
    compute_whiskers,
    is_ensemble,
    load_planned_arrays,
    open_whisker_env,
)

MAIN_SIZE = (480, 640)
# Of a picture for print.
STILL_SIZE = (960, 1280)
_CAPTION_PX = 28


@dataclass(frozen=True)
class VideoConfig:
    """Film episodes of a run.

    Attributes:
        run: the run folder.
        which: all episodes, or those that failed.
        fps: frames a second of simulated time. Default: one a control step.
        trail: plans, the one in force included, since which the way taken is drawn. 0 draws all of
            it.
        quiet: no progress bar.
    """

    run: Annotated[Path, tyro.conf.Positional]
    which: Literal["failures", "all"] = "all"
    fps: int | None = None
    trail: int = TRAILS[0]
    quiet: bool = False


class EpisodeFilm:
    """Draws recorded episodes of a task with their whiskers: a large view, and others in a column on the right.

    The environment is one of its own: its cameras are larger than the policy's, its state is set
    from the record.
    """

    def __init__(
        self,
        run: Run,
        task: str,
        fps: int | None = None,
        views: Mapping[str, tuple[int, int]] | None = None,
        show_intermediate: bool = False,
        trail: int = TRAILS[0],
    ) -> None:
        """Args:
        task: of the run, whose episodes are drawn. views: camera → (height_px, width_px): the large
        view first, the heights of the rest adding up to its own.
            Default: for the SO-101 what people see best and the robot's two cameras, for LIBERO the
            policies' two.
        show_drafts: draw what each plan was made from, where that was recorded.
        trail: plans back to which the way taken is drawn, as for `find_trail_begin`.
        """
        self._run, self._show_intermediate, self._trail = run, show_intermediate, trail
        sizes = choose_views(run, task) if views is None else views
        self._main, *self._insets = sizes
        self._env = open_whisker_env(run, task, sizes)
        self._projection = require(self._env, Drawable, "a film with whiskers").projection
        self._control_dt_s = self._env.spec.control_dt_s
        self.fps = fps or round(1 / self._control_dt_s)

    def frames(
        self, row: EpisodeRow, report: Report = report_nothing
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """RGB, `fps` a second of simulated time."""
        arrays = add_measures(load_planned_arrays(self._run, row, self._show_intermediate), row)
        whiskers = compute_whiskers(self._env, arrays, is_ensemble(self._run), report)
        steps = _find_frame_steps(len(arrays.step_snapshot), self._control_dt_s, self.fps)
        for nth, step in enumerate(steps, start=1):
            report("drawing frame", nth, len(steps))
            caption = f"episode {row.episode_index}   step {step} of {row.n_steps}"
            if step >= row.shown_step:
                caption += f"   {row.outcome}" + (
                    f": {row.failed_stage} not met" if row.failed_stage else ""
                )
            frame = _with_caption(self._draw(arrays, whiskers, step), caption, row.success)
            if arrays.series:
                frame = _with_caption(frame, describe_series(arrays, step), row.success)
            yield frame

    def still(self, row: EpisodeRow, step: int) -> UInt8[np.ndarray, "height width 3"]:
        """RGB, the world before that control step; `row.n_steps` is how it ended.

        Raises:
            WhiskerError: the episode has no such step.
        """
        if not 0 <= step <= row.n_steps:
            subject = f"step {step} of episode {row.episode_index}"
            raise WhiskerError(
                subject,
                expected=f"0 to {row.n_steps}",
                hint="Step 0 is the start, the last the end.",
            )
        arrays = load_planned_arrays(self._run, row, self._show_intermediate)
        return self._draw(arrays, compute_whiskers(self._env, arrays, is_ensemble(self._run)), step)

    def close(self) -> None:
        self._env.close()

    def _draw(
        self, arrays: ReplayableArrays, whiskers: Whiskers, step: int
    ) -> UInt8[np.ndarray, "height width 3"]:
        self._env.restore(arrays.step_snapshot[step])
        trail_begin = find_trail_begin(
            whiskers.prediction_step, step, self._control_dt_s, self._trail
        )
        overlay = compute_overlay(whiskers, arrays, step, trail_begin)
        images = {
            view: draw_overlay(image, self._projection(view), overlay)
            for view, image in self._env.observe().images.items()
        }
        main = draw_legend(images[self._main], overlay, is_ensemble(self._run))
        if not self._insets:
            return main
        return np.concatenate(
            [main, np.concatenate([images[view] for view in self._insets])], axis=1
        )


def film_whiskers(
    run: Run,
    row: EpisodeRow,
    path: Path,
    camera: str | None = None,
    size: tuple[int, int] = MAIN_SIZE,
    show_intermediate: bool = False,
    report: Report = report_nothing,
) -> Path:
    """Write one camera's view of an episode with its whiskers as mp4, a caption below; returns its path.

    Args:
        path: of the mp4.
        camera: default: the SO-101's camera for people, and that of LIBERO's policies which sees
            the table.
        size: height and width, px; LIBERO's pictures are squares of that height.
        show_drafts: as for `EpisodeFilm`.
        report: told of every frame.

    Raises:
        WhiskerError: no such episode file or camera.
    """
    with closing(_film_of_camera(run, row, camera, size, show_intermediate)) as film:
        return _write_mp4(path, film, row, report)


def draw_step(
    run: Run,
    row: EpisodeRow,
    step: int,
    path: Path,
    camera: str | None = None,
    size: tuple[int, int] = STILL_SIZE,
    show_intermediate: bool = False,
) -> Path:
    """Write one moment of an episode with its whiskers as PNG; arguments as for `film_whiskers`. Returns its path.

    Raises:
        WhiskerError: no such episode file, camera or step.
    """
    with closing(_film_of_camera(run, row, camera, size, show_intermediate)) as film:
        image = film.still(row, step)
    with atomic_write(path) as unfinished:
        iio.imwrite(unfinished, image, extension=".png")
    return path


def _film_of_camera(
    run: Run, row: EpisodeRow, camera: str | None, size: tuple[int, int], show_intermediate: bool
) -> EpisodeFilm:
    env_name, views = run.description.tasks[row.task], choose_views(run, row.task)
    if camera is None:
        camera = next(iter(views))
    else:
        _check_camera(env_name, camera)
    height_px, width_px = size
    view = (height_px, height_px if family_of(env_name).square_images else width_px)
    return EpisodeFilm(run, row.task, views={camera: view}, show_intermediate=show_intermediate)


def _check_camera(env_name: str, camera: str) -> None:
    """Raise for a camera that is neither the environment's nor the family's for people, which no policy may use."""
    family, known = family_of(env_name), camera_names(env_name)
    if family.viewer_camera in family.film_cameras(known, path_in(env_name)):
        known = (family.viewer_camera, *known)
    if camera not in known:
        raise WhiskerError(
            f"camera {camera!r} of {env_name!r}", expected=f"one of {', '.join(known)}"
        )


def _write_mp4(path: Path, film: EpisodeFilm, row: EpisodeRow, report: Report) -> Path:
    """H.264. The file appears whole or not at all."""
    with atomic_write(path) as unfinished, iio.imopen(unfinished, "w", plugin="pyav") as file:
        # yuv420p, which every browser plays.
        file.init_video_stream("libx264", fps=film.fps, pixel_format="yuv420p")
        for frame in film.frames(row, report):
            file.write_frame(frame)
    return path


def _find_frame_steps(n_moments: int, control_dt_s: float, fps: int) -> list[int]:
    """Return the control step that each frame of a film shows."""
    return np.arange(0, n_moments, 1 / (control_dt_s * fps)).astype(int).tolist()


def film_run(config: VideoConfig) -> list[Path]:
    """Film every chosen episode that has no video yet, each in the environment of its own task."""
    if config.trail < 0:
        raise WhiskerError(
            f"--trail {config.trail}", expected="0 (all of the way) or a number of plans"
        )
    run = Run.open(config.run)
    rows = [row for row in run.rows if row.n_steps and (config.which == "all" or not row.success)]
    missing = [row for row in rows if not (run.path / video_path(row)).exists()]
    paths: list[Path] = []
    with terminal_bar("videos", quiet=config.quiet or not missing) as report:

        def report_film(what: str, n_begun: int, n_all: int) -> None:
            report(f"video {len(paths) + 1} of {len(missing)}: {what}", n_begun, n_all)

        for task, of_task in groupby(missing, key=lambda row: row.task):
            with closing(EpisodeFilm(run, task, config.fps, trail=config.trail)) as film:
                for row in of_task:
                    paths.append(_write_mp4(run.path / video_path(row), film, row, report_film))
    return paths


def choose_views(run: Run, task: str) -> dict[str, tuple[int, int]]:
    """Return the large view, then those beside it from top to bottom, with their sizes: the heights add up to its own.

    Raises:
        WhiskerError: the environment has no camera.
    """
    env_name, env = run.description.tasks[task], run.description.env
    family = family_of(env_name)
    # Older runs do not name the cameras.
    views = family.film_cameras(env.camera_names or camera_names(env_name), path_in(env_name))
    if not views:
        raise WhiskerError(
            f"film of {env_name!r}", expected="an environment with a camera", got="one without"
        )
    height_px, width_px = (MAIN_SIZE[0], MAIN_SIZE[0]) if family.square_images else MAIN_SIZE
    n_beside = max(1, len(views) - 1)
    beside = dict.fromkeys(views[1:], (height_px // n_beside, width_px // n_beside))
    return {views[0]: (height_px, width_px), **beside}


def describe_series(arrays: EpisodeArrays, step: int) -> str:
    """Return the numbers of all series that are in force before a control step; one without a value is left out."""
    parts = []
    for recorded in arrays.series.values():
        series, values = recorded.series, recorded.values
        row = row_at(series.axis, step, arrays.prediction_step)
        if 0 <= row < len(values) and np.isfinite(values[row]):
            parts.append(f"{series.title} {values[row]:.3g} {series.unit}".rstrip())
    return "   ".join(parts)


def _with_caption(
    frame: UInt8[np.ndarray, "height width 3"], text: str, success: bool
) -> np.ndarray:
    strip = np.full((_CAPTION_PX, frame.shape[1], 3), 245, np.uint8)
    colour = (20, 110, 40) if success else (20, 20, 20)
    cv2.putText(strip, text, (10, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return np.concatenate([frame, strip])


def main() -> int:
    config = tyro.cli(VideoConfig, prog="python -m viz.video", description=VideoConfig.__doc__)
    try:
        film_run(config)
    except (WhiskerError, OSError) as error:
        print(f"video: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
