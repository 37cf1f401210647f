"""Runs the doctor's checks on a policy in an environment, on a run folder, or on an environment."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import fields

import numpy as np

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
from eval.doctor.contract import check_action_range, check_state
from eval.doctor.denoising import check_denoising
from eval.doctor.env_contract import run_env_checks
from eval.doctor.finding import Finding, Findings, describe_failed_check, warn
from eval.doctor.findings_output import sort_findings
from eval.doctor.image_checks import check_pictures
from eval.doctor.image_sizes import check_image_sizes
from eval.doctor.instruction_checks import check_vocabulary, check_words
from eval.doctor.machine_checks import (
    check_action_steps,
    check_console,
    check_disk,
    check_gl,
    check_horizon,
)
from eval.doctor.prediction_type import check_prediction_type
from eval.doctor.scene_checks import check_expert, check_rest, check_start
from eval.doctor.training_env_checks import check_names, check_training_env
from eval.evaluation import Setup, set_up
from eval.run import Run
from eval.subject import add_to_camera_map, name_policy
from policies.checkpoint_files import load_training_env
from policies.normalisation import load_normalisation
from policies.policy import NetworkPolicy
from policies.xvla_conventions import plans_poses
from sim.errors import WhiskerError

type Check = Callable[[CheckContext], Findings]

_FOR_EVERY_POLICY: tuple[Check, ...] = (
    check_gl,
    check_disk,
    check_console,
    check_start,
    check_rest,
    check_reset,
)
# These are skipped for baselines, whose behaviour is known.
_FOR_LEARNED_POLICIES: tuple[Check, ...] = (
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
    check_prediction_type,
    check_sensitivity,
    check_plan_range,
    check_reachability,
    check_agreement,
)
# These read the files of a lerobot checkpoint.
_NEED_CHECKPOINT: set[Check] = {
    check_origin,
    check_statistics,
    check_training_env,
    check_names,
    check_image_sizes,
    check_normalised_observation,
}
# These inspect a network.
_NEED_NETWORK: set[Check] = {
    check_weights,
    check_normalised_observation,
    check_words,
    check_vocabulary,
}
# These compare or execute plans. If a plan is NaN or infinite, their findings would be meaningless.
_NEED_FINITE_PLAN: set[Check] = {
    check_reset,
    check_denoising,
    check_prediction_type,
    check_sensitivity,
    check_plan_range,
    check_reachability,
    check_agreement,
}


def run_checks(config: SubjectConfig, setup: Setup) -> list[Finding]:
    """Run all checks that need no rollout, and return their findings, worst first.

    Raises:
        WhiskerError: the policy cannot plan here at all.
    """
    config = add_to_camera_map(config, dict(setup.renamed_cameras))
    context = _make_context(config, setup)
    context.rehearse()
    skipped = _find_inapplicable(context)
    findings: list[Finding] = []
    for check in _FOR_EVERY_POLICY + _FOR_LEARNED_POLICIES:
        if check not in skipped:
            findings += _run(check, context)
    return sort_findings(findings)


def _make_context(config: SubjectConfig, setup: Setup) -> CheckContext:
    if setup.checkpoint is None:
        return CheckContext(config, setup)
    folder = setup.checkpoint.folder
    normalisation = load_normalisation(folder)
    if plans_poses(setup.checkpoint, setup.env.spec.name, config.env.control):
        # Its numbers are not those of the environment, so their statistics compare with nothing.
        normalisation = normalisation.of_images()
    return CheckContext(config, setup, normalisation, load_training_env(folder))


def _find_inapplicable(context: CheckContext) -> set[Check]:
    """Return the checks that do not apply to this policy."""
    setup = context.setup
    skipped: set[Check] = set()
    if setup.checkpoint is None:
        skipped |= _NEED_CHECKPOINT
    if setup.policy.spec.is_baseline:
        skipped.update(_FOR_LEARNED_POLICIES)
    if not isinstance(getattr(setup.policy, "inner", setup.policy), NetworkPolicy):
        skipped |= _NEED_NETWORK
    if not np.isfinite(context.first_plan).all():
        skipped |= _NEED_FINITE_PLAN
    return skipped


def _run(check: Check, context: CheckContext) -> Findings:
    """Run one check.

    If it raises, that becomes a finding: the evaluation and the other checks go on without it.
    """
    try:
        yield from check(context)
    except Exception as error:
        yield describe_failed_check(check.__name__, error)


def diagnose(config: DoctorConfig) -> tuple[str, list[Finding]]:
    """Return what `eval-doctor` prints: a title, and the findings, worst first.

    Given a run folder, it checks the recorded episodes as well as the policy. Given no policy, it
    checks the environment alone.
    """
    if config.is_about_env_alone:
        return f"environment {config.env.name}", sort_findings(run_env_checks(config))
    if config.run is None:
        asked: SubjectConfig = name_policy(config)
        return _title(asked), _set_up_and_check(asked)
    from eval.doctor.recorded_run_checks import check_run  # takes a second to import

    run = Run.open(config.run)
    stored = {
        field.name: getattr(run.description.config, field.name) for field in fields(SubjectConfig)
    }
    subject = name_policy(SubjectConfig(**stored))
    findings = check_run(run)
    try:
        findings += _set_up_and_check(subject)
    except WhiskerError as error:
        findings.append(
            warn(
                "checkpoint",
                "can no longer be checked",
                str(error),
                "What follows is from the run folder alone.",
            )
        )
    return f"{_title(subject)}, run {config.run}", sort_findings(findings)


def _set_up_and_check(config: SubjectConfig) -> list[Finding]:
    setup = set_up(config)
    with closing(setup.env):
        return run_checks(config, setup)


def _title(config: SubjectConfig) -> str:
    named = config.policy
    checkpoint = f" ({named.checkpoint})" if named.checkpoint else ""
    return f"{named.name}{checkpoint} in {config.env.name}"
