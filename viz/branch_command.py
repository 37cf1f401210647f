"""Reads branch commands from the page, and says which of them a policy does not support."""

from collections.abc import Sequence

from eval.branches import Overrides
from policies.policy import PolicySpec
from sim.errors import WhiskerError


def explain_unusable(policy: PolicySpec) -> dict[str, str]:
    """Return what this policy does not support in a branch, as field → reason.

    The field "branch" means that the policy supports no branch at all.
    """
    name = policy.type
    reasons = {}
    if policy.follows_env:
        # The policy keeps its plan outside the environment, where no snapshot restores it.
        reasons["branch"] = (
            f"{name} cannot go back to a decision: its plan is not part of the environment's state."
        )
    if not policy.stochastic:
        reasons["seed"] = f"{name} is deterministic: its plan is the same with every seed."
    elif policy.seedable is False:
        reasons["seed"] = f"{name} draws noise from its own generators, which no seed sets."
    if not policy.reads_instruction:
        reasons["instruction"] = f"{name} does not read the instruction."
    if max_action_steps(policy) == 1:
        reasons["n_action_steps"] = f"{name} predicts a new plan at every step."
    if not policy.image_sizes:
        reasons["blinded"] = f"{name} uses no camera."
    return reasons


def max_action_steps(policy: PolicySpec) -> int:
    """Return the largest number of actions of a plan that can be executed."""
    return min(policy.max_action_steps, policy.chunk_size)


def check_can_go_back(policy: PolicySpec) -> None:
    """Raise if the policy cannot be reset to a decision, or to another episode."""
    if policy.follows_env:
        raise WhiskerError(
            f"policy {policy.type!r}",
            expected="a policy that can go back to a decision, or to another episode",
            hint="Its plan is not part of the environment's state. Reset instead.",
        )


def parse_branch(
    command: dict,
    policy: PolicySpec,
    cameras: Sequence[str],
    n_decisions: int,
) -> tuple[int, Overrides]:
    """Return the index of the prediction to repeat, and the overrides from there on.

    Args:
        command: the command, as the page sends it.
        cameras: the cameras that the policy uses.
        n_decisions: the number of decisions of the episode that the branch leaves.

    Raises:
        WhiskerError: there is no such prediction, or the policy does not support the overrides.
    """
    check_can_go_back(policy)
    prediction = read_integer(command, "prediction")
    seed = read_integer(command, "seed", 0)
    n_action_steps = None
    if command.get("n_action_steps") is not None:
        n_action_steps = read_integer(command, "n_action_steps")
    instruction = command.get("instruction") or None
    blinded = tuple(command.get("blinded") or ())
    last = n_decisions - 1
    if not 0 <= prediction <= last:
        raise WhiskerError(f"prediction {prediction}", expected=f"0 to {last}")
    overrides = Overrides(seed, n_action_steps, instruction, blinded)
    _check_overrides(overrides, policy, cameras)
    return prediction, overrides


def _check_overrides(
    overrides: Overrides,
    policy: PolicySpec,
    cameras: Sequence[str],
) -> None:
    if overrides.seed < 0:
        raise WhiskerError(f"seed {overrides.seed}", expected="0 or more")
    n_action_steps = overrides.n_action_steps
    most = max_action_steps(policy)
    if n_action_steps is not None and not 1 <= n_action_steps <= most:
        raise WhiskerError("n_action_steps", expected=f"1 to {most}")
    if not set(overrides.blinded) <= set(cameras):
        known = ", ".join(cameras) or "none: the policy uses no camera"
        raise WhiskerError("the blinded cameras", expected=known)
    if overrides.seed and not policy.stochastic:
        raise WhiskerError(
            "another seed",
            expected="a stochastic policy",
            got="a deterministic one",
        )
    if overrides.instruction and not policy.reads_instruction:
        raise WhiskerError("another instruction", expected="a policy that reads the instruction")


def read_integer(
    command: dict,
    name: str,
    default: int | None = None,
) -> int:
    """Return an integer field of a command.

    Raises:
        WhiskerError: the field is not an integer.
    """
    value = command.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WhiskerError(name, expected="an integer", got=repr(value))
    return value
