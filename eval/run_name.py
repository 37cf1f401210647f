"""The parts of a run folder's name that tell runs apart: policy and checkpoint, and the environment."""

import re
from pathlib import PurePath

# `lerobot-train` writes <output_dir>/checkpoints/<step>/pretrained_model: these say nothing.
_GENERIC = {"checkpoints", "pretrained_model", "last", "outputs", "train", "..", ".", "/"}
_MAX_LENGTH = 48
_MAX_ENV_LENGTH = 80


def name_policy_in_folder(policy_type: str, checkpoint: str) -> str:
    """Return e.g. "act-early", "smolvla_libero" or "act-my_training-040000".

    Args:
        checkpoint: as `PolicySpec.checkpoint` has it: a folder, a shipped name or a hub id; "" if
            there is none.
    """
    parts = [part for part in PurePath(checkpoint.partition("@")[0]).parts if part not in _GENERIC]
    # The number of a step names no training.
    telling = parts[-2:] if parts and parts[-1].isdigit() else parts[-1:]
    name = "-".join(word for word in map(_as_word, telling) if word)
    kind = _as_word(policy_type) or "policy"
    if not name.startswith(kind):
        name = f"{kind}-{name}".strip("-")
    return name if len(name) <= _MAX_LENGTH else f"{name[:16]}..{name[18 - _MAX_LENGTH :]}"


def name_env_in_folder(env_name: str) -> str:
    """Return e.g.

    "so101-pick_place", or "toys.reach-toy-reach" of the import string "toys.reach:toy/reach".
    """
    words = _as_word(env_name.partition("@")[0], also=",")
    return words if len(words) <= _MAX_ENV_LENGTH else f"{words[: _MAX_ENV_LENGTH - 2]}.."


def _as_word(text: str, also: str = "") -> str:
    """Return a text with what no file name should have replaced by hyphens."""
    return re.sub(rf"[^A-Za-z0-9._{also}]+", "-", text).strip("-.")
