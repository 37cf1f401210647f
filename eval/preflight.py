"""Compares policy and environment before the first step, and refuses a wrong number."""

from collections.abc import Sequence
from dataclasses import replace

from policies.adapters import Adapters, format_image_size
from policies.calibration import check_calibration
from policies.declared_policy import DeclaredPolicy
from policies.lerobot_types import LerobotType
from policies.native.native_types import NATIVE_TYPES, NativeType
from policies.plan_kinds import PlanKinds
from policies.policy import PolicySpec
from policies.registry import LEROBOT_TYPES, REMOTE_NAME, resolve_alias
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
        training: has the names of the policy's state and action, if the checkpoint says them.
    """
    adapters = adapters or Adapters()
    training = training or TrainingRecord()
    _check_widths(policy, env, adapters, training)
    _check_gripper_range(adapters)
    _check_has_gripper(env, adapters)
    _check_differences_once(policy, env, adapters)
    if adapters.calibration is not None:
        check_calibration(adapters.calibration, env)
    if adapters.wrong_instruction:
        _check_wrong_instruction(policy, env)
    if adapters.policy_actions is not None:
        _check_action_mode(adapters.policy_actions, env)


def _check_widths(
    policy: PolicySpec,
    env: EnvSpec,
    adapters: Adapters,
    training: TrainingRecord,
) -> None:
    """Raise unless state and action have the environment's widths, or may be padded and cut."""
    n_state = len(env.state_names)
    if not _fits(policy.state_dim, n_state, adapters):
        raise WhiskerError(
            f"state of {_subject(policy, env)}",
            expected=f"{n_state} numbers ({', '.join(env.state_names)})",
            got=f"a checkpoint that reads {policy.state_dim}{_listed(training.state_names)}",
            hint=_other_robot(policy, env, adapters),
        )
    n_action = env.action.dim
    if not _fits(policy.action_dim, n_action, adapters):
        raise WhiskerError(
            f"action chunk of {_subject(policy, env)}",
            expected=f"(horizon, {n_action}) ({', '.join(env.action.names)})",
            got=f"({policy.chunk_size}, {policy.action_dim}){_listed(training.action_names)}",
            hint=_other_robot(policy, env, adapters),
        )


def _fits(width: int | None, env_width: int, adapters: Adapters) -> bool:
    """Return whether a policy's width is the environment's, or wider with the rest as padding."""
    if width is None or width == env_width:
        return True
    return adapters.allow_padding and width > env_width


def _check_gripper_range(adapters: Adapters) -> None:
    closed, open_ = adapters.gripper_range or (0, 1)
    if closed == open_:
        raise WhiskerError(
            "--gripper-range",
            expected="two different values, for closed and for open",
            got=f"{closed:g} {open_:g}",
        )


def _check_has_gripper(env: EnvSpec, adapters: Adapters) -> None:
    """Raise if a gripper that the environment's tool does not have is adapted."""
    given = {
        "--gripper-range": adapters.gripper_range is not None,
        "--gripper-offset": adapters.gripper_offset != 0,
        "--gripper-min": adapters.gripper_min is not None,
    }
    flags = [flag for flag, is_given in given.items() if is_given]
    if env.action.gripper_index is None and flags:
        raise WhiskerError(
            f"{flags[0]} in {env.name!r}",
            expected="an environment whose tool has a gripper",
            got=f"actions without one ({', '.join(env.action.names)})",
            hint=f"Leave {' and '.join(flags)} out.",
        )


def _check_differences_once(
    policy: PolicySpec,
    env: EnvSpec,
    adapters: Adapters,
) -> None:
    """Raise if the state would be added to the plan twice."""
    plans_targets = policy.action_mode == "absolute" and env.action.mode == "absolute"
    if adapters.policy_actions == "delta" and plans_targets:
        raise WhiskerError(
            f"--policy-actions delta of {_subject(policy, env)}",
            expected="a checkpoint that plans differences from the state",
            got="one whose postprocessor (absolute_actions_processor) adds the state itself: it "
            "would be added twice",
            hint="Leave --policy-actions out.",
        )


def _subject(policy: PolicySpec, env: EnvSpec) -> str:
    return f"policy {policy.type!r} ({policy.checkpoint}) in {env.name!r}"


def check_image_size(
    policy: PolicySpec | DeclaredPolicy,
    adapters: Adapters,
    training: TrainingRecord,
) -> None:
    """Raise if the network cannot take images of the size that the user asked for."""
    size = adapters.image_size
    declared = sorted(set(policy.image_sizes.values()))
    if size is not None and training.needs_declared_size and declared != [size]:
        sizes = " and ".join(map(format_image_size, declared))
        raise WhiskerError(
            f"--image-size of policy {policy.type!r} ({policy.checkpoint})",
            expected=f"{sizes}, which its layers need",
            got=format_image_size(size),
            hint="Leave --image-size out.",
        )


