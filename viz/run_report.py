"""Finds and reads the report in a run folder."""

from pathlib import Path

from sim.errors import WhiskerError
from viz.report.cli import REPORT_FILE
from viz.report.wording import format_command


def has_report(run: Path) -> bool:
    """Return whether the run folder has a report."""
    return (run / REPORT_FILE).is_file()


def read_report(run: Path) -> bytes:
    """Return the report of a run, an HTML page.

    Raises:
        WhiskerError: the run has no report.
    """
    path = run / REPORT_FILE
    try:
        return path.read_bytes()
    except OSError as error:
        raise WhiskerError(
            f"report {str(path)!r}",
            expected="a page that `eval` or `eval-report` wrote",
            got=error.strerror or str(error),
            hint=report_command(run),
        ) from error


def report_command(run: Path) -> str:
    """Return the command that writes the report of a run."""
    return format_command("eval-report", run)
