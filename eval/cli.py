"""Command lines of `eval`, `eval-doctor` and `eval-demos`.

Heavy packages are imported inside the functions, so that `--help` and errors answer at once.
"""

import shlex
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from eval.config import DemoConfig, DoctorConfig, EvalConfig
from eval.lerobot_flags import refuse_lerobot_flags
from policies.registry import resolve_policy_name
from sim.command_line import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    run_command,
    say_progress,
)
from sim.command_words import RUN
from sim.errors import WhiskerError
from sim.gl import check_gl_library

if TYPE_CHECKING:
    from eval.evaluation import Setup
    from eval.run_folder import RunFolder
    from eval.until_decided import ReferenceRun

EXIT_WARNINGS = 1


def main() -> int:
    """Entry point of `eval`."""
    return run_command(_evaluate, EvalConfig, "eval", refuse_lerobot_flags, _find_resumed_config)


def main_doctor() -> int:
    """Entry point of `eval-doctor`."""
    return run_command(_examine, DoctorConfig, "eval-doctor", refuse_lerobot_flags)


def main_demos() -> int:
    """Entry point of `eval-demos`."""
    return run_command(_record_demos, DemoConfig, "eval-demos")


def _find_resumed_config(config: EvalConfig) -> EvalConfig | None:
    """Return the config of the run to resume, which flags that are not typed are taken from."""
    if config.resume is None:
        return None
    from eval.run import Run

    return replace(Run.open(config.resume).description.config, resume=config.resume)


def _evaluate(config: EvalConfig) -> int:
    if config.list_envs is not None:
        from eval.env_list import print_env_list

        print_env_list(Console(), config.list_envs)
        return EXIT_DONE
    if config.policy.name is not None:
        resolve_policy_name(config.policy.name)  # before anything is imported
    if not config.output.quiet:
        what = f"run {config.resume}" if config.resume else config.describe()
        say_progress(f"eval: loading {what}. The libraries take some seconds ...")
    check_gl_library()
    from eval.evaluation import set_up
    from eval.worker_count import count_workers

    config, reference = _complete(config)
    _prepare_workers(config)
    setup = set_up(config)
    n_missing = _count_missing(config, len(setup.tasks))
    count_workers(config, setup, n_missing)  # refuses too many at once
    from eval.run_opening import open_run

    with closing(setup.env), closing(open_run(config, setup, reference)) as run:
        try:
            roll_out(config, setup, run, reference)
        except KeyboardInterrupt:
            _say_interrupted(config, setup, run)
            return EXIT_INTERRUPTED
    from eval.run_output import present_run

    return present_run(config, setup, run.path, reference)


def _complete(config: EvalConfig) -> "tuple[EvalConfig, ReferenceRun | None]":
    """Return the config with all that follows from its flags, and the run to compare with."""
    from eval.crashed_rows import check_retry
    from eval.provenance import refuse_changed_flags
    from eval.subject import (
        name_policy,
        with_absolute_paths,
        with_all_cells,
        with_demo_initial_states,
    )
    from eval.until_decided import limit_episodes, open_reference

    if config.retry_errors:
        check_retry(config.resume)
    if config.resume is None:
        config = with_demo_initial_states(with_absolute_paths(with_all_cells(config)))
    else:
        config = refuse_changed_flags(config)
    config = name_policy(config)
    reference = open_reference(config)
    if reference is not None and config.resume is None:
        config = limit_episodes(config, reference)
    return config, reference


def _prepare_workers(config: EvalConfig) -> None:
    """Start what takes long, or refuse the cluster, before policy and environment are made."""
    if config.parallel.ray is not None:
        if config.batch > 1:
            raise WhiskerError(
                f"--batch {config.batch} with --ray",
                expected="one of the two",
                got="both",
                hint="A worker of a cluster plans for one episode at a time.",
            )
        from eval.ray_cluster import connect

        connect(config.parallel.ray)
        return
    from eval.worker_count import may_use_workers

    if may_use_workers(config, _count_missing(config)):
        from eval.worker_process import prepare_workers

        prepare_workers(config)


