"""Opens the run folder of an evaluation, if the doctor does not object."""

import sys
from collections.abc import Sequence
from dataclasses import replace

from eval.code_path import describe_other_commit
from eval.config import EvalConfig
from eval.doctor.diagnosis import run_checks
from eval.doctor.finding import Finding, Level
from eval.evaluation import Setup
from eval.provenance import check_same, describe
from eval.run import Run
from eval.run_folder import RunFolder
from eval.until_decided import ReferenceRun, check_comparable
from sim.command_line import say_progress
from sim.errors import WhiskerError


def open_run(
    config: EvalConfig,
    setup: Setup,
    reference: ReferenceRun | None,
    *,
    is_begun_here: bool = False,
) -> RunFolder:
    """Open a new run folder, or the one to resume, if the doctor does not object.

    Args:
        is_begun_here: this process began the run that it resumes. The doctor has looked at it, and
            its code is the same.
    """
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
        _warn(f"eval: warning: resuming {str(config.resume)!r}: {said}")
    return RunFolder.reopen(config.resume, now.commit, retries_errors=config.retry_errors)


def _find_problems(config: EvalConfig, setup: Setup) -> tuple[Finding, ...]:
    """Run the doctor's checks, and say what they found besides what is fine.

    Raises:
        WhiskerError: it is an error, and nobody insists.
    """
    if not config.output.quiet:
        say_progress("eval: the doctor looks at the policy and the environment ...")
    findings = run_checks(config, setup)
    _refuse_errors(config, findings)
    return tuple(finding for finding in findings if finding.is_problem)


def _refuse_errors(config: EvalConfig, findings: Sequence[Finding]) -> None:
    """Say what the doctor found.

    Raises:
        WhiskerError: it is an error, and nobody insists.
    """
    for finding in findings:
        if finding.is_problem:
            _warn(f"eval: {finding.level}: {finding}")
    errors = [finding for finding in findings if finding.level is Level.ERROR]
    if errors and config.doctor:
        raise WhiskerError(
            f"policy {config.policy.name!r} in {config.env.name!r}",
            expected="a set-up in which the doctor finds no error",
            got=f"{len(errors)} error{'s' * (len(errors) > 1)}, printed above",
            hint=f"`eval-doctor --policy {config.policy.name}` with the same flags shows all; "
            "--no-doctor runs it anyway.",
        )


def _warn(message: str) -> None:
    print(message, file=sys.stderr)
