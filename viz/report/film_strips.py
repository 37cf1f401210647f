"""Film strips of failures: of each failed episode the few frames that decided it, with the plan drawn in.

Only these frames are rendered. A frame shows the recorded state, the plan in force and the way
taken since the last two plans, as films do; the plans before it are left out, since in a small
picture they would hide the robot. The part of a plan that was executed is where the robot really
went, so only the rest of it is simulated, from the recorded state at which it was abandoned: the
same path, bit for bit, as simulating all of it.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from eval.episode_row import EpisodeRow
from eval.outcome import rank_outcome
from eval.recorder import ReplayableArrays
from eval.run import Run
from sim.capabilities import Drawable, require
from sim.errors import UnknownNameError, WhiskerError
from sim.registry import family_of
from viz.overlay import Overlay, draw_overlay, find_trail_begin, project_path
from viz.report.strip_moments import Moment, choose_moments
from viz.video import choose_views
from viz.whiskers import load_planned_arrays, open_whisker_env, simulate_plans

# Of the JPEG files as the page carries them, in base64: with all else a page stays under 15 MB.
DEFAULT_MAX_TOTAL_BYTES = 12_000_000
N_FRAMES = 5
# Height of a frame, px, and the bytes that it takes at quality 60, measured on the SO-101 with its
# lines.
_HEIGHTS = {240: 3900, 180: 2700, 120: 1700}
# A camera for people shows the whole scene: its views are rendered this much larger, and cut out
# around the paths of gripper and object. A policy's cameras are close.
_ZOOM = 1.4
# The middle of these paths is this far down in the part that is cut out: the arm is above its
# gripper.
_MIDDLE = (0.6, 0.5)
_QUALITIES = (80, 70, 60, 50, 40, 30)
_PREFIX = "data:image/jpeg;base64,"

_Image = UInt8[np.ndarray, "_height _width 3"]


@dataclass(frozen=True)
class StripFrame:
    """One picture of a strip.

    Attributes:
        moment: its control step and caption.
        jpeg: the file.
    """

    moment: Moment
    jpeg: bytes

    @property
    def url(self) -> str:
        """Return the picture as a page carries it."""
        return _PREFIX + base64.b64encode(self.jpeg).decode("ascii")

    @property
    def n_url_bytes(self) -> int:
        return len(_PREFIX) + 4 * -(-len(self.jpeg) // 3)


@dataclass(frozen=True)
class FilmStrip:
    """The frames of one failed episode, in order of time.

    Attributes:
        height_px, width_px: of every frame.
        quality: of the JPEG files.
    """

    row: EpisodeRow
    frames: tuple[StripFrame, ...]
    height_px: int
    width_px: int
    quality: int

    @property
    def n_bytes(self) -> int:
        return sum(frame.n_url_bytes for frame in self.frames)


@dataclass(frozen=True)
class FilmStrips:
    """The strips of a run, sorted by outcome, task and episode.

    Attributes:
        n_left_out: failed episodes for which there was no room.
        lost: a sentence for each failed episode, or task, that cannot be shown.
    """

    strips: tuple[FilmStrip, ...]
    n_left_out: int = 0
    lost: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Return the bytes of all pictures in base64."""
        return sum(strip.n_bytes for strip in self.strips)

    @property
    def remarks(self) -> list[str]:
        """Return what has to be said beside the strips: what is not shown, and why."""
        n = len(self.strips) + self.n_left_out
        words = f"{self.n_left_out} of {n} failed episodes are left out, spread evenly, so that the page stays small."
        return [*([words] if self.n_left_out else []), *self.lost]


