"""The doctor's visit: every check, in order."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, fields

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from eval.config import DoctorConfig, SubjectConfig
from eval.doctor.agreement import check_agreement
from eval.doctor.behaviour import (
    check_plan_range,
    check_reachability,
    check_reset,
    check_sensitivity,
)
from eval.doctor.camera_checks import check_cameras
from eval.doctor.check_context import CheckContext
from eval.doctor.checkpoint_checks import (
    check_normalised_observation,
    check_origin,
    check_plan_is_finite,
    check_statistics,
    check_weights,
)
from eval.doctor.contract import (
    check_action_range,
    check_names,
    check_state,
    check_training_env,
)
from eval.doctor.denoising import check_denoising
from eval.doctor.env_contract import examine_env
from eval.doctor.finding import Finding, Level, describe_failed_check
from eval.doctor.image_sizes import check_image_sizes
from eval.doctor.picture_checks import check_pictures
from eval.doctor.scene_checks import check_expert, check_rest, check_start
from eval.doctor.surroundings import (
    check_action_steps,
    check_console,
    check_disk,
    check_gl,
    check_horizon,
)
from eval.doctor.word_checks import check_vocabulary, check_words
from eval.evaluation import Setup, set_up
from eval.run import Run
from eval.subject import add_to_camera_map, name_policy
from policies.checkpoint_files import load_training_env
from policies.normalisation import load_normalisation
from policies.policy import NetworkPolicy
from sim.errors import WhiskerError

type Check = Callable[[CheckContext], Iterator[Finding]]

_OF_EVERY_POLICY: tuple[Check, ...] = (
    check_gl,
    check_disk,
    check_console,
    check_start,
    check_rest,
    check_reset,
)
# Not of floors and ceilings, which do as they are meant to.
_OF_A_POLICY: tuple[Check, ...] = (
    check_origin,
    check_weights,
    check_statistics,
    check_training_env,
    check_names,
    check_expert,
    check_horizon,
    check_action_steps,
    check_state,
    check_action_range,
    check_cameras,
    check_image_sizes,
    check_pictures,
    check_normalised_observation,
    check_words,
    check_vocabulary,
    check_plan_is_finite,
    check_denoising,
    check_sensitivity,
    check_plan_range,
    check_reachability,
    check_agreement,
)
# These read the files of a lerobot checkpoint.
_OF_FILES: set[Check] = {
    check_origin,
    check_statistics,
    check_training_env,
    check_names,
    check_image_sizes,
    check_normalised_observation,
}
# These look into a network.
_OF_A_NETWORK: set[Check] = {
    check_weights,
    check_normalised_observation,
    check_words,
    check_vocabulary,
}
# These compare or execute plans: of numbers that are none they would say nothing, or that all is
# fine.
_OF_A_FINITE_PLAN = {
    check_reset,
    check_denoising,
    check_sensitivity,
    check_plan_range,
    check_reachability,
    check_agreement,
}


def examine(config: SubjectConfig, setup: Setup) -> list[Finding]:
    """Everything that can be told before a rollout, worst first.

    Raises:
        WhiskerError: the policy cannot plan here at all.
    """
    config = add_to_camera_map(config, dict(setup.renamed_cameras))
    if setup.checkpoint is None:
        context, left_out = CheckContext(config, setup), _OF_FILES.copy()
    else:
        folder = setup.checkpoint.folder
        context, left_out = (
            CheckContext(config, setup, load_normalisation(folder), load_training_env(folder)),
            set[Check](),
        )
    if setup.policy.spec.is_baseline:
        left_out.update(_OF_A_POLICY)
    if not isinstance(getattr(setup.policy, "inner", setup.policy), NetworkPolicy):
        left_out |= _OF_A_NETWORK
    context.rehearse()
    if not np.isfinite(context.first_plan).all():
        left_out |= _OF_A_FINITE_PLAN
    checks = (check for check in _OF_EVERY_POLICY + _OF_A_POLICY if check not in left_out)
    return sort_findings(finding for check in checks for finding in _make(check, context))


def _make(check: Check, context: CheckContext) -> Iterator[Finding]:
    """Make one check.

    If it raises, that is a finding: the evaluation and the other checks go on without it.
    """
    try:
        yield from check(context)
    except Exception as error:
        yield describe_failed_check(check.__name__, error)


def diagnose(config: DoctorConfig) -> tuple[str, list[Finding]]:
    """Return what `eval-doctor` prints: a title, and the findings.

    They are of a policy before a run, with a run folder of what happened too, and without a policy
    of the environment.
    """
    if config.is_about_env_alone:
        return f"environment {config.env.name}", sort_findings(examine_env(config))
    if config.run is None:
        asked: SubjectConfig = name_policy(config)
        return _title(asked), _examine_alone(asked)
    from eval.doctor.run_checks import check_run  # takes a second to import

    run = Run.open(config.run)
    stored = {
        field.name: getattr(run.description.config, field.name) for field in fields(SubjectConfig)
    }
    subject = name_policy(SubjectConfig(**stored))
    findings = check_run(run)
    try:
        findings += _examine_alone(subject)
    except WhiskerError as error:
        hint = "What follows is from the run folder alone."
        findings.append(
            Finding("checkpoint", Level.WARNING, "cannot be looked at any more", str(error), hint)
        )
    return f"{_title(subject)}, run {config.run}", sort_findings(findings)


def _examine_alone(config: SubjectConfig) -> list[Finding]:
    setup = set_up(config)
    with closing(setup.env):
        return examine(config, setup)


def _title(config: SubjectConfig) -> str:
    named = config.policy
    checkpoint = f" ({named.checkpoint})" if named.checkpoint else ""
    return f"{named.name}{checkpoint} in {config.env.name}"


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first; a check that found something does not also say that it is fine."""
    found = list(findings)
    ill = {finding.check for finding in found if finding.is_ill}
    kept = [f for f in found if f.is_ill or f.check not in ill]
    order = (Level.ERROR, Level.WARNING, Level.UNKNOWN, Level.OK)
    return sorted(kept, key=lambda finding: order.index(finding.level))


