"""Command lines of `eval`, `eval-doctor` and `eval-demos`.

Heavy packages are imported inside the functions, so that `--help` and errors answer at once.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from eval.config import AUTO_ENV, DemoConfig, DoctorConfig, EvalConfig, SubjectConfig
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
    from eval.doctor.finding import Finding
    from eval.episode_row import EpisodeRow
    from eval.evaluation import Setup
    from eval.run_folder import RunFolder
    from eval.statistics import RunSummary
    from eval.until_decided import ReferenceRun

# Writes the report of a run, given its folder, and returns the file.
_WRITE_REPORT = "viz.report.cli:write_quick_report"

EXIT_WARNINGS = 1
EXIT_WITH_ERRORS = 3


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
        what = f"run {config.resume}" if config.resume else _describe_subject(config)
        say_progress(f"eval: loading {what}. The libraries take some seconds ...")
    check_gl_library()
    from eval.evaluation import set_up
    from eval.outcome import Outcome
    from eval.provenance import refuse_changed_flags
    from eval.run import Run
    from eval.statistics import summarise
    from eval.subject import (
        name_policy,
        with_absolute_paths,
        with_all_cells,
        with_demo_initial_states,
    )
    from eval.until_decided import describe_result, limit_episodes, open_reference
    from eval.worker_count import count_workers

    if config.resume is None:
        config = with_demo_initial_states(with_absolute_paths(with_all_cells(config)))
    else:
        config = refuse_changed_flags(config)
    config = name_policy(config)
    reference = open_reference(config)
    if reference is not None and config.resume is None:
        config = limit_episodes(config, reference)
    _prepare_workers(config)
    setup = set_up(config)
    n_missing = _count_missing(config, len(setup.tasks))
    count_workers(config, setup, n_missing)  # refuses too many at once
    with closing(setup.env), closing(open_run(config, setup, reference)) as run:
        try:
            roll_out(config, setup, run, reference)
        except KeyboardInterrupt:
            _say_interrupted(config, setup, run)
            return EXIT_INTERRUPTED
    rows = Run.open(run.path).rows
    summary = summarise(rows)
    _print_result(config, setup, run.path, rows, summary)
    filmed = _film(run.path, config) if config.output.video != "none" else EXIT_DONE
    write_report(run.path, is_quiet=config.output.quiet)
    if not config.output.quiet:
        _print_last_words(config, run.path, summary)
    if reference is not None:
        print(describe_result(rows, setup.policy.spec, reference))
    if filmed:
        return filmed
    return EXIT_WITH_ERRORS if summary.outcomes[Outcome.ERROR] else EXIT_DONE


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
    from eval.run import Run

    return len(Run.open(config.resume).missing)


def _say_interrupted(config: EvalConfig, setup: "Setup", run: "RunFolder") -> None:
    video = config.output.video
    flag = "" if video == "none" else f" --video {video}"
    n_episodes = len(setup.tasks) * config.episodes
    _complain(
        f"\neval: interrupted; {len(run.rows)} of {n_episodes} episodes are in {run.path}\n"
        f"Finish it: {RUN} eval --resume {shlex.quote(str(run.path))}{flag}"
    )


def _print_last_words(config: EvalConfig, folder: Path, summary: "RunSummary") -> None:
    """Print the result once more: the table has scrolled off a small terminal by now."""
    from eval.doctor.row_checks import describe_start_region
    from eval.run import Run
    from eval.tables import one_line

    run = Run.open(folder)
    said = describe_start_region(run)
    print(f"\n{said}" if said else "")
    print(f"{_describe_subject(config)}: {one_line(summary, run.rows)}")


def open_run(
    config: EvalConfig,
    setup: "Setup",
    reference: "ReferenceRun | None",
    *,
    is_begun_here: bool = False,
) -> "RunFolder":
    """Open a new run folder, or the one to resume, if the doctor does not object.

    Args:
        is_begun_here: this process began the run that it resumes. The doctor has looked at it, and
            its code is the same.
    """
    from eval.code_path import describe_other_commit
    from eval.provenance import check_same, describe
    from eval.run import Run
    from eval.run_folder import RunFolder
    from eval.until_decided import check_comparable

    problems = () if is_begun_here else _find_problems(config, setup)
    now = replace(describe(config, setup), doctor=problems)
    if reference is not None:
        check_comparable(reference, now)
    if config.resume is None:
        return RunFolder.create(config.output.run_dir, now)
    resumed = Run.open(config.resume)
    check_same(resumed, now)
    said = describe_other_commit(resumed.description.commits, now.commit or "")
    if said and not is_begun_here:
        _complain(f"eval: warning: resuming {str(config.resume)!r}: {said}")
    return RunFolder.reopen(config.resume, now.commit)


def _find_problems(config: EvalConfig, setup: "Setup") -> "tuple[Finding, ...]":
    """Run the doctor's checks, and say what they found besides what is fine.

    Raises:
        WhiskerError: it is an error, and nobody insists.
    """
    from eval.doctor.diagnosis import run_checks

    if not config.output.quiet:
        say_progress("eval: the doctor looks at the policy and the environment ...")
    findings = run_checks(config, setup)
    _refuse_errors(config, findings)
    return tuple(finding for finding in findings if finding.is_problem)


def _refuse_errors(config: EvalConfig, findings: "Sequence[Finding]") -> None:
    """Say what the doctor found.

    Raises:
        WhiskerError: it is an error, and nobody insists.
    """
    from eval.doctor.finding import Level

    for finding in findings:
        if finding.is_problem:
            _complain(f"eval: {finding.level}: {finding}")
    errors = [finding for finding in findings if finding.level is Level.ERROR]
    if errors and config.doctor:
        raise WhiskerError(
            f"policy {config.policy.name!r} in {config.env.name!r}",
            expected="a set-up in which the doctor finds no error",
            got=f"{len(errors)} error{'s' * (len(errors) > 1)}, printed above",
            hint=f"`eval-doctor --policy {config.policy.name}` with the same flags shows all; "
            "--no-doctor runs it anyway.",
        )


def _examine(config: DoctorConfig) -> int:
    if config.run:
        what = f"run {config.run}"
    elif config.is_about_env_alone:
        what = config.env.name
    else:
        what = _describe_subject(config)
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


def _print_result(
    config: EvalConfig,
    setup: "Setup",
    run: Path,
    rows: "Sequence[EpisodeRow]",
    summary: "RunSummary",
) -> None:
    from eval.run_description import describe_noise
    from eval.tables import one_line, print_summary

    if config.output.quiet:
        print(f"{one_line(summary, rows)}  {run}")
        return
    last_episode = max((row.episode_index for row in rows), default=config.first_episode)
    of_each = f" of each of {len(setup.tasks)} tasks" if len(setup.tasks) > 1 else ""
    episodes = f"episodes {config.first_episode} to {last_episode}{of_each}"
    title = f"{_describe_subject(config)}, {episodes}"
    remark = describe_noise(setup.policy.spec)
    print_summary(Console(), title, summary, rows, setup.tasks, remark)
    print(f"\nRun folder: {run}")
    folder = shlex.quote(str(run))
    print(f"See what the policy meant to do: {RUN} whiskers {folder}")
    if config.recording.collect_features:
        print(f"Does its embedding know the robot's state: {RUN} cknna score {folder}")
    if summary.n_success < len(rows) and config.output.video == "none":
        print(f"Film the failures: {RUN} eval --resume {folder} --video failures")
    elif config.output.video != "none":
        print(f"Videos: {run / 'videos'}")
    if not setup.policy.spec.is_baseline:
        baseline = f"--policy random --env {config.env.name} --episodes {config.episodes}"
        print(f"Lower bound to compare with: {RUN} eval {baseline}")


def _describe_subject(config: SubjectConfig) -> str:
    """Return which policy in which environment, as far as the user said."""
    name = config.policy.name
    checkpoint = config.policy.checkpoint or config.policy.server
    named = f"{name} ({checkpoint})" if name and checkpoint else name or checkpoint or "act"
    where = "" if config.env.name == AUTO_ENV else f" in {config.env.name}"
    return named + where


def _complain(message: str) -> None:
    print(message, file=sys.stderr)


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
        _complain(f"eval: warning: the report of {str(run)!r} could not be written: {reason}")
        return
    if not is_quiet:
        print(f"Report: {path}")


def _record_demos(config: DemoConfig) -> int:
    from eval.demos import check_demo_counts, record, resolve_output

    check_demo_counts(config)
    config = replace(config, output=resolve_output(config))
    try:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("demonstrations", total=config.episodes)
            n_kept = record(config, lambda n_kept, _: progress.update(task, completed=n_kept))
    except KeyboardInterrupt:
        _complain(f"\neval-demos: interrupted; remove the unfinished {config.output}")
        return EXIT_INTERRUPTED
    print(f"{n_kept} demonstrations in {config.output}")
    return EXIT_DONE
