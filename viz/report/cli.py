"""The command `eval-report`. Heavy packages are imported inside the functions."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sim.command_line import EXIT_DONE, EXIT_REFUSED, run_command, say_progress
from sim.errors import WhiskerError
from sim.files import atomic_write
from sim.worker_count import check_n_workers
from viz.report.config import ReportConfig

if TYPE_CHECKING:
    from viz.report.content import ReportContent, RunContent

REPORT_FILE = "report.html"


def main() -> int:
    """Run `eval-report`."""
    return run_command(_report, ReportConfig, "eval-report")


def write_quick_report(run: Path) -> Path:
    """Write the report of a run into its folder, as `eval` does at its end, and return its path.

    Raises:
        WhiskerError: the run cannot be read, or the file cannot be written.
    """
    from viz.report.html_page import render_html

    output = run / REPORT_FILE
    report = _compute([run], 1, is_quick=True)
    _write(output, render_html(report))
    return output


def _report(config: ReportConfig) -> int:
    output = _choose_output(config)
    say_progress("eval-report: reading the runs ...")
    report = _compute(config.runs, config.workers, is_quick=config.quick, map_by=config.map_by)
    for sentence in report.refused:
        print(f"eval-report: {sentence}", file=sys.stderr)
    if not report.runs:
        return EXIT_REFUSED
    render = _get_renderer(output)
    _write(output, render(report))
    size_mb = output.stat().st_size / 1e6
    print(f"{output} ({size_mb:.2f} MB)")
    if config.junit:
        from viz.report.junit import render_junit

        _write(config.junit, render_junit(report))
        print(config.junit)
    return EXIT_DONE


def _choose_output(config: ReportConfig) -> Path:
    """Return the file to write.

    Raises:
        WhiskerError: no run is given, several runs are given without an output, or the output has
            another file type than .html or .md.
    """
    if len(config.map_by) > 2:
        raise WhiskerError(
            "--map-by", expected="one or two numbers", got=f"{len(config.map_by)}: {config.map_by}"
        )
    check_n_workers(config.workers)
    if not config.runs:
        raise WhiskerError(
            "eval-report", expected="a run folder", got="none", hint="Pass one or more."
        )
    if config.output is None:
        if len(config.runs) > 1:
            raise WhiskerError(
                "eval-report",
                expected="--output for several runs",
                got=f"{len(config.runs)} runs without it",
            )
        return config.runs[0] / REPORT_FILE
    if config.output.suffix not in (".html", ".md"):
        raise WhiskerError(f"--output {config.output}", expected="a file that ends in .html or .md")
    return config.output


def _get_renderer(output: Path) -> "Callable[[ReportContent], str]":
    if output.suffix == ".md":
        from viz.report.markdown import render_markdown

        return render_markdown
    from viz.report.html_page import render_html

    return render_html


def _compute(
    runs: Sequence[Path],
    workers: int | Literal["auto"],
    *,
    is_quick: bool,
    map_by: Sequence[str] = (),
) -> "ReportContent":
    """Return the content of the usable runs, and a sentence for each of the others."""
    from eval.run import Run
    from viz.report.content import ReportContent, RunContent, compute_run_content
    from viz.report.start_scalars import OBJECT_AXES

    unique_paths: dict[Path, Path] = {}
    for path in runs:
        unique_paths.setdefault(path.resolve(), path)
    contents: list[RunContent] = []
    refused: list[str] = []
    for path in unique_paths.values():
        number = len(contents) + 1
        try:
            run = Run.open(path)
            by = map_by or OBJECT_AXES[:2]
            content = compute_run_content(run, number, is_quick=is_quick, map_by=by)
        except WhiskerError as error:
            refused.append(str(error))
        else:
            contents.append(content)
    if not is_quick:
        contents = _add_film_strips(contents, workers)
    return ReportContent(tuple(contents), tuple(refused))


def _add_film_strips(
    contents: "Sequence[RunContent]", workers: int | Literal["auto"]
) -> "list[RunContent]":
    """Return the content of the runs with their film strips. A progress bar counts the episodes."""
    from rich.console import Console
    from rich.progress import Progress

    from viz.report.film_strips import DEFAULT_MAX_TOTAL_BYTES, make_film_strips

    n_failed = sum(len(content.failed) + len(content.crashed) for content in contents)
    n_bytes = DEFAULT_MAX_TOTAL_BYTES // max(1, len(contents))
    console = Console(stderr=True)
    with_strips = []
    with Progress(console=console, disable=not n_failed) as progress:
        bar = progress.add_task("film strips", total=n_failed)

        def advance() -> None:
            progress.advance(bar)

        for content in contents:
            rows = [episode.row for episode in content.episodes]
            strips = make_film_strips(content.run, rows, n_bytes, advance, workers)
            with_strips.append(replace(content, film_strips=strips))
    return with_strips


def _write(path: Path, text: str) -> None:
    try:
        with atomic_write(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WhiskerError(
            f"report {str(path)!r}",
            expected="a writable path",
            got=error.strerror or str(error),
        ) from error
