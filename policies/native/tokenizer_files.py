"""Loads the tokenizer that belongs to a checkpoint."""

import logging
from pathlib import Path
from typing import Any

from policies.native.native_checkpoint import NativeCheckpoint
from sim.errors import WhiskerError

_FILES = ("tokenizer.json", "tokenizer.model")


def load_tokenizer(checkpoint: NativeCheckpoint, published: str) -> Any:
    """Return the tokenizer in the folder `tokenizer` beside the weights, or beside them directly.

    Otherwise it is the published one, if the cache of the hub has it.

    Args:
        published: hub id of the model whose tokenizer it is.

    Raises:
        WhiskerError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    folders = (checkpoint.folder / "tokenizer", checkpoint.folder)
    found = [folder for folder in folders if any((folder / name).is_file() for name in _FILES)]
    source: str | Path = found[0] if found else published
    # transformers warns of an unknown type in config.json, which the tokenizer does not need.
    disabled_before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        # transformers runs no code of the folder: remote code is not trusted by default.
        return AutoTokenizer.from_pretrained(str(source), local_files_only=True)
    except Exception as error:  # transformers raises whatever the file provokes
        got = (
            f"one that cannot be read ({error})" if found else "none there, nor in the hub's cache"
        )
        raise WhiskerError(
            f"tokenizer of checkpoint {checkpoint.name!r}",
            expected=f"that of {published} in the folder {str(folders[0])!r}",
            got=" ".join(got.split()),
            hint=f"Copy tokenizer.json and tokenizer_config.json of {published} there.",
        ) from error
    finally:
        logging.disable(disabled_before)
