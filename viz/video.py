"""Videos of recorded episodes, rendered from the run folder after the fact.

python -m viz.video runs/<run> --which failures
"""

import sys
from collections.abc import Iterator
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
from rich.console import Console
from rich.progress import track

from eval.run_folder import EpisodeRow, env_of_task, load_arrays, load_description, load_rows, video_path
from sim.env import Env
from sim.errors import WhiskerError
from sim.files import written_whole
from sim.registry import camera_names, is_in_own_process, make_env
from sim.so101.scene import PEOPLE_CAMERA
from sim.spec import Control

MAIN_SIZE, INSET_SIZE = (480, 640), (240, 320)
_CAPTION_PX = 28


@dataclass(frozen=True)
class VideoConfig:
    """Film episodes of a run.

    Attributes:
        run: the run folder.
        which: all episodes, or those that failed.
        fps: frames a second of simulated time. Default: one a control step.
        quiet: no progress bar.
    """

    run: Annotated[Path, tyro.conf.Positional]
    which: Literal["failures", "all"] = "all"
    fps: int | None = None
    quiet: bool = False


class EpisodeFilm:
    """Draws recorded episodes of a task: one large view, and on the right what the robot's other cameras see.

    The environment is one of its own: its cameras are larger than the policy's, its state is set from the record.
    """

    def __init__(self, env_name: str, fps: int | None = None, control: Control | None = None) -> None:
        """Args:
        control: as in `sim.registry.make_env`.
        """
        sizes = _views(env_name)
        self._main, *self._insets = sizes
        self._env: Env = make_env(env_name, sizes, control)
        self._control_rate_hz = 1 / self._env.spec.control_dt_s
        self.fps = fps or round(self._control_rate_hz)

    def frames(self, run: Path, row: EpisodeRow) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """RGB, `fps` a second of simulated time."""
        arrays = load_arrays(run, row)
        n_moments = len(arrays.step_snapshot)
        for step in np.arange(0, n_moments, self._control_rate_hz / self.fps).astype(int):
            self._env.restore(arrays.step_snapshot[step])
            images = self._env.observe().images
            column = np.concatenate([images[view] for view in self._insets])
            caption = f"episode {row.episode_index}   step {step} of {row.n_steps}"
            if step >= row.decided_at_step:
                caption += f"   {row.outcome}" + (f": {row.failed_stage} not met" if row.failed_stage else "")
            yield _with_caption(np.concatenate([images[self._main], column], axis=1), caption, row.success)

    def close(self) -> None:
        self._env.close()


def film_episode(film: EpisodeFilm, run: Path, row: EpisodeRow) -> Path:
    """Write the episode's mp4 (H.264) and return its path. It appears whole or not at all."""
    path = run / video_path(row)
    with written_whole(path) as unfinished, iio.imopen(unfinished, "w", plugin="pyav") as file:
        # yuv420p, which every browser plays.
        file.init_video_stream("libx264", fps=film.fps, pixel_format="yuv420p")
        for frame in film.frames(run, row):
            file.write_frame(frame)
    return path


def film_run(config: VideoConfig) -> list[Path]:
    """Film every chosen episode that has no video yet, each in the environment of its own task."""
    rows = [row for row in load_rows(config.run) if row.n_steps and (config.which == "all" or not row.success)]
    missing = [row for row in rows if not (config.run / video_path(row)).exists()]
    shown = track(missing, "videos", console=Console(stderr=True), disable=config.quiet or not missing)
    paths = []
    for task, of_task in groupby(shown, key=lambda row: row.task):
        film = _make_film(config, task)
        with closing(film):
            paths += [film_episode(film, config.run, row) for row in of_task]
    return paths


def _make_film(config: VideoConfig, task: str) -> EpisodeFilm:
    description = load_description(config.run)
    # Runs from before there were several have one task, of the environment that they name.
    env_name, control = env_of_task(description, task)
    return EpisodeFilm(env_name, config.fps, control)


def _views(env_name: str) -> dict[str, tuple[int, int]]:
    """The large view, then those beside it from top to bottom, with their sizes: the heights add up to its own."""
    if is_in_own_process(env_name):
        # LIBERO's policies see squares. A third camera would take as long as the two.
        return dict.fromkeys(camera_names(env_name)[:2], (MAIN_SIZE[0], MAIN_SIZE[0]))
    # A model of the user's own need not have the camera for people.
    own_model = "@" in env_name
    main = "overhead_cam" if own_model else PEOPLE_CAMERA
    return {main: MAIN_SIZE, "overhead_cam_depth" if own_model else "overhead_cam": INSET_SIZE, "wrist_cam": INSET_SIZE}


def _with_caption(frame: UInt8[np.ndarray, "height width 3"], text: str, success: bool) -> np.ndarray:
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
