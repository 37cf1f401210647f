"""Compares the conventions of a policy with the environment's, field by field, before a run."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from eval.cameras import find_role, is_accepted
from eval.preflight import fits_action_mode
from policies.adapters import Adapters, format_camera_map
from policies.policy import PolicySpec
from sim.errors import WhiskerError
from sim.registry import family_of
from sim.spec import EnvSpec


class Disagreement(NamedTuple):
    """One convention in which the two sides differ, in words, and a hint that solves it."""

    of_policy: str
    of_env: str
    hint: str = ""


def check_conventions(
    policy: PolicySpec,
    env: EnvSpec,
    adapters: Adapters,
) -> None:
    """Check that the conventions that the policy declares are the environment's, as adapted.

    Raises:
        WhiskerError: the numbers of one side would mean something else on the other. The message
            names all conventions that differ.
    """
    found = list(find_disagreements(policy, env, adapters))
    if not found:
        return
    of_env = "; ".join(each.of_env for each in found)
    of_policy = "; ".join(each.of_policy for each in found)
    raise WhiskerError(
        f"conventions of policy {policy.type!r} in {env.name!r}",
        expected=f"what the environment has ({of_env})",
        got=f"what the policy declares ({of_policy})",
        hint=" ".join(each.hint for each in found if each.hint),
    )


def find_disagreements(
    policy: PolicySpec,
    env: EnvSpec,
    adapters: Adapters,
) -> Iterator[Disagreement]:
    """Yield the conventions in which the two sides differ.

    A convention that the policy does not declare counts as equal.
    """
    action = env.action
    mode = adapters.policy_actions or action.mode
    if policy.action_mode not in (None, mode):
        advice = _advise_mode(policy, env, adapters)
        yield Disagreement(f"{policy.action_mode} actions", f"{mode} actions", advice)
    for what, declared, there in (
        ("rotation", policy.rotation, action.rotation),
        ("rotation frame", policy.rotation_frame, action.rotation_frame),
    ):
        if declared not in (None, there):
            yield Disagreement(f"{what} {declared!r}", f"{what} {there!r}")
    yield from _compare_grippers(policy, env, adapters)
    yield from _compare_lists("state", policy.state_names, env.state_names, adapters)
    yield from _compare_lists("units of the state", policy.state_units, env.state_units, adapters)
    yield from _compare_roles(policy, env, adapters)


def _compare_grippers(
    policy: PolicySpec,
    env: EnvSpec,
    adapters: Adapters,
) -> Iterator[Disagreement]:
    declared = policy.gripper_range
    action = env.action
    gripper = adapters.gripper_range or (action.gripper_closed, action.gripper_open)
    if action.gripper_index is None or declared is None or tuple(declared) == tuple(gripper):
        return
    closed, opened = declared
    advice = f"Give --gripper-range {closed:g} {opened:g}." if closed != opened else ""
    yield Disagreement(_describe_gripper(declared), _describe_gripper(gripper), advice)


def _compare_lists(
    what: str,
    declared: Sequence[str] | None,
    there: Sequence[str],
    adapters: Adapters,
) -> Iterator[Disagreement]:
    """Compare lists with an entry for each number of the state.

    If padding is allowed, further entries of the policy are padding.
    """
    if declared is None:
        return
    if adapters.allow_padding:
        declared = declared[: len(there)]
    if tuple(declared) != tuple(there):
        of_policy = ", ".join(declared)
        of_env = ", ".join(there)
        yield Disagreement(f"{what}: {of_policy}", f"{what}: {of_env}")


def _compare_roles(
    policy: PolicySpec,
    env: EnvSpec,
    adapters: Adapters,
) -> Iterator[Disagreement]:
    for camera, role in (policy.camera_roles or {}).items():
        env_camera = adapters.env_camera(camera)
        if env_camera not in env.camera_names:
            continue  # a missing camera has been allowed
        there = find_role(env.name, env_camera)
        if there != role:
            of_policy = f"camera {camera!r}: {role}"
            of_env = f"its {env_camera!r}: {there}"
            yield Disagreement(of_policy, of_env, _advise_map(policy, env, adapters))
            return


def _advise_mode(
    policy: PolicySpec,
    env: EnvSpec,
    adapters: Adapters,
) -> str:
    if policy.action_mode == env.action.mode:
        return "Leave --policy-actions out."
    is_unadapted_delta = policy.action_mode == "delta" and adapters.policy_actions is None
    if is_unadapted_delta and fits_action_mode("delta", env):
        return (
            "If they are differences from the state of the prediction, give --policy-actions delta."
        )
    other = family_of(env.name).other_action_form(env.name, env.action)
    return f"Evaluate with {other}." if other else ""


def _advise_map(
    policy: PolicySpec,
    env: EnvSpec,
    adapters: Adapters,
) -> str:
    """Return the flag that pairs each camera with the environment's only one in its role, or ""."""
    not_depth = [camera for camera in env.camera_names if "depth" not in camera]
    pairs = {}
    for camera, role in (policy.camera_roles or {}).items():
        in_role = [each for each in not_depth if find_role(env.name, each) == role]
        if len(in_role) == 1:
            pairs[in_role[0]] = camera
    pairs = {env_camera: camera for env_camera, camera in pairs.items() if env_camera != camera}
    if not pairs or not is_accepted(pairs, policy, adapters, env.name, env.camera_names):
        return ""
    return f"Give --camera-map {format_camera_map(pairs)}."


def _describe_gripper(values: Sequence[float]) -> str:
    return f"gripper {values[0]:g} closed, {values[1]:g} open"
