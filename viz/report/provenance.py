"""Says what was run, with what and where, and what one must know to read the numbers."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from eval.config import EvalConfig
from eval.declared_series import declared_series
from eval.run import Run
from eval.run_description import FREE_ON_RESUME, RunDescription
from eval.series import Series
from sim.errors import WhiskerError
from sim.flags import find_flags
from viz.report.wording import UNDEFINED, count_of, format_command

MAIN_FACTS = ("Policy", "Environment", "Episodes", "Made with")
_MAIN_VERSIONS = ("whisker-eval", "mujoco", "lerobot", "torch")
# Of a hash or a commit, where the whole of it stands elsewhere.
_SHORT = 12
_WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
_NOT_RECORDED = "not recorded: the run is older"


@dataclass(frozen=True)
class Fact:
    """One line of what was run."""

    name: str
    value: str


def describe_command(description: RunDescription, resume: Path | None = None) -> str:
    """Return the `eval` command of a run, with every flag that differs from its default.

    Args:
        resume: the folder of the run, of which the command that goes on with it is returned.
    """
    if resume is not None:
        return format_command("eval", "--resume", resume)
    words: list[str] = []
    for flag in find_flags(EvalConfig):
        value = flag.value_in(description.config)
        is_free = (flag.group or flag.name) in FREE_ON_RESUME
        if value != flag.field.default and not is_free:
            words += _format_flag(flag.name, value)
    return format_command("eval", *words)


def describe_facts(run: Run) -> Mapping[str, tuple[Fact, ...]]:
    """Return title → facts."""
    description = run.description
    return {
        "Policy": _describe_policy(description),
        "Environment": _describe_env(description),
        "Episodes": _describe_episodes(run),
        "Made with": _describe_origin(description),
        "Machine": _describe_machine(description),
        "SHA-256 of files": tuple(
            Fact(*item) for item in sorted(description.policy.files_sha256.items())
        ),
        "Versions": tuple(
            Fact(name, number) for name, number in (description.versions or {}).items()
        ),
        "Code path": tuple(
            Fact(name, value or "unset") for name, value in (description.code_path or {}).items()
        ),
    }


def describe_remarks(run: Run) -> tuple[str, ...]:
    """Return what is unusual about a run, one sentence each."""
    rows, description = run.rows, run.description
    judged = [row for row in rows if row.is_judged]
    n_missing, n_success = len(run.missing), sum(row.success for row in judged)
    remarks = []
    if n_missing:
        ended = f"{len(rows)} of {count_of(len(rows) + n_missing, 'episode')} have ended"
        # Rows of other rules are not added to.
        resume = (
            ""
            if description.old_rules
            else f" “{describe_command(description, resume=run.path)}” goes on with it."
        )
        remarks.append(f"The run is unfinished: {ended}, and the numbers are of these.{resume}")
    if n_crashed := len(rows) - len(judged):
        remarks.append(
            f"{count_of(n_crashed, 'episode')} crashed: counted below with the message, and in no rate."
        )
    if len(judged) == 1:
        remarks.append("A single episode ran to its end: it shows what can happen, not how often.")
    elif judged and n_success == len(judged):
        remarks.append("Every episode succeeds: the interval says how far that is known.")
    elif judged and not n_success:
        remarks.append("No episode succeeds: the interval says how far that is known.")
    if description.old_rules:
        remarks.append(f"The run is older than today's outcomes: {description.old_rules}.")
    if unknown := [str(row.outcome) for row in rows if not row.is_known]:
        names, n = ", ".join(dict.fromkeys(unknown)), count_of(len(unknown), "episode")
        remarks.append(
            f"This version does not know the outcome of {n}, which are in no rate of pick-ups: {names}."
        )
    if any(row.decisive_event is None for row in rows):
        remarks.append(
            "The run is older than decisive events: steps are those at which the outcome was settled."
        )
    if not description.config.doctor:
        remarks.append("The doctor could not refuse this run (--no-doctor).")
    if len(set(description.commits)) > 1:
        remarks.append(
            f"Several commits of the project made the rows: {', '.join(map(_name_commit, description.commits))}."
        )
    return tuple(remarks)


def _describe_policy(description: RunDescription) -> tuple[Fact, ...]:
    policy = description.policy
    executed = f"{description.resolved.n_action_steps} of {policy.chunk_size} actions a plan"
    weights = [file for file in policy.files_sha256 if file in _WEIGHTS]
    return (
        Fact("type", policy.type),
        Fact(
            "checkpoint",
            policy.checkpoint or ("none: a baseline" if policy.is_baseline else "none"),
        ),
        *(Fact("weights", "sha256 " + _shorten(policy.files_sha256[file])) for file in weights),
        Fact("executed", executed),
        Fact("device", policy.device),
    )


def _describe_env(description: RunDescription) -> tuple[Fact, ...]:
    env, config, tasks = description.env, description.config, description.tasks
    is_one = len(tasks) == 1
    scene = (
        [Fact("sha256 of the scene", description.scene_sha256)] if description.scene_sha256 else []
    )
    of_first = "" if is_one else " (first task)"
    return (
        Fact("name", config.env.name),
        Fact("task" if is_one else "tasks", env.task if is_one else str(len(tasks))),
        Fact("instruction", f"{env.instruction}{of_first}"),
        Fact("goals", "; ".join(goal.name for goal in env.goals) or UNDEFINED),
        Fact(
            "max steps",
            f"{description.resolved.max_steps} control steps at {1 / env.control_dt_s:g} Hz{of_first}",
        ),
        Fact("outcomes", f"rules {description.resolved.outcome_rules}"),
        *scene,
    )


def _describe_episodes(run: Run) -> tuple[Fact, ...]:
    config, rows = run.description.config, run.rows
    last = config.first_episode + config.episodes - 1
    of_each = (
        f" of each of {len(run.description.tasks)} tasks" if len(run.description.tasks) > 1 else ""
    )
    durations = [row.duration_s for row in rows]
    n_predictions = sum(row.n_predictions for row in rows)
    return (
        Fact("asked for", f"{config.first_episode} to {last}{of_each}"),
        Fact("ended", str(len(rows))),
        Fact(
            "started",
            (run.description.started_utc or _NOT_RECORDED)
            .replace("T", " ")
            .replace("+00:00", " UTC"),
        ),
        Fact("predictions", str(n_predictions)),
        Fact("time each", f"{median(durations):.2f} s (median, policy and simulation)"),
        Fact("time in all", f"{sum(durations):.1f} s"),
        *_describe_series(run),
    )


def _describe_series(run: Run) -> list[Fact]:
    """Return what each series comes to over all rows of all episodes; "not recorded" for one that older runs lack."""
    found: dict[str, Series] = {series.name: series for series in declared_series()}
    values: dict[str, list[np.ndarray]] = {}
    for row in run.rows:
        with suppress(WhiskerError):  # a file that is lost is reported elsewhere
            for name, recorded in run.load_series(row).items():
                found[name] = recorded.series
                values.setdefault(name, []).append(recorded.values)
    facts = []
    for name, series in found.items():
        there = np.concatenate(values.get(name, [np.empty(0)]))
        there = there[np.isfinite(there)]
        middle, high = np.percentile(there, [50, 95]) if len(there) else (np.nan, np.nan)
        unit = f" {series.unit}" if series.unit else ""
        text = f"{middle:.3g}{unit} (median), {high:.3g}{unit} (95th percentile), {count_of(len(there), series.axis)}"
        facts.append(
            Fact(
                series.title,
                text if len(there) else UNDEFINED if name in values else "not recorded",
            )
        )
    return facts


def _describe_origin(description: RunDescription) -> tuple[Fact, ...]:
    """Return the short of it: what a number may depend on."""
    versions, code_path, machine = (
        description.versions or {},
        description.code_path or {},
        description.machine,
    )
    processor = code_path.get("gpu") or (machine.processor if machine else None) or _NOT_RECORDED
    commits = ", ".join(
        _shorten(_name_commit(commit)) for commit in dict.fromkeys(description.commits)
    )
    return (
        Fact("commit", commits),
        *(Fact(name, versions[name]) for name in _MAIN_VERSIONS if name in versions),
        Fact("processor", processor),
        Fact("code path", _NOT_RECORDED if not code_path else code_path.get("processor", "native")),
    )


def _shorten(name: str) -> str:
    """Return the beginning of a hash; what is none is left as it is."""
    return f"{name[:_SHORT]}…" if len(name) >= 40 and " " not in name else name


def _describe_machine(description: RunDescription) -> tuple[Fact, ...]:
    machine = description.machine
    commits = ", ".join(_name_commit(commit) for commit in dict.fromkeys(description.commits))
    facts = [Fact("commit", commits)]
    for field in fields(machine) if machine else ():
        value = getattr(machine, field.name)
        facts.append(Fact(field.name, _NOT_RECORDED if value is None else str(value)))
    return (*facts, Fact("OpenGL by", description.resolved.gl_backend or _NOT_RECORDED))


def _format_flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    return [flag, *map(str, value)] if isinstance(value, tuple) else [flag, str(value)]


def _name_commit(commit: str) -> str:
    return commit or "none: no git tree"