def _check_wrong_instruction(policy: PolicySpec, env: EnvSpec) -> None:
    if not env.instructions:
        expected = (
            "an environment whose episodes have several instructions, such as "
            "so101/pick_place_words"
        )
        got = "one instruction for all"
    elif not policy.reads_instruction:
        expected = "a policy that reads its instruction"
        got = "one that does not"
    else:
        return
    raise WhiskerError(
        f"--wrong-instruction of policy {policy.type!r} in {env.name!r}",
        expected=expected,
        got=got,
        hint="Leave --wrong-instruction out.",
    )


def check_alike(first: EnvSpec, other: EnvSpec) -> None:
    """Raise unless two tasks of a suite have the same cameras, state and actions."""
    others = _interface(other)
    for part, expected in _interface(first).items():
        if others[part] != expected:
            raise WhiskerError(
                f"{part} of {other.name!r}",
                expected=f"{expected}, as in {first.name!r}",
                got=str(others[part]),
            )


def _interface(spec: EnvSpec) -> dict[str, object]:
    """Return the parts of what a policy sees and sends."""
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
    """Raise unless the environment takes such actions, or they can be converted.

    Differences can be added to a state of the same numbers; nothing else is converted.
    """
    action = env.action
    if policy_actions == action.mode:
        return
    other_form = family_of(env.name).other_action_form(env.name, action)
    hint = ""
    if action.mode == "delta":
        expected = "an environment of targets"
        got = "one that takes differences"
        hint = "It has no absolute form."
        if other_form:
            hint = f"Evaluate in its absolute form: {other_form}."
    elif action.rotation != "none":
        expected = "joints"
        got = f"rotations as {action.rotation}"
        hint = "Rotations do not add."
        if other_form:
            hint += f" Evaluate in the environment's form that takes differences: {other_form}."
    elif env.state_names != action.names:
        expected = "a state of the same numbers as the action"
        got = ", ".join(env.state_names)
    else:
        return
    subject = f"--policy-actions {policy_actions} in {env.name!r}"
    raise WhiskerError(subject, expected=expected, got=got, hint=hint)


def resolve_n_action_steps(policy: PolicySpec, asked: int | None) -> int:
    """Return how many actions of a chunk are executed: as asked, else as the checkpoint says."""
    if asked is None:
        subject = f"checkpoint {policy.checkpoint!r}, n_action_steps"
        hint = "Say with --n-action-steps how many are to be executed."
        _check_n_action_steps(policy, policy.n_action_steps, subject, hint)
        return policy.n_action_steps
    check_asked_action_steps(policy, asked)
    return asked


def check_asked_action_steps(policy: PolicySpec | DeclaredPolicy, asked: int) -> None:
    """Raise if --n-action-steps is known to be more than the policy plans."""
    _check_n_action_steps(policy, asked, "--n-action-steps", "")


def _check_n_action_steps(
    policy: PolicySpec | DeclaredPolicy,
    n_action_steps: int,
    subject: str,
    hint: str,
) -> None:
    most = policy.max_action_steps
    if most is None or 1 <= n_action_steps <= most:
        return
    why = "the chunk's length"
    if most != policy.chunk_size:
        why = "this policy predicts at every step"
    raise WhiskerError(
        subject,
        expected=f"1 to {most} ({why})",
        got=str(n_action_steps),
        hint=hint,
    )


def check_batch(policy_type: str, n_rows: int) -> None:
    """Raise if plans should be made in batches for which the rows of one could change another.

    Args:
        policy_type: as `PolicySpec.type` has it.
        n_rows: plans that one forward pass makes.
    """
    if n_rows == 1:
        return
    types: dict[str, LerobotType | NativeType] = {**LEROBOT_TYPES, **NATIVE_TYPES}
    row = types.get(resolve_alias(policy_type))
    alone = row.plans_alone if row is not None else "one that is not of lerobot"
    if policy_type == REMOTE_NAME:
        alone = "one behind a server, which gets one observation at a time"
    if alone:
        batched = [name for name, row in types.items() if not row.plans_alone]
        raise WhiskerError(
            f"--batch {n_rows} of policy {policy_type!r}",
            expected=f"a policy that plans for several episodes at once: {', '.join(batched)}",
            got=alone,
            hint="Leave --batch out.",
        )


def check_records(
    policy: PolicySpec | PlanKinds,
    n_samples: int,
    intermediate_plans: bool,
) -> None:
    """Raise unless the policy has what is to be recorded besides its plans.

    Args:
        n_samples: plans a prediction, the executed one included.
    """
    checkpoint = f" ({policy.checkpoint})" if policy.checkpoint else ""
    name = f"policy {policy.type!r}{checkpoint}"
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
            expected="a policy that denoises its plans by flow matching, or averages them by "
            "temporal ensembling",
            got="one that does neither",
            hint="Leave --intermediate-plans out.",
        )


def _other_robot(policy: PolicySpec, env: EnvSpec, adapters: Adapters) -> str:
    """Return advice on another width. It names --allow-padding only if that would be accepted."""
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
