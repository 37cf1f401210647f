"""Prints what came out of a run, and writes its report and its films."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name

from rich.console import Console

from eval.config import EvalConfig
from eval.doctor.row_checks import describe_start_region
from eval.episode_row import EpisodeRow
from eval.evaluation import Setup
from eval.outcome import Outcome
from eval.run import Run
from eval.run_description import describe_noise
from eval.statistics import RunSummary, summarise
from eval.tables import one_line, print_summary
from eval.until_decided import ReferenceRun, describe_result
from sim.command_line import EXIT_DONE, EXIT_INTERRUPTED, EXIT_REFUSED
from sim.command_words import RUN

# Writes the report of a run, given its folder, and returns the file.
_WRITE_REPORT = "viz.report.cli:write_quick_report"

EXIT_WITH_ERRORS = 3


def present_run(
    config: EvalConfig,
    setup: Setup,
    folder: Path,
    reference: ReferenceRun | None,
) -> int:
    """Print the result of a run, film its episodes and write its report. Return the exit code."""
    rows = Run.open(folder).rows
    summary = summarise(rows)
    _print_result(config, setup, folder, rows, summary)
    filmed = _film(folder, config) if config.output.video != "none" else EXIT_DONE
    write_report(folder, is_quiet=config.output.quiet)
    if not config.output.quiet:
        _print_last_words(config, folder, summary)
    if reference is not None:
        print(describe_result(rows, setup.policy.spec, reference))
    if filmed:
        return filmed
    return EXIT_WITH_ERRORS if summary.outcomes[Outcome.ERROR] else EXIT_DONE


def _print_result(
    config: EvalConfig,
    setup: Setup,
    run: Path,
    rows: Sequence[EpisodeRow],
    summary: RunSummary,
) -> None:
    if config.output.quiet:
        print(f"{one_line(summary, rows)}  {run}")
        return
    last_episode = max((row.episode_index for row in rows), default=config.first_episode)
    of_each = f" of each of {len(setup.tasks)} tasks" if len(setup.tasks) > 1 else ""
    episodes = f"episodes {config.first_episode} to {last_episode}{of_each}"
    title = f"{config.describe()}, {episodes}"
    remark = describe_noise(setup.policy.spec)
    print_summary(Console(), title, summary, rows, setup.tasks, remark)
    print(f"\nRun folder: {run}")
    folder = shlex.quote(str(run))
    print(f"See what the policy meant to do: {RUN} whiskers {folder}")
    if config.recording.collect_features:
        print(f"Does its embedding know the robot's state: {RUN} cknna score {folder}")
    if summary.outcomes[Outcome.ERROR]:
        print(f"Run the crashed episodes again: {RUN} eval --resume {folder} --retry-errors")
    if summary.n_success < len(rows) and config.output.video == "none":
        print(f"Film the failures: {RUN} eval --resume {folder} --video failures")
    elif config.output.video != "none":
        print(f"Videos: {run / 'videos'}")
    if not setup.policy.spec.is_baseline:
        baseline = f"--policy random --env {config.env.name} --episodes {config.episodes}"
        print(f"Lower bound to compare with: {RUN} eval {baseline}")


def _print_last_words(config: EvalConfig, folder: Path, summary: RunSummary) -> None:
    """Print the result once more: the table has scrolled off a small terminal by now."""
    run = Run.open(folder)
    said = describe_start_region(run)
    print(f"\n{said}" if said else "")
    print(f"{config.describe()}: {one_line(summary, run.rows)}")


def _film(run: Path, config: EvalConfig) -> int:
    """Film the run in a process of its own, since `viz` imports this package."""
    command = [sys.executable, "-m", "viz.video", str(run), "--which", config.output.video]
    if config.parallel.ray is None:
        command += ["--workers", str(config.parallel.workers)]
    if config.output.quiet:
        command.append("--quiet")
    try:
        filmed = subprocess.run(command).returncode
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return filmed if filmed in (EXIT_DONE, EXIT_INTERRUPTED) else EXIT_REFUSED


def write_report(run: Path, *, is_quiet: bool) -> None:
    """Write the report of the run. It is found by its name, since `viz` imports this package.

    It is written in this process, where the libraries that it needs are loaded. A run does not fail
    with its report.
    """
    try:
        path = resolve_name(_WRITE_REPORT)(run)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        _warn(f"eval: warning: the report of {str(run)!r} could not be written: {reason}")
        return
    if not is_quiet:
        print(f"Report: {path}")


def _warn(message: str) -> None:
    print(message, file=sys.stderr)
