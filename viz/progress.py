"""Reports the progress of long work, and shows it on the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Arguments: the current work, such as "rendering image", the number of parts begun, and the number
# of all parts.
Report = Callable[[str, int, int], None]


def report_nothing(
    what: str,
    n_begun: int,
    n_all: int,
) -> None:
    """Ignore the progress."""


@contextmanager
def terminal_bar(
    what: str,
    quiet: bool = False,
) -> Iterator[Report]:
    """Show a progress bar while the block runs, if stderr is a terminal.

    Args:
        what: the description before the first report.
        quiet: show no bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        bar = progress.add_task(what, total=None)

        def report(
            what: str,
            n_begun: int,
            n_all: int,
        ) -> None:
            progress.update(bar, description=what, completed=n_begun, total=n_all)

        yield report
