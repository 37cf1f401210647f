"""The doctor looks at a finished run: what the recorded episodes say about why the number is what it is."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

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
)
from eval.episode_row import ROWS_FILE, EpisodeRow, load_rows
from eval.outcome import Outcome
from eval.run_folder import RUN_FILE, commits_of, describe_old_rules, load_arrays, load_description
from policies.baselines import BASELINES
from sim.env import Env
from sim.errors import WhiskerError
from sim.registry import make_env
from sim.spec import ActionSpec, Control

type Check = partial[Finding]


@dataclass(frozen=True)
class RunDescription:
    """What the checks read of `run.json`.

    Attributes:
        looks: the policy has cameras.
        env: of the first task.
        control: as in `SubjectConfig`.
        horizon: control steps after which an episode of the first task was over.
    """

    policy: str
    looks: bool
    env: str
    control: Control | None
    action: ActionSpec
    state_names: tuple[str, ...]
    control_dt_s: float
    horizon: int

    @classmethod
    def load(cls, run: Path) -> "RunDescription":
        """Raises WhiskerError: not a run folder, or parts of its `run.json` are missing."""
        description = load_description(run)
        try:
            env, policy = description["env"], description["policy"]
            known = {field.name for field in fields(ActionSpec)}
            action: dict[str, Any] = {k: _as_tuple(v) for k, v in env["action"].items() if k in known}
            return cls(
                policy=policy["type"],
                looks=bool(policy["image_sizes"]),
                env=env["name"],
                control=description["config"].get("control"),
                action=ActionSpec(**action),
                state_names=tuple(env["state_names"]),
                control_dt_s=env["control_dt_s"],
                horizon=description["resolved"]["horizon"],
            )
        except (KeyError, TypeError) as error:
            raise WhiskerError(
                f"run {str(run)!r}", expected=f"a whole {RUN_FILE}, as `eval` writes it", got=repr(error)
            ) from error


def check_run(run: Path, env: Env | None = None) -> list[Finding]:
    """Make all checks of a run folder, one finding each; fine ones have their numbers too.

    A check that raises is a finding of its own.

    Args:
        env: where to roll the floors out, best without cameras; None: made from the run's own name for it.

    Raises:
        WhiskerError: no run folder, or an episode file that is missing or damaged.
    """
    description = RunDescription.load(run)
    rows = load_rows(run) if (run / ROWS_FILE).exists() else []
    if not rows:
        do = "Run it, or finish it with --resume."
        return [Finding("number of episodes", Level.WARNING, "the run has no finished episode", "0 rows", do)]
    stored = load_description(run)
    checks: list[Check] = [
        partial(check_crashes, rows),
        partial(check_n_episodes, rows),
        partial(check_made_by, stored),
    ]
    judged = [row for row in rows if row.outcome != Outcome.ERROR]
    if judged:
        checks += [
            partial(check_outcomes, rows, describe_old_rules(stored)),
            partial(check_inverse_kinematics, rows),
            *_checks_of_episodes(run, description, judged),
            partial(_check_floors, description, judged, env),
        ]
    return [_make(check) for check in checks]


def _make(check: Check) -> Finding:
    try:
        return check()
    except Exception as error:
        return describe_failed_check(check.func.__name__, error)


def check_made_by(description: dict) -> Finding:
    """Warn if several commits of the project made the rows, and say on which processors they come out the same.

    Args:
        description: `run.json`.
    """
    commits = list(dict.fromkeys(commits_of(description)))
    code_path = description.get("code_path", {})
    processor = code_path.get("gpu") or code_path.get("processor", "unknown, the run is older than this record")
    evidence = f"commit {', '.join(name or 'none' for name in commits)}; processor {processor}"
    if len(commits) > 1:
        do = "Start a new run, unless nothing between these commits changes a row."
        return Finding("origin of the rows", Level.WARNING, "several commits made them", evidence, do)
    return Finding("origin of the rows", Level.FINE, "one commit made them", evidence)


def _checks_of_episodes(run: Path, description: RunDescription, rows: Sequence[EpisodeRow]) -> list[Check]:
    """Read the arrays of the episodes, and return the checks that look at them.

    Raises:
        WhiskerError: an episode file is missing or damaged.
    """
    episodes = [load_arrays(run, row) for row in rows]
    action, state_names = description.action, description.state_names
    n_success, is_baseline = sum(row.success for row in rows), description.policy in BASELINES
    checks: list[Check] = [
        partial(check_early_success, rows, episodes, description.control_dt_s),
        partial(check_action_range, episodes, action),
        partial(check_movement, episodes),
        partial(check_gripper, episodes, action, state_names, n_success, is_baseline=is_baseline),
        partial(check_first_action, episodes, action, state_names),
        partial(check_following, episodes, action, state_names),
        partial(check_hand_over, episodes, action),
    ]
    if is_baseline:
        return [*checks, partial(_not_for_baselines, "plan spread"), partial(_not_for_baselines, "first plan")]
    checks.append(partial(check_plan_spread, episodes, action))
    if description.looks:
        return [*checks, partial(check_first_plan, episodes)]
    said = ("first plan", Level.UNKNOWN, "first plans were not compared", "the policy has no cameras")
    return [*checks, partial(Finding, *said)]


def _check_floors(description: RunDescription, rows: Sequence[EpisodeRow], env: Env | None) -> Finding:
    if description.policy in BASELINES:
        return _not_for_baselines("floors")
    if env is not None:
        return _roll_out_and_compare(description, rows, env)
    try:
        env = make_env(description.env, {}, description.control)
    except WhiskerError as error:
        return Finding("floors", Level.WARNING, "the floors could not be rolled out", str(error), error.do)
    with closing(env):
        return _roll_out_and_compare(description, rows, env)


def _roll_out_and_compare(description: RunDescription, rows: Sequence[EpisodeRow], env: Env) -> Finding:
    """On the episodes of the environment's own task, where a run has several: another would need its own."""
    same = [row for row in rows if row.task == env.spec.task]
    if not same:
        return Finding("floors", Level.UNKNOWN, "not compared", f"the run has no episode of {env.spec.task!r}")
    floors = roll_out_floors(env, [row.episode_index for row in same], description.horizon)
    finding = compare_with_floors(sum(row.success for row in same), len(same), floors)
    if len(same) == len(rows):
        return finding
    return replace(finding, evidence=f"in {env.spec.task!r}, one of the run's tasks: {finding.evidence}")


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _not_for_baselines(check: str) -> Finding:
    return Finding(check, Level.UNKNOWN, "not compared", "the policy is a baseline: it plans without looking")
