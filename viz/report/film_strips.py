"""Renders film strips of failures: the few frames that decided each, with the plan.

Only these frames are rendered. As in films, a frame shows the recorded state, the current plan, and
the path taken since the last two plans. Earlier plans are left out, since they would hide the robot
in a small picture. The executed part of a plan is the recorded path of the robot. Only the rest is
simulated, from the recorded state at which the plan was abandoned, which gives the same path bit
for bit as simulating the whole plan.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float64

from eval.episode_arrays import ReplayableArrays
from eval.episode_row import EpisodeRow
from eval.outcome import rank_outcome
from eval.run import Run
from sim.capabilities import Drawable, require
from sim.errors import UnknownNameError, WhiskerError
from sim.registry import family_of
from viz.episode_film import choose_views
from viz.overlay import Overlay, draw_overlay, find_trail_begin, project_path
from viz.report.episodes import key_of
from viz.report.strip_budget import (
    N_FRAMES,
    Image,
    StripBudget,
    choose_height,
    make_data_url,
)
from viz.report.strip_moments import Moment, choose_moments
from viz.whiskers import find_prediction, load_planned_arrays, open_whisker_env, simulate_plans

# Bytes of all JPEG files of a page, in base64. With everything else, a page stays under 15 MB.
DEFAULT_MAX_TOTAL_BYTES = 12_000_000
# The viewer's camera shows the whole scene. Its views are rendered this much larger, and cropped
# around the paths of gripper and object. A policy's cameras are close already.
_ZOOM = 1.4
# Place of the middle of these paths in the crop, from the top and the left, as a share of its size.
# The arm is above its gripper.
_MIDDLE = (0.6, 0.5)

_Path = Float64[np.ndarray, "moment 3"]
_Picture = tuple[Moment, Image]
# An episode with its pictures, or with a sentence on why there are none.
_Drawn = tuple[EpisodeRow, list[_Picture] | str]


@dataclass(frozen=True)
class StripFrame:
    """One picture of a strip.

    Attributes:
        moment: its control step and caption.
        jpeg: the content of the JPEG file.
    """

    moment: Moment
    jpeg: bytes

    @property
    def url(self) -> str:
        """Return the picture as a URL that contains it."""
        return make_data_url(self.jpeg)


@dataclass(frozen=True)
class FilmStrip:
    """The frames of one failed episode, in order of time.

    Attributes:
        height_px, width_px: size of every frame.
    """

    row: EpisodeRow
    frames: tuple[StripFrame, ...]
    height_px: int
    width_px: int


@dataclass(frozen=True)
class FilmStrips:
    """The strips of a run, sorted by outcome, task and episode.

    Attributes:
        n_left_out: number of failed episodes that did not fit.
        lost: a sentence for each failed episode, or task, that cannot be shown.
    """

    strips: tuple[FilmStrip, ...]
    n_left_out: int = 0
    lost: tuple[str, ...] = ()

    @property
    def remarks(self) -> list[str]:
        """Return the reasons why failures are not shown."""
        if not self.n_left_out:
            return list(self.lost)
        n_failed = len(self.strips) + self.n_left_out
        left_out = (
            f"{self.n_left_out} of {n_failed} failed episodes are left out, spread evenly, "
            "so that the page stays small."
        )
        return [left_out, *self.lost]


def make_film_strips(
    run: Run,
    rows: Sequence[EpisodeRow] | None = None,
    max_total_bytes: int = DEFAULT_MAX_TOTAL_BYTES,
    advance: Callable[[], None] = lambda: None,
) -> FilmStrips:
    """Render the strips of failed episodes. The environment of each task is opened once.

    Frames are as large as their share of the budget allows. Their quality depends on what the
    earlier strips have left of the budget. If even the smallest frames of all episodes exceed it,
    every n-th episode is left out.

    Args:
        rows: rows of the run; successes are ignored. Default: all.
        max_total_bytes: budget of the pictures, in base64.
        advance: called after every episode.

    Raises:
        WhiskerError: the budget does not hold a single strip.
    """
    rows = run.rows if rows is None else rows
    failed = sort_by_outcome([row for row in rows if not row.success])
    height_px, n_fitting = choose_height(len(failed), max_total_bytes)
    kept = _choose_evenly(failed, n_fitting)
    budget = StripBudget(max_total_bytes, len(kept))
    strips: list[FilmStrip] = []
    lost: list[str] = []
    n_left_out = len(failed) - len(kept)
    for row, drawn in _draw_rows(run, kept, height_px):
        if isinstance(drawn, str):
            budget.skip()
            if drawn:
                lost.append(drawn)
        else:
            strip = _encode_strip(row, drawn, budget)
            if strip is None:
                n_left_out += 1
            else:
                strips.append(strip)
        advance()
    rank = {key_of(row): i for i, row in enumerate(failed)}
    strips.sort(key=lambda strip: rank[key_of(strip.row)])
    return FilmStrips(tuple(strips), n_left_out, tuple(lost))


def sort_by_outcome(rows: Sequence[EpisodeRow]) -> list[EpisodeRow]:
    """Return failed episodes in the order of their outcomes, then of task and index."""
    return sorted(rows, key=lambda row: (rank_outcome(row.outcome), key_of(row)))


def choose_view(
    run: Run,
    task: str,
    height_px: int,
) -> tuple[str, tuple[int, int], tuple[int, int]]:
    """Return the camera that shows most of a task, the size of a frame, and the rendered size.

    A frame is cropped from a rendered picture.

    Raises:
        UnknownNameError: the run has no such task.
    """
    tasks = run.description.tasks
    if task not in tasks:
        kind = f"task of run {str(run.path)!r}"
        raise UnknownNameError(kind, task, tasks)
    views = choose_views(run, task)
    camera, (full_height_px, full_width_px) = next(iter(views.items()))
    width_px = round(height_px * full_width_px / full_height_px)
    zoom = _ZOOM if camera == family_of(tasks[task]).viewer_camera else 1.0
    rendered_size = (round(zoom * height_px), round(zoom * width_px))
    return camera, (height_px, width_px), rendered_size


class StripArtist:
    """Draws frames of the recorded episodes of a task in an environment of its own.

    The camera is the one that shows most.
    """

    def __init__(
        self,
        run: Run,
        task: str,
        height_px: int,
    ) -> None:
        self._run = run
        self._camera, self._size, self._rendered_size = choose_view(run, task, height_px)
        self._env = open_whisker_env(run, task, {self._camera: self._rendered_size})
        drawable = require(self._env, Drawable, "film strips")
        self._projection = drawable.projection

    def draw_strip(self, row: EpisodeRow) -> list[_Picture]:
        """Return the moments that decided an episode, and their pictures.

        Raises:
            WhiskerError: the episode's file is lost or damaged, or nothing was planned in it.
        """
        arrays = load_planned_arrays(self._run, row)
        control_dt_s = self._env.spec.control_dt_s
        moments = choose_moments(row, arrays.prediction_step, control_dt_s, N_FRAMES)
        rests: dict[int, _Path] = {}
        images = [self._draw(arrays, moment.step, rests) for moment in moments]
        top, left = self._find_corner(arrays)
        height, width = self._size
        crops = [image[top : top + height, left : left + width] for image in images]
        return list(zip(moments, crops, strict=True))

    def close(self) -> None:
        self._env.close()

    def _draw(
        self,
        arrays: ReplayableArrays,
        step: int,
        rests: dict[int, _Path],
    ) -> Image:
        overlay = self._compute_overlay(arrays, step, rests)
        self._env.restore(arrays.step_snapshot[step])
        image = self._env.observe().images[self._camera]
        return draw_overlay(image, self._projection(self._camera), overlay)

    def _find_corner(self, arrays: ReplayableArrays) -> tuple[int, int]:
        """Return row and column of the crop that shows the episode's paths.

        The camera does not move during an episode, so the crop is the same for all frames.
        """
        paths = np.concatenate(arrays.paths_world)
        projected = project_path(self._projection(self._camera), paths)
        places = np.concatenate([np.empty((0, 2)), *projected])
        room = np.subtract(self._rendered_size, self._size)
        corner = room // 2
        if len(places):
            middle = (places.min(axis=0) + places.max(axis=0))[::-1] / 2
            corner = np.rint(middle - np.multiply(self._size, _MIDDLE)).clip(0, room)
        row, column = corner.astype(int).tolist()
        return row, column

    def _compute_overlay(
        self,
        arrays: ReplayableArrays,
        step: int,
        rests: dict[int, _Path],
    ) -> Overlay:
        """Return the current plan and the path taken.

        Args:
            rests: prediction → the part of its plan that was not executed. New ones are added.
        """
        current = find_prediction(arrays.prediction_step, step)
        n_executed = int(arrays.n_executed[current])
        abandoned = int(arrays.prediction_step[current]) + n_executed
        if current not in rests:
            rest = arrays.chunk[current, n_executed:]
            snapshot = arrays.step_snapshot[abandoned]
            rests[current] = simulate_plans(self._env, snapshot, rest[None])[0]
        begin = find_trail_begin(arrays.prediction_step, step, self._env.spec.control_dt_s)
        executed = arrays.ee_pos_world[step:abandoned]
        return Overlay(
            tool=arrays.ee_pos_world[step],
            plan=np.concatenate([executed, rests[current]]),
            n_to_execute=abandoned - step,
            taken=arrays.ee_pos_world[begin : step + 1],
        )


def _choose_evenly(rows: Sequence[EpisodeRow], n: int) -> list[EpisodeRow]:
    """Return n of the rows at even distances."""
    if not rows:
        return []
    indices = np.linspace(0, len(rows) - 1, n).round().astype(int)
    return [rows[i] for i in indices]


def _encode_strip(
    row: EpisodeRow,
    pictures: Sequence[_Picture],
    budget: StripBudget,
) -> FilmStrip | None:
    """Return the strip of an episode, or None if there is no room for it."""
    files = budget.encode([image for _, image in pictures])
    if files is None:
        return None
    moments = [moment for moment, _ in pictures]
    frames = map(StripFrame, moments, files)
    height_px, width_px = pictures[0][1].shape[:2]
    return FilmStrip(row, tuple(frames), height_px, width_px)


def _draw_rows(
    run: Run,
    rows: Sequence[EpisodeRow],
    height_px: int,
) -> Iterator[_Drawn]:
    """Yield each episode with its pictures, or with a sentence on why there are none, task by task.

    The sentence is "" if the one of an earlier episode covers it.
    """
    by_task = sorted(rows, key=lambda row: row.task)
    for task, group in groupby(by_task, key=lambda row: row.task):
        yield from _draw_task(run, task, list(group), height_px)


def _draw_task(
    run: Run,
    task: str,
    rows: Sequence[EpisodeRow],
    height_px: int,
) -> Iterator[_Drawn]:
    """Yield each episode of one task, as `_draw_rows` does."""
    try:
        artist = StripArtist(run, task, height_px)
    except WhiskerError as error:
        yield rows[0], f"The failed episodes of {task!r} cannot be shown: {error}"
        yield from [(row, "") for row in rows[1:]]
        return
    with closing(artist):
        for row in rows:
            try:
                yield row, artist.draw_strip(row)
            except WhiskerError as error:
                yield row, f"Episode {row.episode_index} of {task!r} cannot be shown: {error}"
