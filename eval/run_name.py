"""The part of a run folder's name that tells policies apart: the type, and which checkpoint."""

import re
from pathlib import PurePath

# `lerobot-train` writes <output_dir>/checkpoints/<step>/pretrained_model: these say nothing.
_GENERIC = {"checkpoints", "pretrained_model", "last", "outputs", "train", "..", ".", "/"}
_MAX_LENGTH = 48


def name_policy_in_folder(policy_type: str, checkpoint: str) -> str:
    """Return e.g. "act-early", "smolvla_libero" or "act-my_training-040000".

    Args:
        checkpoint: as `PolicySpec.checkpoint` has it: a folder, a shipped name or a hub id; "" if there is none.
    """
    parts = [part for part in PurePath(checkpoint.partition("@")[0]).parts if part not in _GENERIC]
    # The number of a step names no training.
    telling = parts[-2:] if parts and parts[-1].isdigit() else parts[-1:]
    name = "-".join(word for word in map(_as_word, telling) if word)
    kind = _as_word(policy_type) or "policy"
    if not name.startswith(kind):
        name = f"{kind}-{name}".strip("-")
    return name if len(name) <= _MAX_LENGTH else f"{name[:16]}..{name[18 - _MAX_LENGTH :]}"


def _as_word(text: str) -> str:
    """Return a text with what no file name should have replaced by hyphens."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")