def worst_level(findings: Sequence[Finding]) -> Level:
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.ERROR, Level.WARNING) if level in levels), Level.OK)


def print_findings(
    console: Console, title: str, findings: Sequence[Finding], *, shows_all: bool = False
) -> None:
    """Print what is wrong, what could not be told in one line, and the verdict.

    Args:
        shows_all: every finding is printed as a wrong one is.
    """
    console.print(title, markup=False, highlight=False, style="italic")
    style = {
        Level.ERROR: "bold red",
        Level.WARNING: "yellow",
        Level.UNKNOWN: "",
        Level.OK: "green",
    }
    for finding in findings:
        if shows_all or finding.is_ill:
            console.print()
            head = f"{finding.level}: {finding.check}: {finding.finding}"
            console.print(head, markup=False, highlight=False, style=style[finding.level])
            for label, text in (("evidence", finding.evidence), ("what to do", finding.hint)):
                if text:
                    console.print(Padding(Text(f"{label}: {text}"), (0, 0, 0, 4)))
    console.print()
    if not shows_all and (unknown := _names_of(findings, Level.UNKNOWN)):
        console.print(
            f"{len(unknown)} could not be told: {', '.join(unknown)}", markup=False, highlight=False
        )
    console.print(
        format_verdict(findings),
        markup=False,
        highlight=False,
        style=f"bold {style[worst_level(findings)]}",
    )


def format_verdict(findings: Sequence[Finding]) -> str:
    """Return one line: what follows from the findings, the names of what is wrong, and how many checks are fine."""
    parts = []
    for level in (Level.ERROR, Level.WARNING):
        n = sum(finding.level is level for finding in findings)
        if n:
            parts.append(f"{n} {level}{'s' * (n > 1)} ({', '.join(_names_of(findings, level))})")
    parts.append(f"{sum(finding.level is Level.OK for finding in findings)} fine")
    said = {
        Level.ERROR: "The number would be wrong",
        Level.WARNING: "The number may be wrong",
        Level.OK: "Nothing was found that would make the number wrong",
    }
    return f"{said[worst_level(findings)]}: {', '.join(parts)}."


def _names_of(findings: Iterable[Finding], level: Level) -> list[str]:
    return list(dict.fromkeys(finding.check for finding in findings if finding.level is level))


def to_json(findings: Sequence[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=2)
