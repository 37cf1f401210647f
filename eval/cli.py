"""The commands. Heavy packages are imported inside the functions: `--help` and errors answer at once."""

import inspect
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eval.config import DemoConfig, EvalConfig
from sim.errors import WhiskerError

if TYPE_CHECKING:
    from eval.evaluation import Setup
    from eval.run_folder import RunFolder

EXIT_DONE, EXIT_REFUSED, EXIT_WITH_ERRORS, EXIT_INTERRUPTED = 0, 2, 3, 130


def main() -> int:
    """Entry point of `eval`."""
    return _run(_evaluate, EvalConfig, "eval")


def main_demos() -> int:
    """Entry point of `eval-demos`."""
    return _run(_record_demos, DemoConfig, "eval-demos")


def _evaluate(config: EvalConfig) -> int:
    from eval.evaluation import check_same, describe, load_resumed_config, set_up
    from eval.outcome import Outcome
    from eval.run_folder import RunFolder
    from eval.statistics import summarise
    from eval.tables import one_line, print_summary

    if config.resume is not None:
        config = load_resumed_config(config)
    setup = set_up(config)
    if config.resume is not None:
        check_same(config.resume, setup)
        run = RunFolder.reopen(config.resume)
    else:
        run = RunFolder.create(config.run_dir, config.policy, config.env, describe(config, setup))
    try:
        _roll_out(config, setup, run)
    except KeyboardInterrupt:
        print(
            f"\neval: interrupted; {len(run.rows)} of {config.episodes} episodes are in {run.path}\n"
            f"Finish it: eval --resume {shlex.quote(str(run.path))}",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    finally:
        run.close()
        setup.env.close()
    filmed = _film(run.path, config) if config.video != "none" else EXIT_DONE
    summary = summarise(run.rows)
    if config.quiet:
        print(f"{one_line(summary)}  {run.path}")
    else:
        title = f"{config.policy} in {config.env}, episodes {config.first_episode}.."
        title += str(config.first_episode + config.episodes - 1)
        print_summary(Console(), title, summary, run.rows)
        _print_next_steps(run.path, config, n_failed=len(run.rows) - summary.n_success)
    return EXIT_WITH_ERRORS if summary.outcomes[Outcome.ERROR] else filmed


def _roll_out(config: EvalConfig, setup: "Setup", run: "RunFolder") -> None:
    """Evaluate under a progress bar that carries the running success rate."""
    from eval.evaluation import evaluate

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[bold]{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=config.quiet) as progress:
        bar = progress.add_task("episodes", total=config.episodes, completed=len(run.rows), rate="")
        for _ in evaluate(config, setup, run):
            n_success = sum(row.success for row in run.rows)
            n_judged = sum(not row.error for row in run.rows)
            rate = f"{n_success / n_judged:.0%} success" if n_judged else ""
            progress.update(bar, completed=len(run.rows), rate=rate)


def _film(run: Path, config: EvalConfig) -> int:
    """Videos are made by the room to the right of this one, in a process of its own, from the run folder."""
    command = [sys.executable, "-m", "viz.video", str(run), "--which", config.video]
    return subprocess.run([*command, "--quiet"] if config.quiet else command).returncode


def _print_next_steps(run: Path, config: EvalConfig, n_failed: int) -> None:
    print(f"\nRun folder: {run}")
    if n_failed and config.video == "none":
        print(f"Film the failures: eval --resume {shlex.quote(str(run))} --video failures")
    elif config.video != "none":
        print(f"Videos: {run / 'videos'}")
    if config.policy not in ("zero", "random", "scripted"):
        print(f"Floor to compare with: eval --policy random --env {config.env} --episodes {config.episodes}")


def _record_demos(config: DemoConfig) -> int:
    from datasets.utils.logging import disable_progress_bar

    from eval.demos import record_demonstrations
    from policies.lerobot_dataset import DemonstrationWriter
    from sim.registry import make_env

    disable_progress_bar()
    env = make_env(config.env)
    writer = DemonstrationWriter(config.output, env.spec, config.videos)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("demonstrations", total=config.episodes)
        record_demonstrations(config, env, writer, lambda n_kept, _: progress.update(task, completed=n_kept))
    env.close()
    print(f"{config.episodes} demonstrations in {config.output}")
    return EXIT_DONE


def _run[Config](command: Callable[[Config], int], config_type: type[Config], name: str) -> int:
    description = inspect.cleandoc(config_type.__doc__ or "").partition("Attributes:")[0]
    config = tyro.cli(config_type, prog=name, description=description)
    try:
        return command(config)
    except WhiskerError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
