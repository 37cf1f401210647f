"""Resolve folders inside a checkpoint that its settings name: a VLM's configuration, a tokenizer.

lerobot passes such a name to transformers, which takes a relative name for a repository of the hub,
or for a path below the working directory. Here it is resolved relative to the checkpoint, so that a
checkpoint can be moved and copied.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sim.errors import WhiskerError

# Files that a folder must hold; one of each tuple is enough.
type _Files = tuple[tuple[str, ...], ...]

_TOKENIZER = (
    ("tokenizer.json", "tokenizer.model"),
    ("tokenizer_config.json",),
)
_PROCESSOR = (
    ("processor_config.json", "preprocessor_config.json"),
    *_TOKENIZER,
)
_VLM = (
    ("config.json",),
    *_PROCESSOR,
)
_CLIP = (
    ("config.json",),
    ("model.safetensors",),
)
# Setting that names such a folder → its files.
INNER_FOLDERS: Mapping[str, _Files] = {
    "vlm_model_name": _VLM,
    "qwen_model_name": _VLM,
    "processor_name": _PROCESSOR,
    "tokenizer_name": _TOKENIZER,
    "vision_encoder_name": _CLIP,
    "text_encoder_name": _CLIP,
}
# Settings whose folder has a template of the prompt.
_WITH_TEMPLATE = ("processor_name", "qwen_model_name")
_SUFFIXES = (".json", ".safetensors", ".model")
# Policy type → setting → the same, where a type reads other files than the rest.
_OF_TYPE: Mapping[str, Mapping[str, _Files]] = {
    "evo1": {"vlm_model_name": (("config.json",), *_TOKENIZER)},
}


def resolve_inner_folders(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return setting → absolute path, for each setting that names a folder inside the checkpoint.

    Args:
        settings: from the checkpoint's config.json, or from a step of its processors.

    Raises:
        WhiskerError: such a folder does not exist, or lacks a file that transformers reads.
    """
    paths = {}
    of_type = _OF_TYPE.get(settings.get("type", ""), {})
    for setting, files in {**INNER_FOLDERS, **of_type}.items():
        name = settings.get(setting)
        # A hub id, in contrast to a folder, contains a slash.
        if isinstance(name, str) and name and "/" not in name.removeprefix("./"):
            paths[setting] = str(_check(folder, setting, name, files))
    return paths


def find_inner_files(folder: Path, settings: Iterable[Mapping[str, Any]]) -> set[Path]:
    """Return the files that a number depends on, of the folders inside a checkpoint.

    Args:
        settings: the content of its config.json, and the settings of each step of its processors.
    """
    files = set()
    for each in settings:
        for setting in INNER_FOLDERS.keys() & each.keys():
            inner = (folder / str(each[setting])).resolve()
            if not inner.is_dir() or not inner.is_relative_to(folder.resolve()):
                continue
            suffixes = _SUFFIXES + ((".jinja",) if setting in _WITH_TEMPLATE else ())
            inside = folder / inner.relative_to(folder.resolve())
            files |= {path for path in inside.iterdir() if path.suffix in suffixes}
    return files


def _check(folder: Path, setting: str, name: str, files: _Files) -> Path:
    """Return the path of an inner folder that holds all required files."""
    inner = (folder / name).resolve()
    required = []
    missing = []
    for alternatives in files:
        required.append(" or ".join(alternatives))
        if not any((inner / file).is_file() for file in alternatives):
            missing.append(required[-1])
    if missing:
        contents = ", ".join(required)
        raise WhiskerError(
            f"checkpoint {str(folder)!r}",
            expected=f"a folder {name!r} inside, named by its setting {setting}, with {contents}",
            got=f"no {', no '.join(missing)} in it" if inner.is_dir() else "no such folder",
            hint="Copy the checkpoint again with the folders inside it.",
        )
    return inner
