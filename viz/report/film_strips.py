"""Makes the film strips of failures: the few frames that decided each, with the plan."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from eval.episode_row import EpisodeRow
from eval.outcome import rank_outcome
from eval.run import Run
from sim.jobs import run_jobs
from viz.episode_work import MODULES, count_viz_workers, cut_blocks
from viz.report.episodes import key_of
from viz.report.strip_artist import Picture
from viz.report.strip_budget import StripBudget, choose_height, make_data_url
from viz.report.strip_moments import Moment
from viz.report.strip_work import Drawn, StripWork

# Bytes of all JPEG files of a page, in base64. With everything else, a page stays under 15 MB.
DEFAULT_MAX_TOTAL_BYTES = 12_000_000
# Episodes of a task that one worker draws before it may go on with another task.
_BLOCK_SIZE = 5
# A worker is started for so many blocks. Fewer take less time than its start.
_BLOCKS_A_WORKER = 2


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
    workers: int | Literal["auto"] = 1,
) -> FilmStrips:
    """Render the strips of failed episodes. The environment of each task is opened once.

    Frames are as large as their share of the budget allows. Their quality depends on what the
    earlier strips have left of the budget. If even the smallest frames of all episodes exceed it,
    every n-th episode is left out.

    Args:
        rows: rows of the run; successes are ignored. Default: all.
        max_total_bytes: budget of the pictures, in base64.
        advance: called after every episode.
        workers: number of processes that render; "auto": as many as there are cores, memory and
            episodes for.

    Raises:
        WhiskerError: the budget does not hold a single strip.
    """
    rows = run.rows if rows is None else rows
    failed = sort_by_outcome([row for row in rows if not row.success])
    height_px, n_fitting = choose_height(len(failed), max_total_bytes)
    kept = _choose_evenly(failed, n_fitting)
    budget = StripBudget(max_total_bytes, len(kept))
    strips: list[FilmStrip] = []
    lost: dict[str, None] = {}
    n_left_out = len(failed) - len(kept)
    for row, drawn in _draw_rows(run, kept, height_px, workers):
        if isinstance(drawn, str):
            budget.skip()
            lost[drawn] = None
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


def _choose_evenly(rows: Sequence[EpisodeRow], n: int) -> list[EpisodeRow]:
    """Return n of the rows at even distances."""
    if not rows:
        return []
    indices = np.linspace(0, len(rows) - 1, n).round().astype(int)
    return [rows[i] for i in indices]


def _encode_strip(
    row: EpisodeRow,
    pictures: Sequence[Picture],
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
    workers: int | Literal["auto"],
) -> Iterator[tuple[EpisodeRow, Drawn]]:
    """Yield each episode with its pictures, or with a sentence on why there are none."""
    blocks = cut_blocks(sorted(rows, key=lambda row: row.task), _BLOCK_SIZE)
    n_workers = count_viz_workers(run, workers, len(blocks), _BLOCKS_A_WORKER)
    make_work = partial(StripWork, run.path, height_px)
    with closing(run_jobs(make_work, blocks, n_workers, MODULES)) as drawn_blocks:
        for block, drawn in drawn_blocks:
            yield from zip(block, drawn, strict=True)