def make_film_strips(
    run: Run,
    rows: Sequence[EpisodeRow] | None = None,
    max_total_bytes: int = DEFAULT_MAX_TOTAL_BYTES,
    advance: Callable[[], None] = lambda: None,
) -> FilmStrips:
    """Render the strips of failed episodes. The environment of each task is opened once.

    Frames are as large as their share of the budget allows; their quality follows what the strips
    so far have left of it. If even the smallest frames of all episodes are too many, every n-th
    episode is left out.

    Args:
        rows: of the run; those of successes are passed over. Default: all.
        max_total_bytes: of the pictures, in base64.
        advance: called after every episode.

    Raises:
        WhiskerError: a budget that holds no frame.
    """
    failed = sort_by_outcome(
        [row for row in (run.rows if rows is None else rows) if not row.success]
    )
    height_px, n_fitting = _choose_height(len(failed), max_total_bytes)
    kept = (
        [failed[i] for i in np.linspace(0, len(failed) - 1, n_fitting).round().astype(int)]
        if failed
        else []
    )
    budget, strips, lost, n_full = _Budget(max_total_bytes, len(kept)), [], [], 0
    for task, group in groupby(sorted(kept, key=lambda row: row.task), key=lambda row: row.task):
        of_task = list(group)
        for row, made in zip(of_task, _draw_task(run, task, of_task, height_px), strict=True):
            encoded = None if isinstance(made, str) else budget.encode([image for _, image in made])
            if isinstance(made, str):
                lost += [made] if made else []
                budget.skip()
            elif encoded is None:
                n_full += 1
            else:
                quality, files = encoded
                frames = tuple(
                    StripFrame(moment, file) for (moment, _), file in zip(made, files, strict=True)
                )
                height, width = made[0][1].shape[:2]
                strips.append(FilmStrip(row, frames, height, width, quality))
            advance()
    by_key = {(strip.row.task, strip.row.episode_index): strip for strip in strips}
    in_order = [by_key[key] for row in failed if (key := (row.task, row.episode_index)) in by_key]
    return FilmStrips(tuple(in_order), len(failed) - len(kept) + n_full, tuple(lost))


def sort_by_outcome(rows: Sequence[EpisodeRow]) -> list[EpisodeRow]:
    """Return failed episodes in the order of their outcomes, then of task and index."""
    return sorted(rows, key=lambda row: (rank_outcome(row.outcome), row.task, row.episode_index))


def choose_view(
    run: Run, task: str, height_px: int
) -> tuple[str, tuple[int, int], tuple[int, int]]:
    """Return the camera that shows most of a task, the size of a frame, and that of the picture it is cut out of.

    Raises:
        UnknownNameError: the run has no such task.
    """
    tasks = run.description.tasks
    if task not in tasks:
        raise UnknownNameError(f"task of run {str(run.path)!r}", task, tasks)
    camera, (full_height_px, full_width_px) = next(iter(choose_views(run, task).items()))
    size = (height_px, round(height_px * full_width_px / full_height_px))
    zoom = _ZOOM if camera == family_of(tasks[task]).viewer_camera else 1.0
    return camera, size, (round(zoom * size[0]), round(zoom * size[1]))


class StripArtist:
    """Draws frames of a task's recorded episodes through the camera that shows most, in an environment of its own."""

    def __init__(self, run: Run, task: str, height_px: int) -> None:
        self._run = run
        self._camera, self._size, self._rendered_size = choose_view(run, task, height_px)
        self._env = open_whisker_env(run, task, {self._camera: self._rendered_size})
        self._projection = require(self._env, Drawable, "film strips").projection

    def draw_strip(self, row: EpisodeRow) -> list[tuple[Moment, _Image]]:
        """Return the moments that decided an episode, and their pictures.

        Raises:
            WhiskerError: the episode's file is lost or damaged, or nothing was planned in it.
        """
        arrays = load_planned_arrays(self._run, row)
        moments = choose_moments(row, arrays.prediction_step, self._env.spec.control_dt_s, N_FRAMES)
        rests: dict[int, Float64[np.ndarray, "moment 3"]] = {}
        images = [self._draw(arrays, moment.step, rests) for moment in moments]
        top, left = self._find_corner(arrays)
        height, width = self._size
        cut = [image[top : top + height, left : left + width] for image in images]
        return list(zip(moments, cut, strict=True))

    def close(self) -> None:
        self._env.close()

    def _draw(
        self, arrays: ReplayableArrays, step: int, rests: dict[int, Float64[np.ndarray, "moment 3"]]
    ) -> _Image:
        overlay = self._compute_overlay(arrays, step, rests)
        self._env.restore(arrays.step_snapshot[step])
        return draw_overlay(
            self._env.observe().images[self._camera], self._projection(self._camera), overlay
        )

    def _find_corner(self, arrays: ReplayableArrays) -> tuple[int, int]:
        """Return row and column of the part of the picture that shows the episode's paths.

        The camera is the same for the whole episode, and so is the part.
        """
        paths = np.concatenate(arrays.paths_world)
        places = np.concatenate(
            [np.empty((0, 2)), *project_path(self._projection(self._camera), paths)]
        )
        room = np.subtract(self._rendered_size, self._size)
        if not len(places):
            return int(room[0]) // 2, int(room[1]) // 2
        middle = (places.min(axis=0) + places.max(axis=0))[::-1] / 2
        row, column = (
            np.clip(np.rint(middle - np.multiply(self._size, _MIDDLE)), 0, room)
            .astype(int)
            .tolist()
        )
        return row, column

    def _compute_overlay(
        self, arrays: ReplayableArrays, step: int, rests: dict[int, Float64[np.ndarray, "moment 3"]]
    ) -> Overlay:
        """Return the plan in force and the way taken.

        Args:
            rests: prediction → what was not executed of its plan, as far as it is known; it is
                added to.
        """
        current = int(np.searchsorted(arrays.prediction_step, step, side="right")) - 1
        n_executed = int(arrays.n_executed[current])
        abandoned = int(arrays.prediction_step[current]) + n_executed
        if current not in rests:
            rest = arrays.chunk[current, n_executed:]
            rests[current] = simulate_plans(self._env, arrays.step_snapshot[abandoned], rest[None])[
                0
            ]
        begin = find_trail_begin(arrays.prediction_step, step, self._env.spec.control_dt_s)
        return Overlay(
            tool=arrays.ee_pos_world[step],
            plan=np.concatenate([arrays.ee_pos_world[step:abandoned], rests[current]]),
            n_to_execute=abandoned - step,
            taken=arrays.ee_pos_world[begin : step + 1],
        )


