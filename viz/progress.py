"""Reports how far something that takes long has come, and shows it on the terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with what is being done, as "rendering image", how many have been begun, and how many there
# are.
Report = Callable[[str, int, int], None]


def report_nothing(what: str, n_begun: int, n_all: int) -> None:
    """Report to nobody."""


@contextmanager
def terminal_bar(what: str, quiet: bool = False) -> Iterator[Report]:
    """Show a bar on the terminal while the block runs, if there is one.

    Args:
        what: is being done before the first report.
        quiet: show none.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns,
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        bar = progress.add_task(what, total=None)

        def report(what: str, n_begun: int, n_all: int) -> None:
            progress.update(bar, description=what, completed=n_begun, total=n_all)

        yield report
