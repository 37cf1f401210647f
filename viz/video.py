"""Writes videos and stills of recorded episodes with their whiskers.

python -m viz.video runs/<run> --which failures
"""

import sys
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from eval.episode_row import EpisodeRow
from eval.run import Run
from eval.run_folder import video_path
from sim.errors import WhiskerError
from sim.jobs import run_jobs
from viz.episode_film import EpisodeFilm, open_camera_film
from viz.episode_work import MODULES, Block, OpenedTask, count_viz_workers, cut_blocks
from viz.overlay_style import TRAILS
from viz.progress import Report, report_nothing, terminal_bar

# The size of a still is that of a picture for print.
_STILL_SIZE = (960, 1280)
# A worker is started for so many films. Fewer take less time than its start.
_FILMS_A_WORKER = 2


@dataclass(frozen=True)
class VideoConfig:
    """Film episodes of a run.

    Attributes:
        run: the run folder.
        which: all episodes, or those that failed.
        fps: frames per second of simulated time. Default: one per control step.
        trail: draw the path taken since the beginning of this many plans, the current one included.
            0 draws all of it.
        workers: number of processes that film. Default: as many as there are cores, memory and
            episodes for.
        quiet: show no progress bar.
    """

    run: Annotated[Path, tyro.conf.Positional]
    which: Literal["failures", "all"] = "all"
    fps: int | None = None
    trail: int = TRAILS[0]
    workers: int | Literal["auto"] = "auto"
    quiet: bool = False


def film_whiskers(
    run: Run,
    row: EpisodeRow,
    path: Path,
    camera: str | None = None,
    show_intermediate: bool = False,
    report: Report = report_nothing,
) -> None:
    """Write one camera's view of an episode with whiskers and caption as mp4.

    Args:
        run: the run.
        row: the row of the episode.
        path: the path of the mp4.
        camera: the camera, as for `open_camera_film`.
        show_intermediate: draw the intermediate plans, if they were recorded.
        report: receives the progress at every frame.

    Raises:
        WhiskerError: there is no such episode file or camera.
    """
    film = open_camera_film(run, row.task, camera, show_intermediate=show_intermediate)
    with closing(film):
        film.write_mp4(path, row, report)


def draw_step(
    run: Run,
    row: EpisodeRow,
    step: int,
    path: Path,
    camera: str | None = None,
    show_intermediate: bool = False,
) -> None:
    """Write one moment of an episode with whiskers as PNG.

    Args:
        run: the run.
        row: the row of the episode.
        step: the control step before which the moment is.
        path: the path of the PNG.
        camera: the camera, as for `open_camera_film`.
        show_intermediate: draw the intermediate plans, if they were recorded.

    Raises:
        WhiskerError: there is no such episode file, camera or step.
    """
    film = open_camera_film(run, row.task, camera, _STILL_SIZE, show_intermediate)
    with closing(film):
        film.write_png(path, row, step)


def film_run(config: VideoConfig) -> list[Path]:
    """Film every selected episode without a video, each in the environment of its own task."""
    if config.trail < 0:
        raise WhiskerError(
            f"--trail {config.trail}",
            expected="0 (the whole path taken) or a number of plans",
        )
    run = Run.open(config.run)
    missing = [row for row in run.rows if _is_missing(config, run, row)]
    if not missing:
        return []
    blocks = cut_blocks(missing, size=1)
    n_workers = count_viz_workers(run, config.workers, len(blocks), _FILMS_A_WORKER)
    paths: list[Path] = []
    with (
        terminal_bar("videos", quiet=config.quiet) as report,
        closing(run_jobs(partial(Filming, config), blocks, n_workers, MODULES)) as filmed,
    ):
        report("videos", 0, len(blocks))
        for _, path in filmed:
            paths.append(path)
            report("videos", len(paths), len(blocks))
    return paths


class Filming:
    """`sim.worker_process.Work`: films one episode at a time in the environment of its task."""

    def __init__(self, config: VideoConfig) -> None:
        self._run = Run.open(config.run)
        self._film = OpenedTask(
            lambda task: EpisodeFilm(self._run, task, config.fps, trail=config.trail)
        )

    def run(self, block: Block) -> Path:
        """Write the video of the block's only episode, and return its path."""
        (row,) = block
        path = self._run.path / video_path(row)
        self._film.get(row.task).write_mp4(path, row, report_nothing)
        return path

    def close(self) -> None:
        self._film.close()


def _is_missing(
    config: VideoConfig,
    run: Run,
    row: EpisodeRow,
) -> bool:
    is_selected = config.which == "all" or not row.success
    has_video = (run.path / video_path(row)).exists()
    return bool(row.n_steps) and is_selected and not has_video


def main() -> int:
    """Run `python -m viz.video`."""
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