def _count_missing(config: EvalConfig, n_tasks: int = 1) -> int:
    """Return the number of episodes to come, of one task if their number is not known yet."""
    if config.resume is None:
        return config.episodes * n_tasks
    from eval.crashed_rows import is_crashed
    from eval.run import Run

    run = Run.open(config.resume)
    n_again = sum(map(is_crashed, run.rows)) if config.retry_errors else 0
    return len(run.missing) + n_again


def _say_interrupted(config: EvalConfig, setup: "Setup", run: "RunFolder") -> None:
    video = config.output.video
    flag = "" if video == "none" else f" --video {video}"
    n_episodes = len(setup.tasks) * config.episodes
    print(
        f"\neval: interrupted; {len(run.rows)} of {n_episodes} episodes are in {run.path}\n"
        f"Finish it: {RUN} eval --resume {shlex.quote(str(run.path))}{flag}",
        file=sys.stderr,
    )


def _examine(config: DoctorConfig) -> int:
    if config.run:
        what = f"run {config.run}"
    elif config.is_about_env_alone:
        what = config.env.name
    else:
        what = config.describe()
    say_progress(f"eval-doctor: loading {what}. The libraries take some seconds ...")
    if config.run is None:
        check_gl_library()
    from eval.doctor.diagnosis import diagnose
    from eval.doctor.finding import Level
    from eval.doctor.findings_output import print_findings, to_json, worst_level

    title, findings = diagnose(config)
    if config.json:
        print(to_json(findings))
    else:
        print_findings(Console(), title, findings, shows_all=config.all)
    codes = {Level.OK: EXIT_DONE, Level.WARNING: EXIT_WARNINGS, Level.ERROR: EXIT_REFUSED}
    return codes[worst_level(findings)]


def roll_out(
    config: EvalConfig,
    setup: "Setup",
    run: "RunFolder",
    reference: "ReferenceRun | None" = None,
    n_episodes: int | None = None,
    name: str = "episodes",
) -> None:
    """Evaluate under a progress bar that carries the running success rate, and the evidence.

    Args:
        n_episodes: how many of each task. Default: as many as the config says.
        name: name of the bar.
    """
    from eval.episode_loop import evaluate, schedule_missing
    from eval.error_limit import end_after_errors
    from eval.progress import EvaluationProgress
    from eval.until_decided import Evidence, evaluate_until_decided

    schedule = schedule_missing(config, setup, run, n_episodes)
    if reference is None:
        episodes = evaluate(config, setup, run, schedule)
    else:
        episodes = evaluate_until_decided(config, setup, run, schedule, reference)
    episodes = end_after_errors(episodes, config.max_errors, len(schedule.episodes), run.path)
    progress = EvaluationProgress(
        name,
        schedule,
        run.rows,
        n_in_all=len(setup.tasks) * (n_episodes or config.episodes),
        is_quiet=config.output.quiet,
    )
    evidence = Evidence(reference, run.rows) if reference is not None else None
    with progress:
        for row in episodes:
            remark = ""
            if evidence is not None:
                evidence.add(row)
                remark = str(evidence)
            progress.add(row, remark)


def _record_demos(config: DemoConfig) -> int:
    from eval.demos import check_demo_counts, record, resolve_output

    check_demo_counts(config)
    config = replace(config, output=resolve_output(config))
    try:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("demonstrations", total=config.episodes)
            n_kept = record(config, lambda n_kept, _: progress.update(task, completed=n_kept))
    except KeyboardInterrupt:
        said = f"\neval-demos: interrupted; remove the unfinished {config.output}"
        print(said, file=sys.stderr)
        return EXIT_INTERRUPTED
    print(f"{n_kept} demonstrations in {config.output}")
    return EXIT_DONE
