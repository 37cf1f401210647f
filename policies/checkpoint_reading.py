"""Read the single files of a checkpoint, and refuse those that are missing or damaged.

lerobot reports few of these faults, or reports them without naming the file.
"""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from policies.checkpoint_lookup import CONFIG_FILE
from policies.registry import resolve_alias
from sim.errors import WhiskerError

# Processor file → names of its normaliser steps, of which it must have one.
PROCESSOR_FILES = {
    "policy_preprocessor.json": ("normalizer_processor", "groot_n1_7_pack_inputs_v1"),
    "policy_postprocessor.json": (
        "unnormalizer_processor",
        "groot_n1_7_action_decode_v1",
        "groot_action_unpack_unnormalize_v2",
    ),
}
# Without Git LFS, a clone has small text files that begin like this in place of large files.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_config(folder: Path) -> dict:
    """Return the content of `config.json`, with lerobot's current name of the policy type.

    Raises:
        WhiskerError: the file is absent, not JSON, or has no policy type.
    """
    path = folder / CONFIG_FILE
    config = read_json(path, "The folder must be one that lerobot's `save_pretrained` wrote.")
    if not isinstance(config.get("type"), str):
        raise WhiskerError(
            f"checkpoint file {str(path)!r}",
            expected="a lerobot policy config with a 'type'",
            got="none",
        )
    return config | {"type": resolve_alias(config["type"])}


def read_steps(path: Path) -> list[dict]:
    """Return the steps of a processor file; `registry_name` and `config` describe each."""
    hint = "Save it with `save_pretrained` of the processors, beside the weights."
    return read_json(path, hint).get("steps", [])


def read_processor_steps(folder: Path, part: str) -> list[dict]:
    """Return the steps of the "preprocessor" or "postprocessor"."""
    return read_steps(folder / f"policy_{part}.json")


def read_all_steps(folder: Path) -> list[dict]:
    """Return the steps of both processors."""
    return [step for file in PROCESSOR_FILES for step in read_steps(folder / file)]


def settings_of(step: dict) -> dict:
    """Return the settings of a step."""
    return step.get("config", {})


def find_settings(steps: list[dict], name: str) -> list[dict]:
    """Return the settings of all steps with a registry name, in order."""
    return [settings_of(step) for step in steps if step.get("registry_name") == name]


def read_json(path: Path, hint: str) -> dict:
    """Return the JSON object in a file.

    Args:
        hint: advice for the message if the file does not contain one.

    Raises:
        WhiskerError: the file is absent, a Git LFS pointer, or not a JSON object.
    """
    subject = check_present(path, hint)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WhiskerError(subject, expected="JSON", got=str(error), hint=hint) from error
    if not isinstance(content, dict):
        raise WhiskerError(subject, expected="a JSON object", got=type(content).__name__, hint=hint)
    return content


def check_safetensors(path: Path) -> list[str]:
    """Return the names of the tensors in a file.

    Raises:
        WhiskerError: the file is absent, or not as long as its header says.
    """
    subject = check_present(path, "Copy it again.")
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        raise WhiskerError(
            subject,
            expected="a whole safetensors file",
            got=f"{size} bytes that cannot be read ({error})",
            hint="It was cut short or damaged on the way: copy or download it again.",
        ) from error


def read_shape(path: Path, tensor: str) -> tuple[int, ...]:
    """Return the shape of a tensor in a file, without reading its values.

    Raises:
        WhiskerError: the file is absent or damaged, or has no such tensor.
    """
    if tensor not in check_safetensors(path):
        raise WhiskerError(
            f"checkpoint file {str(path)!r}",
            expected=f"the tensor {tensor!r}, which belongs to its config.json",
            got="none",
        )
    with safe_open(path, framework="numpy") as file:
        return tuple(file.get_slice(tensor).get_shape())


def check_present(path: Path, hint: str) -> str:
    """Raise unless a file exists and is not a Git LFS pointer. Return its name for messages."""
    subject = f"checkpoint file {str(path)!r}"
    if not path.is_file():
        raise WhiskerError(subject, expected="the file", got="none", hint=hint)
    with path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) != _LFS_POINTER:
            return subject
    raise WhiskerError(
        subject,
        expected="the file itself",
        got="a Git LFS pointer, its placeholder in a clone without Git LFS",
        hint="In that clone: git lfs install && git lfs pull.",
    )
