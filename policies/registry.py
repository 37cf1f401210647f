"""Policies by name. Light: nothing is imported before a policy is asked for."""

from pathlib import Path

from policies.lerobot_types import ALIASES, LEROBOT_TYPES
from sim.errors import UnknownNameError

BASELINE_NAMES = ("zero", "random", "scripted", "replay")

CHECKPOINT_FOLDER = Path(__file__).parent / "checkpoints"


def default_checkpoint(policy_type: str, env: str | None = None) -> str | None:
    """Return what a policy type loads in an environment if nobody names a checkpoint; None: nothing.

    Args:
        env: its name; None: not known, and then a shipped checkpoint is taken before a published one.
    """
    row = LEROBOT_TYPES.get(policy_type)
    if row is None:
        return None
    shipped = row.shipped if env is None or env.startswith("so101/") else None
    return shipped or row.published


def resolve_policy_name(name: str) -> str:
    """A baseline, or lerobot's name of a policy type.

    Raises:
        UnknownNameError: with the closest names.
    """
    known = (*LEROBOT_TYPES, *ALIASES, *BASELINE_NAMES)
    if name not in known:
        raise UnknownNameError("policy", name, known)
    return resolve_alias(name)


def resolve_alias(policy_type: str) -> str:
    """Return lerobot's present name of a policy type; any other name as it is."""
    return ALIASES.get(policy_type, policy_type)


def shipped_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.name for path in CHECKPOINT_FOLDER.iterdir() if path.is_dir())
