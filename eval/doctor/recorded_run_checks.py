"""Checks a finished run: what its recorded episodes say about the cause of its success rate."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial

from eval.doctor.action_columns import name_gripper
from eval.doctor.early_success import check_early_success
from eval.doctor.finding import Finding, describe_failed_check, fine, unknown, warn
from eval.doctor.gripper_check import check_gripper
from eval.doctor.lower_bounds import compare_with_lower_bounds, roll_out_lower_bounds
from eval.doctor.motion_checks import (
    check_action_range,
    check_first_action,
    check_following,
    check_movement,
)
from eval.doctor.plan_checks import (
    check_first_plan,
    check_hand_over,
    check_plan_spread,
    find_starts,
)
from eval.doctor.row_checks import (
    check_crashes,
    check_inverse_kinematics,
    check_n_episodes,
    check_outcomes,
    check_start_region,
)
from eval.episode_row import ROWS_FILE, Rows
from eval.run import Run
from eval.run_description import RunDescription
from sim.env import Env
from sim.errors import WhiskerError
from sim.spec import ActionSpec

type Check = partial[Finding]

_UNKNOWN_PROCESSOR = "unknown, the run is older than this record"


def check_run(run: Run, env: Env | None = None) -> list[Finding]:
    """Run all checks of a run folder, and return one finding each.

    A check that raises gives a finding, too.

    Args:
        env: environment in which to roll out the lower bounds, best without cameras; None: it is
            made from the name in the run.

    Raises:
        WhiskerError: an episode file is missing or damaged.
    """
    rows = run.rows if (run.path / ROWS_FILE).exists() else []
    if not rows:
        finding = "the run has no finished episode"
        hint = "Run it, or finish it with --resume."
        return [warn("number of episodes", finding, "0 rows", hint)]
    checks: list[Check] = [
        partial(check_crashes, rows),
        partial(check_n_episodes, rows),
        partial(check_made_by, run.description),
    ]
    judged = [row for row in rows if row.is_judged]
    if judged:
        checks += [
            partial(check_outcomes, rows, run.description.old_rules),
            partial(check_inverse_kinematics, rows),
            *_checks_of_episodes(run, judged),
            partial(_check_floors, run, judged, env),
        ]
    return [_run(check) for check in checks]


def _run(check: Check) -> Finding:
    try:
        return check()
    except Exception as error:
        return describe_failed_check(check.func.__name__, error)


def check_made_by(description: RunDescription) -> Finding:
    """Warn if several commits of the project made the rows, and name the processor that ran them.

    The rows are reproducible on processors of the same kind.
    """
    commits = list(dict.fromkeys(description.commits))
    names = ", ".join(name or "none" for name in commits)
    code_path = description.code_path or {}
    processor = code_path.get("gpu") or code_path.get("processor", _UNKNOWN_PROCESSOR)
    evidence = f"commit {names}; processor {processor}"
    if len(commits) > 1:
        return warn(
            "origin of the rows",
            "several commits made them",
            evidence,
            "Start a new run, unless nothing between these commits changes a row.",
        )
    return fine("origin of the rows", "one commit made them", evidence)


def _checks_of_episodes(run: Run, rows: Rows) -> list[Check]:
    """Read the arrays of the episodes, and return the checks that use them.

    Raises:
        WhiskerError: an episode file is missing or damaged.
    """
    episodes = [run.load_arrays(row) for row in rows]
    env = run.description.env
    action = env.action
    state_names = env.state_names
    is_baseline = run.description.policy.is_baseline
    n_success = sum(row.success for row in rows)
    checks: list[Check] = [
        partial(check_start_region, rows, find_starts(episodes)),
        partial(check_early_success, rows, episodes, env.control_dt_s),
        partial(check_action_range, episodes, action),
        partial(check_movement, episodes),
        partial(check_first_action, episodes, action, state_names),
        partial(check_following, episodes, action, state_names),
        partial(check_hand_over, episodes, action),
    ]
    check = partial(check_gripper, is_baseline=is_baseline)
    for index, one in zip(action.gripper_indices, action.split_by_gripper(), strict=True):
        check_one = partial(check, episodes, one, state_names, n_success)
        checks.append(partial(_check_gripper_of_several, check_one, action, index))
    if is_baseline:
        checks.append(partial(_not_for_baselines, "plan spread"))
        checks.append(partial(_not_for_baselines, "first plan"))
        return checks
    checks.append(partial(check_plan_spread, episodes, action))
    first_plan: Check = partial(check_first_plan, episodes)
    if not run.description.policy.image_sizes:
        not_compared = "first plans were not compared"
        first_plan = partial(unknown, "first plan", not_compared, "the policy has no cameras")
    return [*checks, first_plan]


def _check_gripper_of_several(
    check: Callable[[], Finding],
    action: ActionSpec,
    index: int,
) -> Finding:
    return name_gripper(check(), action, index)


def _not_for_baselines(check: str) -> Finding:
    return unknown(check, "not compared", "the policy is a baseline: it plans without observations")


def _check_floors(run: Run, rows: Rows, env: Env | None) -> Finding:
    """Compare the policy with the lower bounds, in a given environment or in the run's own."""
    if run.description.policy.is_baseline:
        return _not_for_baselines("floors")
    if env is not None:
        return _roll_out_and_compare(run, rows, env)
    try:
        env = run.open_env(run.description.env.task, {})
    except WhiskerError as error:
        return warn(
            "floors",
            "the lower bounds could not be rolled out",
            str(error),
            error.hint,
        )
    with closing(env):
        return _roll_out_and_compare(run, rows, env)


def _roll_out_and_compare(run: Run, rows: Rows, env: Env) -> Finding:
    """Compare on the episodes of the environment's task; other tasks would need their own."""
    task = env.spec.task
    of_task = [row for row in rows if row.task == task]
    if not of_task:
        return unknown("floors", "not compared", f"the run has no episode of {task!r}")
    bounds = roll_out_lower_bounds(
        env,
        [row.episode_index for row in of_task],
        run.description.resolved.max_steps,
    )
    n_success = sum(row.success for row in of_task)
    finding = compare_with_lower_bounds(n_success, len(of_task), bounds)
    if len(of_task) == len(rows):
        return finding
    return replace(finding, evidence=f"in {task!r}, one of the run's tasks: {finding.evidence}")
