"""The command `eval-sweep`. Heavy packages are imported inside the functions."""

import shlex
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from eval.cli import roll_out
from eval.config import EvalConfig
from eval.sweep_arguments import parse_points, split_arguments
from eval.sweep_config import SweepConfig
from sim.command_line import EXIT_DONE, EXIT_INTERRUPTED, run_command, say_progress
from sim.command_words import RUN, write_command
from sim.errors import WhiskerError
from sim.gl import check_gl_library

if TYPE_CHECKING:
    from eval.evaluation import Setup
    from eval.sweep import Sweep

# Writes the curve of a sweep, given its folder, and returns the file.
_WRITE_PAGE = "viz.report.sweep_page:write_sweep_page"


def main() -> int:
    """Entry point of `eval-sweep`."""
    own, of_eval = split_arguments(sys.argv[1:])
    return run_command(partial(_sweep, of_eval), SweepConfig, "eval-sweep", arguments=own)


@dataclass
class _Sweeping:
    """A sweep in the making.

    Attributes:
        failed: index of a point → why it could not run.
    """

    folder: Path
    sweep: "Sweep"
    failed: dict[int, str] = field(default_factory=dict)
    _opened: ExitStack = field(default_factory=ExitStack)
    _kept: "tuple[EvalConfig, Setup] | None" = None
    # Points whose runs this process has opened. Racing comes back to each of them.
    _begun_here: set[int] = field(default_factory=set)

    def run_point(self, index: int, n_episodes: int | None = None) -> None:
        """Run the episodes that a point does not have yet; note why if it cannot run.

        Args:
            n_episodes: how many of each task. Default: all.
        """
        config = self.sweep.points[index]
        begun = self.sweep.find_runs(self.folder).get(index)
        if begun is not None and not begun.missing:
            return
        from eval.run_opening import open_run

        output = replace(config.output, run_dir=self.folder)
        config = replace(
            config,
            output=output,
            resume=begun.path if begun else None,
        )
        try:
            setup = self._set_up(config)
            is_begun_here = index in self._begun_here
            with closing(open_run(config, setup, None, is_begun_here=is_begun_here)) as run:
                self._begun_here.add(index)
                name = f"{self.sweep.flag.replace('_', ' ')} {self.sweep.labels[index]}"
                roll_out(config, setup, run, None, n_episodes, name)
        except WhiskerError as error:
            self.failed[index] = str(error)
            print(
                f"eval-sweep: {self.sweep.labels[index]}: {error}",
                file=sys.stderr,
            )

    def close(self) -> None:
        self._opened.close()
        self._kept = None

    def _set_up(self, config: EvalConfig) -> "Setup":
        """Return a setup: the last one, if the points differ only in how an episode is run."""
        from eval.evaluation import reuse_setup, set_up

        if self._kept is not None:
            kept_config, kept = self._kept
            if (
                replace(config, rollout=kept_config.rollout, resume=kept_config.resume)
                == kept_config
            ):
                return reuse_setup(kept, config)
        self.close()
        setup = set_up(config)
        self._opened.enter_context(closing(setup.env))
        if len(setup.tasks) == 1:  # a run of several tasks closes the first environment
            self._kept = config, setup
        return setup


def _sweep(of_eval: list[list[str]], config: SweepConfig) -> int:
    check_gl_library()
    if config.resume is None:
        from eval.sweep import list_checkpoints

        checkpoints = list_checkpoints(config.checkpoints) if config.checkpoints else []
        flag, points = parse_points(of_eval, checkpoints)
        say_progress(f"eval-sweep: {len(points)} points. The libraries take some seconds ...")
        sweeping = _begin(flag, points, config)
    else:
        if of_eval or config.checkpoints or config.best_by:
            raise WhiskerError(
                "eval-sweep --resume",
                expected="no other flag, since all are taken from the sweep",
                got=" ".join([*(word for group in of_eval for word in group), *config.checkpoints])
                or f"--best-by {config.best_by}",
            )
        from eval.sweep import load_sweep

        sweeping = _Sweeping(config.resume, load_sweep(config.resume))
    try:
        _run_points(sweeping)
    except KeyboardInterrupt:
        resume = write_command("eval-sweep", "--resume", sweeping.folder)
        print(f"\neval-sweep: interrupted.\nFinish it: {resume}", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        sweeping.close()
    return _print_result(sweeping)


def _begin(flag: str, points: list[EvalConfig], config: SweepConfig) -> _Sweeping:
    """Make the folder of a new sweep."""
    from eval.subject import (
        name_policy,
        with_absolute_paths,
        with_all_cells,
        with_demo_initial_states,
    )
    from eval.sweep import Sweep, make_sweep_folder

    definite = []
    for point in points:
        try:
            absolute = with_demo_initial_states(with_absolute_paths(with_all_cells(point)))
            definite.append(name_policy(absolute))
        except WhiskerError:
            definite.append(point)  # it is said when its turn comes, and the others go on
    sweep = Sweep(flag, tuple(definite), config.best_by)
    return _Sweeping(
        make_sweep_folder(sweep, points[0].output.run_dir),
        sweep,
    )


def _run_points(sweeping: _Sweeping) -> None:
    points = range(len(sweeping.sweep.points))
    if sweeping.sweep.best_by is None:
        for index in points:
            sweeping.run_point(index)
        return
    from eval.racing import N_IN_A_ROUND, find_beaten
    from eval.run_description import save_decision

    n_episodes = sweeping.sweep.points[0].episodes
    for n_so_far in range(N_IN_A_ROUND, n_episodes + N_IN_A_ROUND, N_IN_A_ROUND):
        for index in points:
            if index not in sweeping.failed:
                sweeping.run_point(index, min(n_so_far, n_episodes))
        running = {
            index: run
            for index, run in sweeping.sweep.find_runs(sweeping.folder).items()
            if run.description.decision is None and index not in sweeping.failed
        }
        for index, decision in find_beaten(running, len(points)).items():
            save_decision(running[index].path, decision)
            print(
                f"eval-sweep: {sweeping.sweep.labels[index]} is left out after "
                f"{decision.n_shared} episodes: {Path(decision.against).name} is better.",
                file=sys.stderr,
            )


def _print_result(sweeping: _Sweeping) -> int:
    from rich.console import Console

    from eval.run_output import EXIT_WITH_ERRORS, write_report
    from eval.sweep_result import describe_sweep, make_sweep_table, read_points

    points = read_points(sweeping.folder, sweeping.sweep)
    if not points:
        raise WhiskerError("eval-sweep", expected="a point that can run", got="none")
    Console().print(make_sweep_table(sweeping.sweep, points))
    for sentence in describe_sweep(sweeping.sweep, points):
        print(sentence)
    folder = shlex.quote(str(sweeping.folder))
    print(f"\nSweep folder: {sweeping.folder}")
    print(f"Compare its runs: {RUN} eval-compare {folder}")
    for point in points.values():
        write_report(point.run.path, is_quiet=True)
    page = resolve_name(_WRITE_PAGE)(sweeping.folder)
    print(f"Curve: {page}")
    has_errors = any(point.n_crashed for point in points.values())
    return EXIT_WITH_ERRORS if sweeping.failed or has_errors else EXIT_DONE
