"""Takes the rows of crashed episodes out of a run, so that they run again.

The rows stay in `errors.jsonl`. The others stay as they were written, byte for byte.
"""

from dataclasses import replace
from pathlib import Path

from eval.episode_row import ROWS_FILE, EpisodeRow, load_rows
from eval.outcome import Outcome
from eval.rows_file import append_row, open_rows
from eval.run_description import load_description, save_resumptions
from sim.errors import WhiskerError
from sim.files import atomic_write

ERRORS_FILE = "errors.jsonl"


def check_retry(run: Path | None) -> None:
    """Raise unless `--retry-errors` can be done.

    Args:
        run: folder of the run to resume; None for a new one.

    Raises:
        WhiskerError: the run is a new one, or is over.
    """
    if run is None:
        raise WhiskerError(
            "--retry-errors",
            expected="--resume RUN, the run whose crashed episodes run again",
            got="a new run",
        )
    if load_description(run).decision is not None:
        raise WhiskerError(
            f"--retry-errors of run {str(run)!r}",
            expected="a run that may have more rows",
            got="one that ended when its comparison was decided",
            hint="Start a new run.",
        )


def is_crashed(row: EpisodeRow) -> bool:
    """Return whether the environment or the policy crashed in an episode."""
    return row.outcome == Outcome.ERROR


def set_aside_crashed(run: Path) -> None:
    """Move the rows of crashed episodes to `errors.jsonl`.

    The caller has locked `episodes.jsonl`, which is replaced by another file. It is complete at any
    moment: whoever is killed here loses no row of an episode that ran to its end.

    Args:
        run: its folder.

    Raises:
        WhiskerError: a line is damaged.
        OSError: a file cannot be written.
    """
    file = run / ROWS_FILE
    rows = load_rows(run)
    is_kept = [not is_crashed(row) for row in rows]
    if all(is_kept):
        return
    with open_rows(run / ERRORS_FILE) as errors:
        for row in filter(is_crashed, rows):
            append_row(errors, row.to_json())
    lines = file.read_bytes().splitlines(keepends=True)
    kept = [line for line, is_this_kept in zip(lines, is_kept, strict=True) if is_this_kept]
    with atomic_write(file, sync=True) as unfinished:
        unfinished.write_bytes(b"".join(kept))
    # They say how many rows there were before each went on.
    resumed = []
    for resumption in load_description(run).resumed:
        n_rows_before = sum(is_kept[: resumption.n_rows_before])
        resumed.append(replace(resumption, n_rows_before=n_rows_before))
    save_resumptions(run, resumed)
