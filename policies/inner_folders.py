"""Folders inside a checkpoint that its settings name: a vision-language model's configuration, a tokenizer.

lerobot hands such a name to transformers, which takes a relative one for a name on the hub, or for
a path below the working directory. Here it is resolved inside the checkpoint, so that a checkpoint
can be moved and copied.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sim.errors import WhiskerError

# Settings that name such a folder → what the folder must hold. Of alternatives, one is enough.
_TOKENIZER = (("tokenizer.json", "tokenizer.model"), ("tokenizer_config.json",))
_VLM = (("config.json",), ("processor_config.json", "preprocessor_config.json"), *_TOKENIZER)
INNER_FOLDERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "vlm_model_name": _VLM,
    "tokenizer_name": _TOKENIZER,
}


def resolve_inner_folders(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that name a folder inside a checkpoint, with its absolute path.

    Args:
        settings: of the checkpoint's config.json, or of a step of its processors.

    Raises:
        WhiskerError: such a folder is not there, or lacks what transformers reads.
    """
    return {field: str(_check(folder, field, name)) for field, name in _inner_names(settings)}


def _inner_names(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings whose value is a folder's name: one on the hub has an owner, `owner/name`."""
    for field in INNER_FOLDERS:
        name = settings.get(field)
        if isinstance(name, str) and name and "/" not in name.removeprefix("./"):
            yield field, name


def _check(folder: Path, field: str, name: str) -> Path:
    inner = (folder / name).resolve()
    required = INNER_FOLDERS[field]
    missing = [
        " or ".join(files)
        for files in required
        if not any((inner / file).is_file() for file in files)
    ]
    if missing:
        contents = ", ".join(" or ".join(files) for files in required)
        raise WhiskerError(
            f"checkpoint {str(folder)!r}",
            expected=f"a folder {name!r} inside, which its settings name as {field}, with {contents}",
            got=f"no {', no '.join(missing)} in it" if inner.is_dir() else "no such folder",
            hint="Copy the checkpoint again with the folders inside it.",
        )
    return inner
