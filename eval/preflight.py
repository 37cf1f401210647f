"""What is compared before the first step: a number that would be wrong is not computed."""

from collections.abc import Sequence
from dataclasses import replace

from policies.adapters import Adapters, format_image_size
from policies.calibration import check_calibration
from policies.declared_policy import DeclaredPolicy
from policies.plan_kinds import PlanKinds
from policies.policy import PolicySpec
from policies.training_record import TrainingRecord
from sim.errors import WhiskerError
from sim.registry import family_of
from sim.spec import EnvSpec


def check_fit(
    policy: PolicySpec,
    env: EnvSpec,
    adapters: Adapters | None = None,
    training: TrainingRecord | None = None,
) -> None:
    """Raise unless the policy reads what the environment shows and sends what it takes, as adapted.

    Args:
        training: tells the names of the policy's numbers, where it knows them.
    """
    adapters, training = adapters or Adapters(), training or TrainingRecord()
    subject = f"policy {policy.type!r} ({policy.checkpoint}) in {env.name!r}"
    refused = family_of(env.name).refused_policies.get(policy.type)
    if refused is not None:
        raise refused.as_error(subject)
    n_state, n_action = len(env.state_names), env.action.dim
    pads_state = adapters.allow_padding and (policy.state_dim or 0) > n_state
    if policy.state_dim not in (None, n_state) and not pads_state:
        raise WhiskerError(
            f"state of {subject}",
            expected=f"{n_state} numbers ({', '.join(env.state_names)})",
            got=f"a checkpoint that reads {policy.state_dim}{_listed(training.state_names)}",
            hint=_other_robot(policy, env, adapters),
        )
    cuts_action = adapters.allow_padding and (policy.action_dim or 0) > n_action
    if policy.action_dim not in (None, n_action) and not cuts_action:
        raise WhiskerError(
            f"action chunk of {subject}",
            expected=f"(horizon, {n_action}) ({', '.join(env.action.names)})",
            got=f"({policy.chunk_size}, {policy.action_dim}){_listed(training.action_names)}",
            hint=_other_robot(policy, env, adapters),
        )
    if adapters.gripper_range and adapters.gripper_range[0] == adapters.gripper_range[1]:
        got = " ".join(f"{value:g}" for value in adapters.gripper_range)
        raise WhiskerError(
            "--gripper-range", expected="two different values, for closed and for open", got=got
        )
    if (
        adapters.policy_actions == "delta"
        and policy.action_mode == "absolute"
        and env.action.mode == "absolute"
    ):
        raise WhiskerError(
            f"--policy-actions delta of {subject}",
            expected="a checkpoint that plans differences from the state",
            got="one whose postprocessor (absolute_actions_processor) adds the state itself: it would be added twice",
            hint="Leave --policy-actions out.",
        )
    if adapters.calibration is not None:
        check_calibration(adapters.calibration, env)
    if adapters.wrong_instruction:
        _check_wrong_instruction(policy, env)
    if adapters.policy_actions is not None:
        _check_action_mode(adapters.policy_actions, env)


def check_image_size(
    policy: PolicySpec | DeclaredPolicy, adapters: Adapters, training: TrainingRecord
) -> None:
    """Raise if the network cannot take images of the size that the user asked for."""
    size = adapters.image_size
    declared = set(policy.image_sizes.values())
    if size is not None and training.needs_declared_size and declared - {size}:
        raise WhiskerError(
            f"--image-size of policy {policy.type!r} ({policy.checkpoint})",
            expected=" and ".join(format_image_size(one) for one in sorted(declared))
            + ", which its layers need",
            got=format_image_size(size),
            hint="Leave --image-size out.",
        )


def _check_wrong_instruction(policy: PolicySpec, env: EnvSpec) -> None:
    subject, hint = (
        f"--wrong-instruction of policy {policy.type!r} in {env.name!r}",
        "Leave --wrong-instruction out.",
    )
    if not env.instructions:
        expected = "an environment whose episodes have several instructions, such as so101/pick_place_words"
        raise WhiskerError(subject, expected=expected, got="one instruction for all", hint=hint)
    if not policy.reads_instruction:
        raise WhiskerError(
            subject,
            expected="a policy that reads its instruction",
            got="one that does not",
            hint=hint,
        )


