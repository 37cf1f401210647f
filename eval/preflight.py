"""What is compared before the first step: a number that would be wrong is not computed."""

import itertools
from collections.abc import Sequence

from policies.adapters import Adapters
from policies.policy import PolicySpec
from sim.errors import WhiskerError
from sim.spec import EnvSpec

# Words in the names of cameras that look alike.
_ON_THE_HAND = ("wrist", "hand", "gripper")


def select_cameras(
    policy: PolicySpec, adapters: Adapters, env_name: str, env_cameras: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """The environment's cameras to observe → (height_px, width_px), as the policy wants to look through them.

    Args:
        env_cameras: all that the environment has.

    Raises:
        WhiskerError: a camera is not there; proposes a map where one is obvious.
    """
    subject = f"cameras of policy {policy.type!r} ({policy.checkpoint}) in {env_name!r}"
    unknown = sorted(set(adapters.camera_map.values()) - policy.image_sizes.keys())
    if unknown:
        known = ", ".join(policy.image_sizes) or "none"
        raise WhiskerError("--camera-map", expected=f"the policy's cameras: {known}", got=", ".join(unknown))
    _check_each_camera_is_one(policy, adapters, env_name, env_cameras)
    wanted = {adapters.env_camera(camera): size for camera, size in policy.image_sizes.items()}
    missing = [camera for camera in wanted if camera not in env_cameras]
    if not missing or (adapters.allow_missing_camera and len(missing) < len(wanted)):
        return {camera: size for camera, size in wanted.items() if camera in env_cameras}
    proposal = propose_camera_map(list(policy.image_sizes), env_cameras)
    map_it = ",".join(f"{env}={policy}" for env, policy in proposal.items()) or "env=policy"
    go_without = "" if adapters.allow_missing_camera else ", or go without with --allow-missing-camera"
    raise WhiskerError(
        subject,
        expected=", ".join(policy.image_sizes),
        got=", ".join(env_cameras),
        do=f"Say which is which with --camera-map {map_it}{go_without}.",
    )


def _check_each_camera_is_one(
    policy: PolicySpec, adapters: Adapters, env_name: str, env_cameras: Sequence[str]
) -> None:
    """No misspelt name passes for a camera that is missing, and none is two of the policy's: the second were black."""
    strange = sorted(adapters.camera_map.keys() - set(env_cameras))
    if strange:
        expected = f"cameras of {env_name!r}: {', '.join(env_cameras)}"
        raise WhiskerError("--camera-map", expected=expected, got=", ".join(strange))
    for camera in policy.image_sizes:
        if camera in adapters.camera_map and adapters.env_camera(camera) == camera:
            raise WhiskerError(
                "--camera-map",
                expected=f"one of the environment's cameras for the policy's {camera!r} too",
                got=f"{camera}={adapters.camera_map[camera]}, which takes the one of that name",
            )


def propose_camera_map(policy_cameras: Sequence[str], env_cameras: Sequence[str]) -> dict[str, str]:
    """The pairs that the names make obvious: the same name, the only one on the hand, the only one that is not.

    A name with "depth" in it is paired with a depth camera, and no other name is.
    """
    pairs = {camera: camera for camera in policy_cameras if camera in env_cameras}
    for on_hand, depth in itertools.product((True, False), (False, True)):
        kind = on_hand, depth
        ours = [c for c in env_cameras if c not in pairs and (_is_on_hand(c), "depth" in c) == kind]
        theirs = [c for c in policy_cameras if c not in pairs.values() and (_is_on_hand(c), "depth" in c) == kind]
        if len(ours) == 1 and theirs:
            pairs[ours[0]] = theirs[0]
    return pairs


def check_fit(policy: PolicySpec, env: EnvSpec, adapters: Adapters | None = None) -> None:
    """Raise unless the policy reads what the environment shows and sends what it takes, as adapted."""
    adapters = adapters or Adapters()
    subject = f"policy {policy.type!r} ({policy.checkpoint}) in {env.name!r}"
    if policy.type == "xvla" and env.name.startswith("libero"):
        # lerobot/policies/xvla/processor_xvla.py, make_xvla_libero_pre_post_processors
        raise WhiskerError(
            subject,
            expected="X-VLA's own LIBERO processors (a state of 20 numbers, rotations as 6D, image2 not turned)",
            got="LIBERO's common ones",
            do="They are not built yet; the number would be wrong.",
        )
    n_state, n_action = len(env.state_names), env.action.dim
    pads_state = adapters.allow_padding and (policy.state_dim or 0) > n_state
    if policy.state_dim not in (None, n_state) and not pads_state:
        raise WhiskerError(
            f"state of {subject}",
            expected=f"{n_state} numbers ({', '.join(env.state_names)})",
            got=f"a checkpoint that reads {policy.state_dim}",
            do=_other_robot((policy.state_dim or 0) > n_state),
        )
    cuts_action = adapters.allow_padding and (policy.action_dim or 0) > n_action
    if policy.action_dim not in (None, n_action) and not cuts_action:
        raise WhiskerError(
            f"action chunk of {subject}",
            expected=f"(horizon, {n_action}) ({', '.join(env.action.names)})",
            got=f"({policy.chunk_size}, {policy.action_dim})",
            do=_other_robot((policy.action_dim or 0) > n_action),
        )
    if adapters.gripper_range and adapters.gripper_range[0] == adapters.gripper_range[1]:
        got = " ".join(f"{value:g}" for value in adapters.gripper_range)
        raise WhiskerError("--gripper-range", expected="two different values, for closed and for open", got=got)
    if adapters.policy_actions == "delta" and policy.action_mode == "absolute" and env.action.mode == "absolute":
        raise WhiskerError(
            f"--policy-actions delta of {subject}",
            expected="a checkpoint that plans differences from the state",
            got="one whose postprocessor (absolute_actions_processor) adds the state itself: it would be added twice",
            do="Leave --policy-actions out.",
        )
    if adapters.policy_actions is not None:
        _check_action_mode(adapters.policy_actions, env)


def check_alike(first: EnvSpec, other: EnvSpec) -> None:
    """Raise unless what runs in one task of a suite runs in another: the same cameras, state and actions."""
    expected, got = _interface(first), _interface(other)
    for part in expected:
        if expected[part] != got[part]:
            raise WhiskerError(
                f"{part} of {other.name!r}", expected=f"{expected[part]}, as in {first.name!r}", got=str(got[part])
            )


def _interface(spec: EnvSpec) -> dict[str, object]:
    """What a policy sees and sends, part by part."""
    cameras = [f"{camera.name} {camera.width_px}x{camera.height_px}" for camera in spec.cameras]
    action = {f"action's {name}": value for name, value in vars(spec.action).items()}
    state = {"state": spec.state_names, "state's units": spec.state_units}
    return {"cameras": cameras, **state, **action, "control step": spec.control_dt_s}


def _check_action_mode(policy_actions: str, env: EnvSpec) -> None:
    """Differences can be added to a state of the same numbers; nothing else is converted."""
    subject, spec = f"--policy-actions {policy_actions} in {env.name!r}", env.action
    if policy_actions == spec.mode:
        return
    if spec.mode == "delta":
        do = "Evaluate in the environment's absolute form (LIBERO: --control absolute)."
        raise WhiskerError(subject, expected="an environment of targets", got="one that takes differences", do=do)
    if spec.rotation != "none":
        do = "Rotations do not add: evaluate in the environment's _delta form (LIBERO: --control relative)."
        raise WhiskerError(subject, expected="joints", got=f"rotations as {spec.rotation}", do=do)
    if env.state_names != spec.names:
        raise WhiskerError(
            subject, expected="a state of the same numbers as the action", got=", ".join(env.state_names)
        )


def resolve_n_action_steps(policy: PolicySpec, asked: int | None) -> int:
    """How many actions of a chunk are executed: as asked, else as the checkpoint says."""
    n_action_steps = policy.n_action_steps if asked is None else asked
    most = policy.max_action_steps
    if not 1 <= n_action_steps <= most:
        why = "the chunk's length" if most == policy.chunk_size else "this policy predicts at every step"
        raise WhiskerError("--n-action-steps", expected=f"1 to {most} ({why})", got=str(n_action_steps))
    return n_action_steps


def check_records(policy: PolicySpec, n_samples: int, drafts: bool) -> None:
    """Raise unless the policy has what is to be recorded besides its plans.

    Args:
        n_samples: plans a prediction, the executed one included.
    """
    name = f"policy {policy.type!r}" + (f" ({policy.checkpoint})" if policy.checkpoint else "")
    if n_samples > 1 and not policy.can_sample:
        raise WhiskerError(
            f"--samples {n_samples} of {name}",
            expected="a policy that can plan in more than one way",
            got="one that has a single plan for what it sees",
            do="Leave --samples out.",
        )
    if drafts and policy.drafts == "none":
        raise WhiskerError(
            f"--drafts of {name}",
            expected="a policy that denoises its plans by flow matching, or averages them by temporal ensembling",
            got="one that does neither",
            do="Leave --drafts out.",
        )


def _other_robot(is_wider: bool) -> str:
    padding = " If the rest is padding, say so with --allow-padding." if is_wider else ""
    return f"The checkpoint was trained for another robot or another setup.{padding}"


def _is_on_hand(camera: str) -> bool:
    return any(word in camera for word in _ON_THE_HAND)
