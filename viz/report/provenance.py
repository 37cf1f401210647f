"""Describes what was run, with what and where."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Float64

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
# Number of characters of a hash or commit that is shown in full elsewhere.
_SHORT = 12
_WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
_Values = Float64[np.ndarray, " row"]
_NOT_RECORDED = "not recorded: the run is older"


@dataclass(frozen=True)
class Fact:
    """One line of what was run."""

    name: str
    value: str


type Facts = tuple[Fact, ...]


def describe_command(description: RunDescription) -> str:
    """Return the `eval` command of a run, with every flag that differs from its default."""
    words: list[str] = []
    for flag in find_flags(EvalConfig):
        value = flag.value_in(description.config)
        is_free = (flag.group or flag.name) in FREE_ON_RESUME
        if value != flag.field.default and not is_free:
            words += _format_flag(flag.name, value)
    return format_command("eval", *words)


def describe_facts(run: Run) -> Mapping[str, Facts]:
    """Return title → facts."""
    description = run.description
    code_path = description.code_path or {}
    return {
        "Policy": _describe_policy(description),
        "Environment": _describe_env(description),
        "Episodes": _describe_episodes(run),
        "Made with": _describe_origin(description),
        "Machine": _describe_machine(description),
        "SHA-256 of files": _list_facts(sorted(description.policy.files_sha256.items())),
        "Versions": _list_facts((description.versions or {}).items()),
        "Code path": _list_facts(code_path.items()),
    }


def name_commit(commit: str) -> str:
    """Return a commit, or words for a run that was made outside a git tree."""
    return commit or "none: no git tree"


def _list_facts(items: Iterable[tuple[str, str]]) -> Facts:
    return tuple(Fact(name, value or "unset") for name, value in items)


def _describe_policy(description: RunDescription) -> Facts:
    policy = description.policy
    no_checkpoint = "none: a baseline" if policy.is_baseline else "none"
    n_executed = description.resolved.n_action_steps
    facts = [
        Fact("type", policy.type),
        Fact("checkpoint", policy.checkpoint or no_checkpoint),
    ]
    for file, sha256 in policy.files_sha256.items():
        if file in _WEIGHTS:
            facts.append(Fact("weights", f"sha256 {_shorten(sha256)}"))
    facts += [Fact(f"server's {name}", value) for name, value in policy.server.items()]
    facts.append(Fact("executed", f"{n_executed} of {policy.chunk_size} actions a plan"))
    facts.append(Fact("device", policy.device))
    return tuple(facts)


def _describe_env(description: RunDescription) -> Facts:
    env = description.env
    n_tasks = len(description.tasks)
    which = " (first task)" if n_tasks > 1 else ""
    task = Fact("task", env.task)
    if n_tasks > 1:
        task = Fact("tasks", str(n_tasks))
    goals = "; ".join(goal.name for goal in env.goals)
    frequency_hz = 1 / env.control_dt_s
    duration = f"{description.resolved.max_steps} control steps at {frequency_hz:g} Hz"
    facts = [
        Fact("name", description.config.env.name),
        task,
        Fact("instruction", f"{env.instruction}{which}"),
        Fact("goals", goals or UNDEFINED),
        Fact("max steps", f"{duration}{which}"),
        Fact("outcomes", f"rules {description.resolved.outcome_rules}"),
    ]
    if description.scene_sha256:
        facts.append(Fact("sha256 of the scene", description.scene_sha256))
    return tuple(facts)


def _describe_episodes(run: Run) -> Facts:
    config = run.description.config
    n_tasks = len(run.description.tasks)
    last = config.first_episode + config.episodes - 1
    of_each = f" of each of {n_tasks} tasks" if n_tasks > 1 else ""
    started_utc = run.description.started_utc or _NOT_RECORDED
    durations = [row.duration_s for row in run.rows]
    n_predictions = sum(row.n_predictions for row in run.rows)
    return (
        Fact("asked for", f"{config.first_episode} to {last}{of_each}"),
        Fact("ended", str(len(run.rows))),
        Fact("started", started_utc.replace("T", " ").replace("+00:00", " UTC")),
        Fact("predictions", str(n_predictions)),
        Fact("time each", f"{median(durations):.2f} s (median, policy and simulation)"),
        Fact("time in all", f"{sum(durations):.1f} s"),
        *_describe_series(run),
    )


def _describe_series(run: Run) -> list[Fact]:
    """Return each series summarised over all rows of all episodes.

    Series that the run is too old for are "not recorded".
    """
    found: dict[str, Series] = {series.name: series for series in declared_series()}
    values: dict[str, list[_Values]] = {}
    for row in run.rows:
        with suppress(WhiskerError):  # a lost file is reported elsewhere
            for name, recorded in run.load_series(row).items():
                found[name] = recorded.series
                values.setdefault(name, []).append(recorded.values)
    facts = []
    for name, series in found.items():
        if name in values:
            text = _summarise_series(series, np.concatenate(values[name]))
        else:
            text = "not recorded"
        facts.append(Fact(series.title, text))
    return facts


def _summarise_series(series: Series, values: _Values) -> str:
    defined = values[np.isfinite(values)]
    if not len(defined):
        return UNDEFINED
    unit = f" {series.unit}" if series.unit else ""
    middle, high = np.percentile(defined, [50, 95])
    parts = (
        f"{middle:.3g}{unit} (median)",
        f"{high:.3g}{unit} (95th percentile)",
        count_of(len(defined), series.axis),
    )
    return ", ".join(parts)


def _describe_origin(description: RunDescription) -> Facts:
    """Return the few facts on which a number may depend."""
    versions = description.versions or {}
    code_path = description.code_path or {}
    machine = description.machine
    processor = code_path.get("gpu") or (machine and machine.processor) or _NOT_RECORDED
    kernels = code_path.get("processor", "native") if code_path else _NOT_RECORDED
    commits = [name_commit(commit) for commit in dict.fromkeys(description.commits)]
    main_versions = [(name, versions[name]) for name in _MAIN_VERSIONS if name in versions]
    return (
        Fact("commit", ", ".join(map(_shorten, commits))),
        *_list_facts(main_versions),
        Fact("processor", processor),
        Fact("code path", kernels),
    )


def _shorten(name: str) -> str:
    """Return the beginning of a hash. Other names are left as they are."""
    is_hash = len(name) >= 40 and " " not in name
    return f"{name[:_SHORT]}…" if is_hash else name


def _describe_machine(description: RunDescription) -> Facts:
    machine = description.machine
    commits = [name_commit(commit) for commit in dict.fromkeys(description.commits)]
    facts = [Fact("commit", ", ".join(commits))]
    for field in fields(machine) if machine else ():
        value = getattr(machine, field.name)
        text = _NOT_RECORDED if value is None else str(value)
        facts.append(Fact(field.name, text))
    facts.append(Fact("OpenGL by", description.resolved.gl_backend or _NOT_RECORDED))
    return tuple(facts)


def _format_flag(name: str, value: Any) -> list[str]:
    words = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{words}" if value else f"--no-{words}"]
    if isinstance(value, tuple):
        return [f"--{words}", *map(str, value)]
    return [f"--{words}", str(value)]
