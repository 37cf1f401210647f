"""Compares the conventions that a policy declares with the environment's, field by field, before anything runs."""

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
    """One convention in which the two sides differ, in words, and a flag or an environment that mends it."""

    of_policy: str
    of_env: str
    hint: str = ""


def check_conventions(policy: PolicySpec, env: EnvSpec, adapters: Adapters) -> None:
    """Raise if the policy declares conventions that are not the environment's, as adapted; all of them are named.

    Raises:
        WhiskerError: the numbers of one side would mean something else on the other.
    """
    found = list(find_disagreements(policy, env, adapters))
    if found:
        raise WhiskerError(
            f"conventions of policy {policy.type!r} in {env.name!r}",
            expected=f"what the environment has ({'; '.join(each.of_env for each in found)})",
            got=f"what the policy declares ({'; '.join(each.of_policy for each in found)})",
            hint=" ".join(each.hint for each in found if each.hint),
        )


def find_disagreements(
    policy: PolicySpec, env: EnvSpec, adapters: Adapters
) -> Iterator[Disagreement]:
    """Yield the conventions in which the two sides differ.

    What the policy does not declare agrees.
    """
    action = env.action
    mode = adapters.policy_actions or action.mode
    if policy.action_mode not in (None, mode):
        advice = _advise_mode(policy, env, adapters)
        yield Disagreement(f"{policy.action_mode} actions", f"{mode} actions", advice)
    if policy.rotation not in (None, action.rotation):
        yield Disagreement(f"rotation {policy.rotation!r}", f"rotation {action.rotation!r}")
    if policy.rotation_frame not in (None, action.rotation_frame):
        yield Disagreement(
            f"rotation frame {policy.rotation_frame!r}", f"rotation frame {action.rotation_frame!r}"
        )
    gripper = adapters.gripper_range or (action.gripper_closed, action.gripper_open)
    if policy.gripper_range is not None and tuple(policy.gripper_range) != tuple(gripper):
        closed, opened = policy.gripper_range
        advice = f"Give --gripper-range {closed:g} {opened:g}." if closed != opened else ""
        yield Disagreement(
            _describe_gripper(policy.gripper_range), _describe_gripper(gripper), advice
        )
    yield from _compare_lists("state", policy.state_names, env.state_names, adapters)
    yield from _compare_lists("units of the state", policy.state_units, env.state_units, adapters)
    yield from _compare_roles(policy, env, adapters)


def _compare_lists(
    what: str, declared: Sequence[str] | None, there: Sequence[str], adapters: Adapters
) -> Iterator[Disagreement]:
    """Compare one entry a number of the state; those by which the policy's is wider are padding, if that is allowed."""
    if declared is not None and adapters.allow_padding:
        declared = declared[: len(there)]
    if declared is not None and tuple(declared) != tuple(there):
        yield Disagreement(f"{what}: {', '.join(declared)}", f"{what}: {', '.join(there)}")


def _compare_roles(policy: PolicySpec, env: EnvSpec, adapters: Adapters) -> Iterator[Disagreement]:
    for camera, role in (policy.camera_roles or {}).items():
        env_camera = adapters.env_camera(camera)
        if env_camera not in env.camera_names:
            continue  # it is missing, which was allowed
        there = find_role(env.name, env_camera)
        if there != role:
            advice = _advise_map(policy, env, adapters)
            yield Disagreement(f"camera {camera!r}: {role}", f"its {env_camera!r}: {there}", advice)
            return


def _advise_mode(policy: PolicySpec, env: EnvSpec, adapters: Adapters) -> str:
    if policy.action_mode == env.action.mode:
        return "Leave --policy-actions out."
    if (
        policy.action_mode == "delta"
        and adapters.policy_actions is None
        and fits_action_mode("delta", env)
    ):
        return (
            "If they are differences from the state of the prediction, give --policy-actions delta."
        )
    other = family_of(env.name).other_action_form(env.name, env.action)
    return f"Evaluate with {other}." if other else ""


def _advise_map(policy: PolicySpec, env: EnvSpec, adapters: Adapters) -> str:
    """Return the flag that pairs each camera with the only one of the environment in its role, "" if none does."""
    pairs = {}
    for camera, role in (policy.camera_roles or {}).items():
        shown = [
            each
            for each in env.camera_names
            if "depth" not in each and find_role(env.name, each) == role
        ]
        if len(shown) == 1:
            pairs[shown[0]] = camera
    pairs = {env_camera: camera for env_camera, camera in pairs.items() if env_camera != camera}
    if not pairs or not is_accepted(pairs, policy, adapters, env.name, env.camera_names):
        return ""
    return f"Give --camera-map {format_camera_map(pairs)}."


def _describe_gripper(values: Sequence[float]) -> str:
    return f"gripper {values[0]:g} closed, {values[1]:g} open"
