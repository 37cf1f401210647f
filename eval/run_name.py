"""Names the policy, the checkpoint and the environment in a run folder's name."""

import re
from pathlib import PurePath

# Names that do not identify a training, such as those in the folders that `lerobot-train` writes:
# <output_dir>/checkpoints/<step>/pretrained_model.
_GENERIC = {"checkpoints", "pretrained_model", "last", "outputs", "train", "..", ".", "/"}
_MAX_LENGTH = 48
_N_KEPT_FIRST = 16
_MAX_ENV_LENGTH = 80


def name_policy_in_folder(policy_type: str, checkpoint: str) -> str:
    """Return e.g. "act-early", "smolvla_libero" or "act-my_training-040000".

    Args:
        checkpoint: `PolicySpec.checkpoint`: a folder, a shipped name or a hub id; "" if there is
            none.
    """
    path, _, _ = checkpoint.partition("@")
    parts = [part for part in PurePath(path).parts if part not in _GENERIC]
    telling = parts[-1:]
    # The number of a step does not identify a training.
    if parts and parts[-1].isdigit():
        telling = parts[-2:]
    words = [_as_word(part) for part in telling]
    name = "-".join(word for word in words if word)
    kind = _as_word(policy_type) or "policy"
    if not name.startswith(kind):
        name = f"{kind}-{name}".strip("-")
    if len(name) <= _MAX_LENGTH:
        return name
    end = name[_N_KEPT_FIRST + 2 - _MAX_LENGTH :]
    return f"{name[:_N_KEPT_FIRST]}..{end}"


def name_env_in_folder(env_name: str) -> str:
    """Return the environment's name as part of a file name, e.g. "so101-pick_place".

    The import string "toys.reach:toy/reach" gives "toys.reach-toy-reach".
    """
    name, _, _ = env_name.partition("@")
    words = _as_word(name, also=",")
    if len(words) <= _MAX_ENV_LENGTH:
        return words
    return words[: _MAX_ENV_LENGTH - 2] + ".."


def _as_word(text: str, also: str = "") -> str:
    """Return a text in which hyphens replace characters that do not belong in a file name."""
    word = re.sub(rf"[^A-Za-z0-9._{also}]+", "-", text)
    return word.strip("-.")
