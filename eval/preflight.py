"""What is compared before the first step: a number that would be wrong is not computed."""

from policies.policy import PolicySpec
from sim.errors import WhiskerError
from sim.spec import EnvSpec


def check_fit(policy: PolicySpec, env: EnvSpec) -> None:
    """Raise unless the policy reads what the environment shows and sends what it takes."""
    subject = f"policy {policy.type!r} ({policy.checkpoint}) in {env.name!r}"
    do = "The checkpoint was trained for another robot or another setup."
    if policy.state_dim not in (None, len(env.state_names)):
        raise WhiskerError(
            f"state of {subject}",
            expected=f"{len(env.state_names)} numbers ({', '.join(env.state_names)})",
            got=f"a checkpoint that reads {policy.state_dim}",
            do=do,
        )
    if policy.action_dim not in (None, env.action.dim):
        raise WhiskerError(
            f"action chunk of {subject}",
            expected=f"(horizon, {env.action.dim}) ({', '.join(env.action.names)})",
            got=f"({policy.chunk_size}, {policy.action_dim})",
            do=do,
        )


def resolve_n_action_steps(policy: PolicySpec, asked: int | None) -> int:
    """How many actions of a chunk are executed: as asked, else as the checkpoint says."""
    n_action_steps = policy.n_action_steps if asked is None else asked
    most = policy.max_action_steps
    if not 1 <= n_action_steps <= most:
        why = "the chunk's length" if most == policy.chunk_size else "this policy predicts at every step"
        raise WhiskerError("--n-action-steps", expected=f"1 to {most} ({why})", got=str(n_action_steps))
    return n_action_steps
