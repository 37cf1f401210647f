"""`run.json`: what was run, with what, and on which machine.

This is the file's one reader and writer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eval.config import EvalConfig
from eval.doctor.finding import Finding
from eval.older_runs import update_description
from eval.outcome import OUTCOME_RULES
from policies.policy import PolicySpec
from sim.errors import WhiskerError
from sim.files import atomic_write
from sim.spec import EnvSpec, SuccessRule
from sim.typed_json import decode

VERSION = 1
RUN_FILE = "run.json"

# Settings that change no number. A resumed run may have others, and they are not kept.
FREE_ON_RESUME = ("resume", "retry_errors", "list_envs", "max_errors", "parallel", "output")


@dataclass(frozen=True)
class Resolved:
    """Says what the flags came to, once policy and environment were known.

    Attributes:
        max_steps: control steps after which an episode of the first task was over.
        success: whether an episode ended with its first success, or its last step decided.
        outcome_rules: the rules (`eval.outcome.OUTCOME_RULES`) that made the outcomes. Before the
            second, runs did not say it.
        renamed_cameras: as in `eval.evaluation.Setup`.
        gl_backend: the way to OpenGL, MUJOCO_GL; None in older runs.
        gl_renderer: what draws; None in older runs.
    """

    n_action_steps: int
    max_steps: int
    outcome_rules: int = 1
    success: SuccessRule = "once"
    renamed_cameras: Mapping[str, str] = field(default_factory=dict)
    gl_backend: str | None = None
    gl_renderer: str | None = None


@dataclass(frozen=True)
class Machine:
    """Describes the machine on which a run began, for people.

    Each is None where an older run did not say it.
    """

    platform: str | None = None
    python: str | None = None
    processor: str | None = None
    opengl: str | None = None
    cpus: int | None = None


@dataclass(frozen=True)
class Resumption:
    """Says that the rows after the first `n_rows_before` are of another commit of the project."""

    commit: str
    n_rows_before: int


@dataclass(frozen=True)
class Decision:
    """Says that a run ended early, since the sequential test had decided.

    Attributes:
        against: folder of the run that it was compared with.
        n_shared: episodes that both runs had judged.
        only_this: of these, the episodes that this run alone solved.
        e_value: from `eval.sequential_test.compute_e_value`.
    """

    against: str
    n_shared: int
    only_this: int
    only_other: int
    e_value: float

    def __str__(self) -> str:
        return (
            f"It ended early: after {self.n_shared} episodes its comparison with {self.against} "
            "was decided. A success rate at which one stops is not a fair estimate; the decision "
            "is fair."
        )


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """Describes a run: all that a number depends on, and where it was made.

    A part is None if an older run did not say it.

    Attributes:
        started_utc: date and time in ISO 8601.
        config: the flags, with those of `FREE_ON_RESUME` at their defaults. A flag that came later
            has its default too, which is how things were before it.
        policy: as it spoke to `env`.
        env: of the first task.
        tasks: task → the name of its environment. Older runs have the one task of `env`.
        scene_sha256: of a MuJoCo model of the user's own; "" without one.
        versions: package → its version.
        code_path: from `eval.code_path.describe_run_code_path`.
        commit: of the project, at the first row; "" where there was no git tree.
        doctor: what the doctor found, besides what is fine.
        resumed: where the run went on at another commit.
        decision: why the run ended before its last episode; None if it did not.
    """

    version: int = VERSION
    started_utc: str | None = None
    config: EvalConfig
    resolved: Resolved
    policy: PolicySpec
    env: EnvSpec
    tasks: Mapping[str, str] = field(default_factory=dict)
    scene_sha256: str | None = None
    versions: Mapping[str, str] | None = None
    code_path: Mapping[str, str] | None = None
    commit: str | None = None
    machine: Machine | None = None
    doctor: tuple[Finding, ...] | None = None
    resumed: tuple[Resumption, ...] = ()
    decision: Decision | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            object.__setattr__(self, "tasks", {self.env.task: self.env.name})

    @property
    def commits(self) -> list[str]:
        """Return the commits that made the rows, in order; "" for one without a git tree."""
        return [self.commit or "", *(part.commit for part in self.resumed)]

    @property
    def old_rules(self) -> str:
        """Return a remark on outcomes that older rules made; "" if the present ones made them."""
        rules = self.resolved.outcome_rules
        return "" if rules == OUTCOME_RULES else f"outcomes by rules {rules} (now {OUTCOME_RULES})"

    def to_json(self) -> dict[str, Any]:
        """Return the description as `json.loads` would: tuples are lists."""
        content = asdict(self)
        for name in FREE_ON_RESUME:
            del content["config"][name]
        for name in ("resumed", "decision"):
            if not content[name]:
                del content[name]
        return json.loads(json.dumps(content))


def describe_noise(policy: PolicySpec) -> str:
    """Return a remark on a policy whose plans no seed decides; "" for all others."""
    if not policy.draws_own_noise:
        return ""
    whose = "its server draws" if policy.server else "it draws"
    return (
        f"Policy {policy.type!r} cannot be seeded: {whose} the noise of its plans. An episode that "
        "runs again can end otherwise."
    )


def load_description(path: Path) -> RunDescription:
    """Return the description of the run folder `path`.

    Raises:
        WhiskerError: not a run folder, one of a newer version, or a damaged file.
    """
    content = load_as_written(path)
    try:
        return decode(RunDescription, update_description(content), "")
    except ValueError as error:
        raise WhiskerError(
            _subject(path),
            expected=f"a whole {RUN_FILE}, as `eval` writes it",
            got=str(error),
        ) from error


def load_as_written(path: Path) -> dict[str, Any]:
    """Return the content of the file word for word: unknown fields stay, and none is added.

    Raises:
        WhiskerError: not a run folder, one of a newer version, or a damaged file.
    """
    file = path / RUN_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WhiskerError(
            _subject(path),
            expected=f"a run folder with a {RUN_FILE}",
            got=error.strerror or str(error),
            hint="Check the path.",
        ) from error
    except ValueError as error:
        raise WhiskerError(
            f"file {str(file)!r}",
            expected="JSON",
            got=str(error),
            hint="It was damaged after it was written, and says no longer what was run.",
        ) from error
    version = content.get("version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise WhiskerError(
            _subject(path),
            expected=f"a {RUN_FILE} with a version",
            got="one without",
        )
    if version > VERSION:
        raise WhiskerError(
            _subject(path),
            expected=f"version {VERSION}",
            got=str(version),
            hint="Update whisker-eval.",
        )
    return content


def save_description(path: Path, description: RunDescription) -> None:
    """Write the `run.json` of the run folder `path`, whole or not at all."""
    _save_json(path, description.to_json())


def save_resumptions(path: Path, resumptions: Sequence[Resumption]) -> None:
    """Write when the run went on into the `run.json` of its folder. All else stays as written."""
    resumed = [asdict(resumption) for resumption in resumptions]
    _save_json(path, {**load_as_written(path), "resumed": resumed})


def save_decision(path: Path, decision: Decision) -> None:
    """Note in the `run.json` of a run folder that the run has ended early."""
    _save_json(path, {**load_as_written(path), "decision": asdict(decision)})


def _save_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path / RUN_FILE, sync=True) as file:
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _subject(path: Path) -> str:
    return f"run {str(path)!r}"
