"""Policies by name. Light: nothing is imported before a policy is asked for."""

from pathlib import Path

from policies.lerobot_types import ALIASES, LEROBOT_TYPES
from sim.errors import UnknownNameError
from sim.user_code import check_import_string, find_entry_points

BASELINE_NAMES = ("zero", "random", "scripted", "replay")
# Those that follow the environment that they were made with.
EXPERT_NAMES = ("scripted", "replay")
# Entry points of installed packages, for policies of the user's own.
OWN_GROUP = "whisker.policies"

CHECKPOINT_FOLDER = Path(__file__).parent / "checkpoints"
# Shipped checkpoints are for scenes of this robot, in which they were trained.
SHIPPED_ROBOT_TYPE = "so101"


def default_checkpoint(policy_type: str, env: str | None = None) -> str | None:
    """Return what a policy type loads in an environment if nobody names a checkpoint; None: nothing.

    Args:
        env: its name; None: not known, and then a shipped checkpoint is taken before a published
            one.
    """
    from sim.registry import family_of

    row = LEROBOT_TYPES.get(policy_type)
    if row is None:
        return None
    fits = env is None or family_of(env).robot_type == SHIPPED_ROBOT_TYPE
    return (row.shipped if fits else None) or row.published


def resolve_policy_name(name: str) -> str:
    """Return a baseline's name, lerobot's name of a policy type, or what names a policy of the user's own.

    Raises:
        UnknownNameError: with the closest names.
        WhiskerError: a colon in what is no import string.
    """
    known = (*LEROBOT_TYPES, *ALIASES, *BASELINE_NAMES)
    if name in known:
        return resolve_alias(name)
    if ":" in name:
        check_import_string(f"--policy {name}", name)
        return name
    own = find_entry_points(OWN_GROUP)
    if name not in own:
        raise UnknownNameError("policy", name, (*known, *own))
    return name


def resolve_alias(policy_type: str) -> str:
    """Return lerobot's present name of a policy type; any other name as it is."""
    return ALIASES.get(policy_type, policy_type)


def shipped_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.name for path in CHECKPOINT_FOLDER.iterdir() if path.is_dir())
