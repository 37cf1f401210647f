"""Reads the commands for a branch, and says which of them a policy cannot follow."""

from collections.abc import Sequence

from eval.branches import Overrides
from policies.policy import PolicySpec
from sim.errors import WhiskerError


def explain_unusable(policy: PolicySpec) -> dict[str, str]:
    """Return what this policy cannot do in a branch, and why: by field, or "branch" for all of it."""
    name = policy.type
    reasons = {}
    if policy.follows_env:
        # Its plan is kept beside the environment's state, where no snapshot reaches it.
        reasons["branch"] = (
            f"{name} cannot go back to a decision: what it planned is not in the environment's state."
        )
    if not policy.stochastic:
        reasons["seed"] = f"{name} draws nothing: its plan is the same with every seed."
    elif policy.seedable is False:
        reasons["seed"] = f"{name} draws from generators of its own, which no seed sets."
    if not policy.reads_instruction:
        reasons["instruction"] = f"{name} does not read the instruction."
    if most_action_steps(policy) == 1:
        reasons["n_action_steps"] = f"{name} plans anew at every step."
    if not policy.image_sizes:
        reasons["blinded"] = f"{name} does not look."
    return reasons


def most_action_steps(policy: PolicySpec) -> int:
    """Return how many actions of a plan can be executed at most."""
    return min(policy.max_action_steps, policy.chunk_size)


def check_can_go_back(policy: PolicySpec) -> None:
    """Raise if the policy cannot be put back to a decision, or to another episode."""
    if policy.follows_env:
        raise WhiskerError(
            f"policy {policy.type!r}",
            expected="one that can go back to a decision, or to another episode",
            hint="What it planned is kept beside the environment's state. Reset instead.",
        )


def parse_branch(
    command: dict, policy: PolicySpec, cameras: Sequence[str], n_decisions: int
) -> tuple[int, Overrides]:
    """Return the index of the prediction that is to be made anew, and what is to be otherwise from there on.

    Args:
        command: as the page sends it.
        cameras: that the policy looks through.
        n_decisions: of the episode that is left.

    Raises:
        WhiskerError: there is no such prediction, or this policy cannot do that.
    """
    check_can_go_back(policy)
    prediction, seed = read_integer(command, "prediction"), read_integer(command, "seed", 0)
    n_action_steps = (
        None if command.get("n_action_steps") is None else read_integer(command, "n_action_steps")
    )
    instruction, blinded = command.get("instruction") or None, tuple(command.get("blinded") or ())
    most = most_action_steps(policy)
    wrong = [
        (not 0 <= prediction < n_decisions, f"prediction {prediction}", f"0 to {n_decisions - 1}"),
        (seed < 0, f"seed {seed}", "0 or more"),
        (
            n_action_steps is not None and not 1 <= n_action_steps <= most,
            "n_action_steps",
            f"1 to {most}",
        ),
        (
            not set(blinded) <= set(cameras),
            "the blinded cameras",
            ", ".join(cameras) or "none: it does not look",
        ),
        (
            bool(seed) and not policy.stochastic,
            "another seed",
            "a policy that draws; this one does not",
        ),
        (
            bool(instruction) and not policy.reads_instruction,
            "another instruction",
            "a policy that reads it",
        ),
    ]
    for is_wrong, subject, expected in wrong:
        if is_wrong:
            raise WhiskerError(subject, expected=expected)
    return prediction, Overrides(seed, n_action_steps, instruction, blinded)


def read_integer(command: dict, name: str, default: int | None = None) -> int:
    """Return a number of a command.

    Raises:
        WhiskerError: it is none.
    """
    value = command.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise WhiskerError(name, expected="an integer", got=repr(value))
    return value
