"""The doctor looks at a finished run: what the recorded episodes say about why the number is what it is."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np

from eval.doctor.finding import Finding, Level, describe_failed_check
from eval.doctor.floors import compare_with_floors, roll_out_floors
from eval.doctor.gripper_check import check_gripper
from eval.doctor.motion_checks import (
    check_action_range,
    check_first_action,
    check_following,
    check_movement,
)
from eval.doctor.plan_checks import check_first_plan, check_hand_over, check_plan_spread
from eval.doctor.row_checks import (
    check_crashes,
    check_early_success,
    check_inverse_kinematics,
    check_n_episodes,
    check_outcomes,
    check_start_region,
)
from eval.episode_row import ROWS_FILE, EpisodeRow
from eval.recorder import EpisodeArrays
from eval.run import Run
from eval.run_description import RunDescription
from sim.env import Env
from sim.errors import WhiskerError

type Check = partial[Finding]


def check_run(run: Run, env: Env | None = None) -> list[Finding]:
    """Make all checks of a run folder, one finding each; fine ones have their numbers too.

    A check that raises is a finding of its own.

    Args:
        env: where to roll the floors out, best without cameras; None: made from the run's own name
            for it.

    Raises:
        WhiskerError: an episode file is missing or damaged.
    """
    rows = run.rows if (run.path / ROWS_FILE).exists() else []
    if not rows:
        hint = "Run it, or finish it with --resume."
        return [
            Finding(
                "number of episodes",
                Level.WARNING,
                "the run has no finished episode",
                "0 rows",
                hint,
            )
        ]
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
    return [_make(check) for check in checks]


def _make(check: Check) -> Finding:
    try:
        return check()
    except Exception as error:
        return describe_failed_check(check.func.__name__, error)


def check_made_by(description: RunDescription) -> Finding:
    """Warn if several commits of the project made the rows, and say on which processors they come out the same."""
    commits = list(dict.fromkeys(description.commits))
    code_path = description.code_path or {}
    processor = code_path.get("gpu") or code_path.get(
        "processor", "unknown, the run is older than this record"
    )
    evidence = f"commit {', '.join(name or 'none' for name in commits)}; processor {processor}"
    if len(commits) > 1:
        hint = "Start a new run, unless nothing between these commits changes a row."
        return Finding(
            "origin of the rows", Level.WARNING, "several commits made them", evidence, hint
        )
    return Finding("origin of the rows", Level.OK, "one commit made them", evidence)


def _find_starts(episodes: Sequence[EpisodeArrays]) -> list[np.ndarray]:
    """Return where the objects began; [] if a goal is about none."""
    starts = [path[0] for episode in episodes if (path := episode.object_pos_world) is not None]
    return starts if len(starts) == len(episodes) else []


def _checks_of_episodes(run: Run, rows: Sequence[EpisodeRow]) -> list[Check]:
    """Read the arrays of the episodes, and return the checks that look at them.

    Raises:
        WhiskerError: an episode file is missing or damaged.
    """
    episodes = [run.load_arrays(row) for row in rows]
    env, policy = run.description.env, run.description.policy
    action, state_names = env.action, env.state_names
    n_success, is_baseline = sum(row.success for row in rows), policy.is_baseline
    checks: list[Check] = [
        partial(check_start_region, rows, _find_starts(episodes)),
        partial(check_early_success, rows, episodes, env.control_dt_s),
        partial(check_action_range, episodes, action),
        partial(check_movement, episodes),
        partial(check_gripper, episodes, action, state_names, n_success, is_baseline=is_baseline),
        partial(check_first_action, episodes, action, state_names),
        partial(check_following, episodes, action, state_names),
        partial(check_hand_over, episodes, action),
    ]
    if is_baseline:
        return [
            *checks,
            partial(_not_for_baselines, "plan spread"),
            partial(_not_for_baselines, "first plan"),
        ]
    checks.append(partial(check_plan_spread, episodes, action))
    if policy.image_sizes:
        return [*checks, partial(check_first_plan, episodes)]
    said = (
        "first plan",
        Level.UNKNOWN,
        "first plans were not compared",
        "the policy has no cameras",
    )
    return [*checks, partial(Finding, *said)]


def _check_floors(run: Run, rows: Sequence[EpisodeRow], env: Env | None) -> Finding:
    if run.description.policy.is_baseline:
        return _not_for_baselines("floors")
    if env is not None:
        return _roll_out_and_compare(run, rows, env)
    try:
        env = run.open_env(run.description.env.task, {})
    except WhiskerError as error:
        return Finding(
            "floors", Level.WARNING, "the floors could not be rolled out", str(error), error.hint
        )
    with closing(env):
        return _roll_out_and_compare(run, rows, env)


def _roll_out_and_compare(run: Run, rows: Sequence[EpisodeRow], env: Env) -> Finding:
    """On the episodes of the environment's own task, where a run has several: another would need its own."""
    same = [row for row in rows if row.task == env.spec.task]
    if not same:
        return Finding(
            "floors", Level.UNKNOWN, "not compared", f"the run has no episode of {env.spec.task!r}"
        )
    floors = roll_out_floors(
        env, [row.episode_index for row in same], run.description.resolved.max_steps
    )
    finding = compare_with_floors(sum(row.success for row in same), len(same), floors)
    if len(same) == len(rows):
        return finding
    return replace(
        finding, evidence=f"in {env.spec.task!r}, one of the run's tasks: {finding.evidence}"
    )


def _not_for_baselines(check: str) -> Finding:
    return Finding(
        check, Level.UNKNOWN, "not compared", "the policy is a baseline: it plans without looking"
    )
