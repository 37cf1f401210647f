"""The progress bar of an evaluation."""

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from eval.episode_row import EpisodeRow
from eval.schedule import Schedule

_MINUTE_S = 60.0
# A line has room for no more workers, and it is drawn ten times a second.
_N_SHOWN = 12


class EvaluationProgress(Progress):
    """Shows how many episodes have ended and how, and below it what each of several workers does.

    It is a context manager, like every bar of rich.
    """

    def __init__(
        self,
        name: str,
        schedule: Schedule,
        rows: Iterable[EpisodeRow],
        n_in_all: int,
        *,
        is_quiet: bool,
    ) -> None:
        """Make the bar, which is shown once it is entered.

        Args:
            name: stands before the bar.
            schedule: knows what each worker does.
            rows: rows of the episodes that ended earlier.
            n_in_all: episodes of the whole run.
        """
        self._schedule = schedule
        self._n_ended = 0
        self._n_judged = 0
        self._n_success = 0
        for row in rows:
            self._count(row)
        self._n_before = self._n_ended
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("[bold]{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=is_quiet,
        )
        self._bar = self.add_task(name, total=n_in_all, completed=self._n_ended, rate="")

    def add(self, row: EpisodeRow, remark: str = "") -> None:
        """Show that an episode has ended.

        Args:
            remark: said beside the success rate of the run so far.
        """
        self._count(row)
        said = []
        if self._n_judged:
            said.append(f"{self._n_success / self._n_judged:.0%} success")
        elapsed_s = self.tasks[0].elapsed
        if elapsed_s:
            rate = (self._n_ended - self._n_before) / elapsed_s * _MINUTE_S
            said.append(f"{rate:.3g} a minute")
        if remark:
            said.append(remark)
        self.update(self._bar, completed=self._n_ended, rate=", ".join(said))

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        running = dict(self._schedule.running)
        if len(running) > 1:
            doing = [
                f"worker {number + 1}: {task}/{index}"
                for number, (task, index) in sorted(running.items())[:_N_SHOWN]
            ]
            if len(running) > _N_SHOWN:
                doing.insert(0, f"{len(running)} workers")
            yield Text("   ".join(doing), style="dim", no_wrap=True, overflow="ellipsis")

    def _count(self, row: EpisodeRow) -> None:
        self._n_ended += 1
        self._n_judged += not row.error
        self._n_success += row.success
