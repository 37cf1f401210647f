"""Draws the pictures of film strips, in this process or in several."""

from pathlib import Path

from eval.episode_row import EpisodeRow
from eval.run import Run
from sim.errors import WhiskerError
from viz.episode_work import Block, OpenedTask
from viz.report.strip_artist import Picture, StripArtist

# The pictures of an episode, or a sentence on why there are none.
type Drawn = list[Picture] | str


class StripWork:
    """`sim.worker_process.Work`: draws episodes, each in the environment of its own task."""

    def __init__(self, run: Path, height_px: int) -> None:
        """Args:
        run: the run folder.
        height_px: height of every frame.
        """
        opened = Run.open(run)
        self._artist = OpenedTask(lambda task: StripArtist(opened, task, height_px))

    def run(self, block: Block) -> list[Drawn]:
        task = block[0].task
        try:
            artist = self._artist.get(task)
        except WhiskerError as error:
            return [f"The failed episodes of {task!r} cannot be shown: {error}"] * len(block)
        return [_draw(artist, row) for row in block]

    def close(self) -> None:
        self._artist.close()


def _draw(artist: StripArtist, row: EpisodeRow) -> Drawn:
    try:
        return artist.draw_strip(row)
    except WhiskerError as error:
        return f"Episode {row.episode_index} of {row.task!r} cannot be shown: {error}"
