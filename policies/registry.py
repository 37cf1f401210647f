"""The names of all policies. Nothing heavy is imported before a policy is loaded."""

from pathlib import Path

from policies.lerobot_types import ALIASES, LEROBOT_TYPES
from policies.native.native_types import NATIVE_TYPES
from policies.unsupported_types import UNSUPPORTED_TYPES, refuse_type
from sim.errors import UnknownNameError
from sim.user_code import check_import_string, find_entry_points

BASELINE_NAMES = ("zero", "random", "scripted", "replay")
# Baselines that are tied to the environment that they were made with.
EXPERT_NAMES = ("scripted", "replay")
# A policy behind `--server`.
REMOTE_NAME = "remote"
# Installed packages register policies of their own in this group of entry points.
ENTRY_POINT_GROUP = "whisker.policies"

CHECKPOINT_FOLDER = Path(__file__).parent / "checkpoints"
# The shipped checkpoints were trained in scenes of this robot, and are defaults only there.
SHIPPED_ROBOT_TYPE = "so101"


def default_checkpoint(policy_type: str, env: str | None = None) -> str | None:
    """Return the checkpoint that a policy type loads by default; None if there is none.

    Args:
        env: name of the environment. None: unknown, and a shipped checkpoint takes precedence over
            a published one.
    """
    from sim.registry import family_of

    row = LEROBOT_TYPES.get(policy_type)
    if row is None:
        return None
    is_trained_there = env is None or family_of(env).robot_type == SHIPPED_ROBOT_TYPE
    if is_trained_there and row.shipped:
        return row.shipped
    return row.published


def resolve_policy_name(name: str) -> str:
    """Return the canonical name of a policy.

    It is a baseline, `REMOTE_NAME`, lerobot's name for a policy type, a type that runs without
    lerobot, or an entry point or import string of the user's own.

    Raises:
        UnknownNameError: no policy has that name; the message lists the closest names.
        WhiskerError: a name with a colon is not a valid import string, or lerobot's type is one
            that Whisker does not load.
    """
    known = (*LEROBOT_TYPES, *ALIASES, *NATIVE_TYPES, *BASELINE_NAMES, REMOTE_NAME)
    if name in known:
        return resolve_alias(name)
    if ":" in name:
        check_import_string(f"--policy {name}", name)
        return name
    entry_points = find_entry_points(ENTRY_POINT_GROUP)
    if name in UNSUPPORTED_TYPES and name not in entry_points:
        raise refuse_type("--policy", name)
    if name not in entry_points:
        raise UnknownNameError("policy", name, (*known, *entry_points))
    return name


def resolve_alias(policy_type: str) -> str:
    """Return lerobot's current name for a policy type; any other name is returned unchanged."""
    return ALIASES.get(policy_type, policy_type)


def shipped_checkpoints() -> list[str]:
    """Return the names of the checkpoints that come with the package."""
    return sorted(path.name for path in CHECKPOINT_FOLDER.iterdir() if path.is_dir())
