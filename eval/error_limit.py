"""Ends a run after some crashed episodes, such as those of a policy server that has died."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from eval.episode_row import EpisodeRow
from eval.outcome import Outcome
from sim.errors import WhiskerError


def end_after_errors(
    rows: Generator[EpisodeRow],
    max_errors: int | None,
    n_rows: int,
    run: Path,
) -> Generator[EpisodeRow]:
    """Yield the rows of a run until so many of them are `error` rows.

    No row changes: the run only ends earlier, unless it has just ended by itself.

    Args:
        rows: closed at the end.
        max_errors: None: any number.
        n_rows: as many as there are to come.
        run: folder of the run.

    Raises:
        WhiskerError: there were so many `error` rows before the last one.
    """
    n_errors = 0
    with closing(rows):
        for n_seen, row in enumerate(rows, start=1):
            yield row
            n_errors += row.outcome == Outcome.ERROR
            if n_errors == max_errors and n_seen < n_rows:
                raise WhiskerError(
                    f"run {str(run)!r}",
                    expected=f"fewer than --max-errors {max_errors} crashed episodes",
                    got=f"{n_errors}, the last one by {row.error}",
                    hint=f"`eval --resume {run}` runs the {n_rows - n_seen} episodes that are "
                    "left; with --retry-errors also those that crashed.",
                )