class _Budget:
    """Divides the bytes over the strips: each gets an equal share of what those before it have left."""

    def __init__(self, n_bytes: int, n_strips: int) -> None:
        self._n_bytes, self._n_strips = n_bytes, n_strips
        self._first = 0  # index of the quality to try first: strips of a run need about the same

    def encode(self, images: Sequence[_Image]) -> tuple[int, list[bytes]] | None:
        """Return the best quality at which the frames fit into their share, and the files; None if none fits."""
        share = self._n_bytes / self._n_strips
        self.skip()
        for i in range(self._first, len(_QUALITIES)):
            files = [_encode(image, _QUALITIES[i]) for image in images]
            n_bytes = sum(len(_PREFIX) + 4 * -(-len(file) // 3) for file in files)
            if n_bytes <= share or (i == len(_QUALITIES) - 1 and n_bytes <= self._n_bytes):
                self._n_bytes -= n_bytes
                self._first = max(0, i - 1)
                return _QUALITIES[i], files
        return None

    def skip(self) -> None:
        """Note that a strip takes no bytes."""
        self._n_strips -= 1


def _draw_task(
    run: Run, task: str, rows: Sequence[EpisodeRow], height_px: int
) -> Iterator[list[tuple[Moment, _Image]] | str]:
    """Yield the strip of each episode, or why there is none: "" where the sentence before it has said so."""
    try:
        artist = StripArtist(run, task, height_px)
    except WhiskerError as error:
        yield f"The failed episodes of {task!r} cannot be shown: {error}"
        yield from [""] * (len(rows) - 1)
        return
    with closing(artist):
        for row in rows:
            try:
                yield artist.draw_strip(row)
            except WhiskerError as error:
                yield f"Episode {row.episode_index} of {task!r} cannot be shown: {error}"


def _choose_height(n_strips: int, max_total_bytes: int) -> tuple[int, int]:
    """Return the height of the frames, px, and how many strips of it there is room for."""
    smallest = min(_HEIGHTS)
    n_fitting = max_total_bytes // (N_FRAMES * _HEIGHTS[smallest] * 4 // 3)
    if n_fitting < 1:
        least = N_FRAMES * _HEIGHTS[smallest] * 4 // 3
        raise WhiskerError(
            "film strips", expected=f"room for at least {least} bytes", got=str(max_total_bytes)
        )
    share = 0.75 * max_total_bytes / (N_FRAMES * max(1, n_strips))
    height_px = next((height for height, n_bytes in _HEIGHTS.items() if n_bytes <= share), smallest)
    return height_px, min(n_strips, n_fitting)


def _encode(image: _Image, quality: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    done, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done
    return content.tobytes()
