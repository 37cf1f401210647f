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


class EvaluationProgress(Progress):
    """Shows how many episodes have ended and how, and below it what each of several workers does.

    It is a context manager, like every bar of rich.
    """

    def __init__(
        self,
        name: str,
        schedule: Schedule,
        n_done: int,
        n_in_all: int,
        *,
        is_quiet: bool,
    ) -> None:
        """Make the bar, which is shown once it is entered.

        Args:
            name: stands before the bar.
            schedule: knows what each worker does.
            n_done: episodes that ended earlier.
            n_in_all: episodes of the whole run.
        """
        self._schedule = schedule
        self._n_before = n_done
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
        self._bar = self.add_task(name, total=n_in_all, completed=n_done, rate="")

    def show(self, rows: Iterable[EpisodeRow], remark: str = "") -> None:
        """Show the rows of the run so far, of earlier sessions too.

        Args:
            remark: said beside the success rate.
        """
        rows = list(rows)
        n_judged = sum(not row.error for row in rows)
        said = []
        if n_judged:
            said.append(f"{sum(row.success for row in rows) / n_judged:.0%} success")
        elapsed_s = self.tasks[0].elapsed
        if elapsed_s:
            rate = (len(rows) - self._n_before) / elapsed_s * _MINUTE_S
            said.append(f"{rate:.3g} a minute")
        if remark:
            said.append(remark)
        self.update(self._bar, completed=len(rows), rate=", ".join(said))

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        running = dict(self._schedule.running)
        if len(running) > 1:
            doing = [
                f"worker {number + 1}: {task}/{index}"
                for number, (task, index) in sorted(running.items())
            ]
            yield Text("   ".join(doing), style="dim", no_wrap=True, overflow="ellipsis")
