"""Find a checkpoint and look at its files before lerobot does: lerobot is silent about much that is wrong."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open

from policies.registry import CHECKPOINT_FOLDER, DEFAULT_CHECKPOINTS, shipped_checkpoints
from sim.errors import WhiskerError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
# Each with the step that it must have.
PROCESSOR_FILES = {
    "policy_preprocessor.json": "normalizer_processor",
    "policy_postprocessor.json": "unnormalizer_processor",
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are there and whole.

    Attributes:
        name: as the user gave it, or the default's.
        type: lerobot's policy type.
    """

    name: str
    folder: Path
    type: str


def open_checkpoint(policy_type: str, name: str | None) -> Checkpoint:
    """Find the checkpoint and check its files. Quick: neither torch nor lerobot is imported.

    Args:
        policy_type: e.g. "act"; must be the checkpoint's own.
        name: shipped name, folder or hub id; None: the default of that type.

    Raises:
        WhiskerError: no such checkpoint, another type, damaged or missing files.
    """
    name = name or DEFAULT_CHECKPOINTS[policy_type]
    folder = find_checkpoint(name)
    saved_type = read_config(folder)["type"]
    if saved_type != policy_type:
        raise WhiskerError(
            f"checkpoint {name!r}",
            expected=f"policy type {policy_type!r}",
            got=repr(saved_type),
            do="Give its own --policy.",
        )
    check_files(folder)
    return Checkpoint(name, folder, saved_type)


def find_checkpoint(name: str) -> Path:
    """The folder of a checkpoint: a shipped one, a local directory, or a repository of the hub.

    Raises:
        WhiskerError: there is none; names the shipped ones.
    """
    if name in shipped_checkpoints():
        return CHECKPOINT_FOLDER / name
    if Path(name).is_dir():
        return Path(name)
    expected = f"a folder, a hub id (owner/name), or one of: {', '.join(shipped_checkpoints())}"
    looks_like_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if not looks_like_hub_id:
        raise WhiskerError(f"checkpoint {name!r}", expected=expected, got="no such folder")
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except HFValidationError as error:
        raise WhiskerError(f"checkpoint {name!r}", expected=expected, got="no such folder") from error
    except HfHubHTTPError as error:
        do = "Check the name; for a private one log in with `hf auth login`."
        raise WhiskerError(f"checkpoint {name!r}", expected=expected, got=str(error).splitlines()[0], do=do) from error
    except (LocalEntryNotFoundError, OSError) as error:
        got = "no local folder, nothing in the cache, and the hub cannot be reached"
        raise WhiskerError(
            f"checkpoint {name!r}", expected=expected, got=got, do="Check the name; offline, give a local folder."
        ) from error


def read_config(folder: Path) -> dict:
    """`config.json` as it stands.

    Raises:
        WhiskerError: absent, no JSON, or without a policy type.
    """
    path = folder / CONFIG_FILE
    config = _read_json(path, "The folder must be one that lerobot's `save_pretrained` wrote.")
    if not isinstance(config.get("type"), str):
        raise WhiskerError(
            f"checkpoint file {str(path)!r}", expected="a lerobot policy config with a 'type'", got="none"
        )
    return config


def check_files(folder: Path) -> None:
    """Raise unless weights and both processors are there, whole, and normalise what they say.

    Processors that name a Python class (in place of one of lerobot's registered steps) are refused: loading
    them would import code of the checkpoint's choice.
    """
    check_safetensors(folder / WEIGHTS_FILE)
    for file, normaliser in PROCESSOR_FILES.items():
        path = folder / file
        pipeline = _read_json(path, "Save it with `preprocessor.save_pretrained`, else nothing is normalised.")
        steps = pipeline.get("steps", [])
        names = [step.get("registry_name") for step in steps]
        if None in names:
            class_name = next(step.get("class") for step in steps if "registry_name" not in step)
            raise WhiskerError(
                f"checkpoint file {str(path)!r}",
                expected="lerobot's registered processor steps only",
                got=f"the class {class_name!r}",
            )
        if normaliser not in names:
            raise WhiskerError(
                f"checkpoint file {str(path)!r}", expected=f"a step {normaliser!r}", got=", ".join(names) or "no steps"
            )
        for step in steps:
            names_of_stats = check_safetensors(folder / step["state_file"]) if "state_file" in step else []
            if step["registry_name"] == normaliser:
                _check_stats(path, step.get("config", {}), names_of_stats)


def _check_stats(path: Path, config: dict, names_of_stats: list[str]) -> None:
    """lerobot leaves a feature without statistics as it is, silently."""
    norm_map = config.get("norm_map", {})
    for feature, described in config.get("features", {}).items():
        is_normalised = norm_map.get(described.get("type"), "IDENTITY") != "IDENTITY"
        if is_normalised and not any(name.startswith(f"{feature}.") for name in names_of_stats):
            raise WhiskerError(
                f"checkpoint file {str(path)!r}",
                expected=f"statistics of {feature!r}",
                got="none: it would not be normalised",
                do="Save the processors with the statistics of the training set.",
            )


def check_safetensors(path: Path) -> list[str]:
    """Names of its tensors; raises unless the file is there and as long as its header says."""
    if not path.is_file():
        raise WhiskerError(f"checkpoint file {str(path)!r}", expected="the file", got="none", do="Copy it again.")
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        raise WhiskerError(
            f"checkpoint file {str(path)!r}",
            expected="a whole safetensors file",
            got=f"{size} bytes that do not read ({error})",
            do="It was cut short or damaged on the way: copy or download it again.",
        ) from error


def compute_fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the checkpoint, by name."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    return {path.name: compute_sha256(path) for path in files}


def compute_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path, do: str) -> dict:
    if not path.is_file():
        raise WhiskerError(f"checkpoint file {str(path)!r}", expected="the file", got="none", do=do)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WhiskerError(f"checkpoint file {str(path)!r}", expected="JSON", got=str(error), do=do) from error
    if not isinstance(content, dict):
        raise WhiskerError(
            f"checkpoint file {str(path)!r}", expected="a JSON object", got=type(content).__name__, do=do
        )
    return content
