"""Policies by name. Light: nothing is imported before a policy is asked for."""

from pathlib import Path

from sim.errors import UnknownNameError

BASELINE_NAMES = ("zero", "random", "scripted")
LEROBOT_TYPES = ("act",)

CHECKPOINT_FOLDER = Path(__file__).parent / "checkpoints"
# What `--policy act` loads without `--checkpoint`.
DEFAULT_CHECKPOINTS = {"act": "act"}


def check_policy_name(name: str) -> None:
    """Raise `UnknownNameError`, with the closest names, unless there is such a policy."""
    known = (*LEROBOT_TYPES, *BASELINE_NAMES)
    if name not in known:
        raise UnknownNameError("policy", name, known)


def shipped_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(path.name for path in CHECKPOINT_FOLDER.iterdir() if path.is_dir())
