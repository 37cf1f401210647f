"""Finds what keeps two runs from being compared, and what else differs between comparable runs."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from eval.config import SubjectConfig
from eval.run_description import RunDescription, describe_noise
from sim.flags import find_flags
from sim.registry import packages_of

# Packages of a family that also compute a policy. Another version of the others changes states and
# images, which is why `pyproject.toml` pins them exactly.
_NOT_SIMULATION = {"numpy", "torch"}
# Settings that are not the policy's, or are compared elsewhere.
_NOT_OF_POLICY = {
    "policy",
    "checkpoint",
    "env",
    "control",
    "max_steps",
    "success",
    "device",
    "n_action_steps",
}


class _Field(NamedTuple):
    """One field of two runs."""

    name: str
    first: object
    second: object

    @property
    def differs(self) -> bool:
        return self.first != self.second

    def __str__(self) -> str:
        return f"{self.name} ({self.first} and {self.second})"


def find_conflicts(first: RunDescription, second: RunDescription) -> list[str]:
    """Return the differences that keep two runs from being compared: ["max_steps (300 and 250)"].

    The tasks that both have must be the same world, with the same simulation, the same initial
    states and the same length.
    """
    conflicts = [str(field) for field in _list_world_fields(first, second) if field.differs]
    return list(dict.fromkeys(conflicts))


def find_remarks(first: RunDescription, second: RunDescription) -> list[str]:
    """Return a sentence for each difference of two comparable runs besides the policy."""
    remarks = []
    settings = ", ".join(str(field) for field in _list_settings(first, second) if field.differs)
    if settings:
        remarks.append(f"Besides the policy they differ in {settings}.")
    elif _have_same_policy(first, second):
        remarks.append("Both ran the same policy with the same settings.")
    paths = ", ".join(_compare_code_paths(first.code_path or {}, second.code_path or {}))
    if paths:
        remarks.append(
            f"They were computed on two code paths ({paths}): "
            "last bits differ, which can decide an episode."
        )
    unseeded = [describe_noise(each.policy) for each in (first, second)]
    remarks += dict.fromkeys(remark for remark in unseeded if remark)
    if not have_same_rules(first, second):
        rules = f"{first.resolved.outcome_rules} and {second.resolved.outcome_rules}"
        remarks.append(
            f"Rules {rules} sorted their failures into outcomes, so outcomes are not compared; "
            "success does not depend on these rules."
        )
    return remarks


def have_same_rules(first: RunDescription, second: RunDescription) -> bool:
    """Return whether the same rules and thresholds sorted the failures into outcomes."""
    if first.resolved.outcome_rules != second.resolved.outcome_rules:
        return False
    return first.env.goals == second.env.goals


def _list_world_fields(first: RunDescription, second: RunDescription) -> Iterator[_Field]:
    """Yield every field that must be equal."""
    shared = [task for task in first.tasks if task in second.tasks]
    if not shared:
        env = next(iter(first.tasks.values()))
        other_env = next(iter(second.tasks.values()))
        yield _Field("environment", env, other_env)
    for task in shared:
        yield from _list_task_fields(task, first, second)
    yield _list_max_steps(first, second)
    yield _Field("--success", first.resolved.success, second.resolved.success)
    control = first.config.env.control or "delta"
    other_control = second.config.env.control or "delta"
    yield _Field("control", control, other_control)
    if first.env.task == second.env.task:
        yield from _list_env_fields(first, second)
    for package in _list_simulation(first, second):
        version = (first.versions or {}).get(package)
        other_version = (second.versions or {}).get(package)
        if version is not None and other_version is not None:
            yield _Field(f"version of {package}", version, other_version)


def _list_simulation(first: RunDescription, second: RunDescription) -> list[str]:
    """Return the packages that simulate, as the families of both environments declare them."""
    envs = [next(iter(each.tasks.values())) for each in (first, second)]
    declared = [package for env in envs for package in packages_of(env)]
    return [package for package in dict.fromkeys(declared) if package not in _NOT_SIMULATION]


def _list_task_fields(
    task: str,
    first: RunDescription,
    second: RunDescription,
) -> Iterator[_Field]:
    # After the @ comes a MuJoCo model, or the demonstrations that the episodes begin from.
    env, _, source = first.tasks[task].partition("@")
    other_env, _, other_source = second.tasks[task].partition("@")
    yield _Field("environment", env, other_env)
    sha256 = first.scene_sha256
    other_sha256 = second.scene_sha256
    has_hashes = sha256 is not None and other_sha256 is not None
    if source and other_source and has_hashes:
        yield _Field("init states or model: SHA-256", sha256, other_sha256)
    else:
        default = "the environment's"
        yield _Field("init states or model", source or default, other_source or default)


def _list_env_fields(first: RunDescription, second: RunDescription) -> Iterator[_Field]:
    env = first.env
    other = second.env
    yield _Field("control_dt_s", env.control_dt_s, other.control_dt_s)
    yield _Field("physics_dt_s", env.physics_dt_s, other.physics_dt_s)
    goals = [goal.name for goal in env.goals]
    other_goals = [goal.name for goal in other.goals]
    if goals and other_goals:
        yield _Field("goals", goals, other_goals)


def _list_max_steps(first: RunDescription, second: RunDescription) -> _Field:
    """Return after how many steps an episode ends.

    If the runs begin with different tasks, their flags are compared.
    """
    if first.env.task == second.env.task:
        return _Field("max_steps", first.resolved.max_steps, second.resolved.max_steps)
    default = "each task's own"
    steps = first.config.rollout.max_steps or default
    other_steps = second.config.rollout.max_steps or default
    return _Field("max_steps", steps, other_steps)


def _list_settings(first: RunDescription, second: RunDescription) -> Iterator[_Field]:
    """Yield every setting of a policy, by its flag."""
    yield _Field(
        "--n-action-steps",
        first.resolved.n_action_steps,
        second.resolved.n_action_steps,
    )
    for flag in find_flags(SubjectConfig):
        if flag.name not in _NOT_OF_POLICY:
            value = flag.value_in(first.config)
            other = flag.value_in(second.config)
            yield _Field(flag.spelling, value, other)


def _compare_code_paths(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[str]:
    """Yield "gpu none and H100" for each difference.

    Only shared entries are compared: a policy without a network does not record how torch computes.
    """
    for name in sorted(first.keys() & second.keys() | {"gpu"}):
        value = first.get(name, "none")
        other = second.get(name, "none")
        if value != other:
            yield f"{name} {value} and {other}"


def _have_same_policy(first: RunDescription, second: RunDescription) -> bool:
    if first.policy.type != second.policy.type:
        return False
    return dict(first.policy.files_sha256) == dict(second.policy.files_sha256)