def check_alike(first: EnvSpec, other: EnvSpec) -> None:
    """Raise unless what runs in one task of a suite runs in another: the same cameras, state and actions."""
    expected, got = _interface(first), _interface(other)
    for part in expected:
        if expected[part] != got[part]:
            raise WhiskerError(
                f"{part} of {other.name!r}",
                expected=f"{expected[part]}, as in {first.name!r}",
                got=str(got[part]),
            )


def _interface(spec: EnvSpec) -> dict[str, object]:
    """What a policy sees and sends, part by part."""
    cameras = [f"{camera.name} {camera.width_px}x{camera.height_px}" for camera in spec.cameras]
    action = {f"action's {name}": value for name, value in vars(spec.action).items()}
    state = {"state": spec.state_names, "state's units": spec.state_units}
    return {"cameras": cameras, **state, **action, "control step": spec.control_dt_s}


def fits_action_mode(policy_actions: str, env: EnvSpec) -> bool:
    """Return whether `--policy-actions` can have that value in this environment."""
    try:
        _check_action_mode(policy_actions, env)
    except WhiskerError:
        return False
    return True


def _check_action_mode(policy_actions: str, env: EnvSpec) -> None:
    """Differences can be added to a state of the same numbers; nothing else is converted."""
    subject, spec = f"--policy-actions {policy_actions} in {env.name!r}", env.action
    if policy_actions == spec.mode:
        return
    other_form = family_of(env.name).other_action_form(env.name, spec)
    if spec.mode == "delta":
        hint = (
            f"Evaluate in its absolute form: {other_form}."
            if other_form
            else "It has no absolute form."
        )
        raise WhiskerError(
            subject,
            expected="an environment of targets",
            got="one that takes differences",
            hint=hint,
        )
    if spec.rotation != "none":
        hint = "Rotations do not add."
        hint += (
            f" Evaluate in the environment's form that takes differences: {other_form}."
            if other_form
            else ""
        )
        raise WhiskerError(
            subject, expected="joints", got=f"rotations as {spec.rotation}", hint=hint
        )
    if env.state_names != spec.names:
        raise WhiskerError(
            subject,
            expected="a state of the same numbers as the action",
            got=", ".join(env.state_names),
        )


def resolve_n_action_steps(policy: PolicySpec, asked: int | None) -> int:
    """How many actions of a chunk are executed: as asked, else as the checkpoint says."""
    if asked is None:
        subject = f"checkpoint {policy.checkpoint!r}, n_action_steps"
        hint = "Say how many are to be executed: --n-action-steps."
        _check_n_action_steps(policy, policy.n_action_steps, subject, hint)
        return policy.n_action_steps
    check_asked_action_steps(policy, asked)
    return asked


def check_asked_action_steps(policy: PolicySpec | DeclaredPolicy, asked: int) -> None:
    """Raise if --n-action-steps is known to be more than the policy plans."""
    _check_n_action_steps(policy, asked, "--n-action-steps", "")


def _check_n_action_steps(
    policy: PolicySpec | DeclaredPolicy, n_action_steps: int, subject: str, hint: str
) -> None:
    most = policy.max_action_steps
    if most is not None and not 1 <= n_action_steps <= most:
        why = (
            "the chunk's length"
            if most == policy.chunk_size
            else "this policy predicts at every step"
        )
        raise WhiskerError(
            subject, expected=f"1 to {most} ({why})", got=str(n_action_steps), hint=hint
        )


def check_records(policy: PolicySpec | PlanKinds, n_samples: int, intermediate_plans: bool) -> None:
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
            hint="Leave --samples out.",
        )
    if intermediate_plans and policy.intermediate_plans == "none":
        raise WhiskerError(
            f"--intermediate-plans of {name}",
            expected="a policy that denoises its plans by flow matching, or averages them by temporal ensembling",
            got="one that does neither",
            hint="Leave --intermediate-plans out.",
        )


def _other_robot(policy: PolicySpec, env: EnvSpec, adapters: Adapters) -> str:
    """Return what to do about another width; names --allow-padding only where that is then accepted."""
    hint = "The checkpoint was trained for another robot or another setup."
    if adapters.allow_padding:
        return hint
    try:
        check_fit(policy, env, replace(adapters, allow_padding=True))
    except WhiskerError:
        return hint
    return f"{hint} If the rest is padding, say so with --allow-padding."


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
