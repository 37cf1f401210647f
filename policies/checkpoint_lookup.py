"""Find the folder of a checkpoint by a folder, a training's folder, a shipped name or a hub id."""

import json
import warnings
from pathlib import Path, PurePosixPath

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from policies.lerobot_types import LEROBOT_TYPES
from policies.registry import CHECKPOINT_FOLDER, shipped_checkpoints
from sim.errors import WhiskerError, WhiskerWarning

CONFIG_FILE = "config.json"
_FILE_PATTERNS = ("*.json", "*.safetensors")
# `lerobot-train` writes <output_dir>/checkpoints/<step>/pretrained_model, and a link `last` to the
# newest step.
_CHECKPOINTS_FOLDER = "checkpoints"
_LAST_STEP = "last"
_MODEL_FOLDER = "pretrained_model"
# Files that orbax writes into openpi's JAX checkpoints: <step>/params has one of them.
_ORBAX_FILES = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "_sharding")


def find_checkpoint(name: str) -> Path:
    """Return the folder of a checkpoint.

    Args:
        name: a local folder; the folder of a `lerobot-train` training, which means its last
            checkpoint; a shipped name; or a repository of the hub, `owner/name`, if needed with a
            folder inside (`owner/name/folder`) and a branch, tag or commit
            (`owner/name@revision`).

    Raises:
        WhiskerError: there is none; the message gives the reason as far as it is known.
    """
    # A local folder takes precedence over a shipped checkpoint of the same name.
    if Path(name).is_dir():
        return _find_in_folder(Path(name), name)
    if name in shipped_checkpoints():
        return CHECKPOINT_FOLDER / name
    repository, revision, folder = _split_hub_id(name)
    if not repository:
        raise _not_found(name, "no such folder")
    patterns = [str(PurePosixPath(folder) / pattern) for pattern in _FILE_PATTERNS]
    try:
        downloaded = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=patterns,
            # Otherwise the hub is asked even for a commit that is in the cache.
            local_files_only=constants.HF_HUB_OFFLINE,
        )
    except Exception as error:
        raise _not_found(name, *_explain(error)) from error
    inside = Path(downloaded) / folder
    if not inside.is_dir():
        raise _not_found(name, f"no folder {folder!r} in the repository {repository!r}")
    return _find_in_folder(inside, name)


def _find_in_folder(folder: Path, name: str) -> Path:
    """Return that folder, or the last checkpoint if it is the folder of a training.

    Raises:
        WhiskerError: it holds a checkpoint of another framework.
    """
    if (folder / CONFIG_FILE).is_file():
        _refuse_openpi_config(folder / CONFIG_FILE, name)
        return folder
    last = _find_last_of_training(folder)
    if last is not None:
        message = (
            f"checkpoint {name!r} is the folder of a training: "
            f"its checkpoint {str(last)!r} is used."
        )
        warnings.warn(message, WhiskerWarning, stacklevel=3)
        return last
    for params in (folder / "params", folder):
        if any((params / file).exists() for file in _ORBAX_FILES):
            raise _openpi_error(name, "JAX weights (orbax)")
    return folder


def _find_last_of_training(folder: Path) -> Path | None:
    """Return the newest `pretrained_model` of a training.

    Args:
        folder: <output_dir>, <output_dir>/checkpoints or the folder of a step.
    """
    steps = folder
    if (folder / _CHECKPOINTS_FOLDER).is_dir():
        steps = folder / _CHECKPOINTS_FOLDER
    numbered = (path for path in steps.iterdir() if path.name.isdigit())
    newest_first = sorted(numbered, key=lambda path: int(path.name), reverse=True)
    for step in (folder, steps / _LAST_STEP, *newest_first):
        if (step / _MODEL_FOLDER / CONFIG_FILE).is_file():
            # The link `last` moves when the training goes on, but a run must name the same files.
            return step.resolve() / _MODEL_FOLDER if step.is_symlink() else step / _MODEL_FOLDER
    return None


def _split_hub_id(name: str) -> tuple[str, str | None, str]:
    """Return (repository, revision, folder) of `owner/name/folder@revision`.

    The repository is "" if the name cannot be a hub id.
    """
    path, _, revision = name.partition("@")
    owner, _, rest = path.partition("/")
    repository_name, _, folder = rest.partition("/")
    is_path = name.startswith((".", "/", "~"))
    repository = f"{owner}/{repository_name}"
    if is_path or not (owner and repository_name):
        repository = ""
    return repository, revision or None, folder.strip("/")


def _explain(error: Exception) -> tuple[str, str]:
    """Return why the hub gave nothing, as far as it is known, and what to do about it."""
    if isinstance(error, HFValidationError):
        return "no such folder", ""
    if isinstance(error, LocalEntryNotFoundError):
        reason = "HF_HUB_OFFLINE is set"
        if not constants.HF_HUB_OFFLINE:
            reason = f"no answer of the hub ({_first_line(error.__cause__ or error)})"
        got = f"no local folder, nothing in the cache, and {reason}"
        return got, "Check the name; offline, give a local folder."
    hint = "Check the name; for a private one log in with `hf auth login`."
    return _first_line(error).rstrip("."), hint


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _not_found(name: str, got: str, hint: str = "") -> WhiskerError:
    shipped = ", ".join(shipped_checkpoints())
    hub_ids = "owner/name, owner/name/folder, owner/name@revision"
    expected = f"a folder, a hub id ({hub_ids}), or one of: {shipped}"
    return WhiskerError(f"checkpoint {name!r}", expected=expected, got=got, hint=hint)


def _refuse_openpi_config(path: Path, name: str) -> None:
    """Raise for the `config.json` that openpi writes beside weights it converted to PyTorch."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return  # `checkpoint_reading.read_config` reports it
    if not isinstance(config, dict) or "type" in config:
        return
    if {"action_horizon", "paligemma_variant"} <= config.keys():
        raise _openpi_error(name, "weights that it converted to PyTorch")


def _openpi_error(name: str, got: str) -> WhiskerError:
    pi0 = LEROBOT_TYPES["pi0"].published
    pi05 = LEROBOT_TYPES["pi05"].published
    return WhiskerError(
        f"checkpoint {name!r}",
        expected="a policy in lerobot's format",
        got=f"one of openpi, {got}",
        hint=(
            "Only openpi's own scripts/serve_policy.py runs it, and Whisker does not connect to "
            f"that server. For LIBERO, {pi0} and {pi05} are in lerobot's format."
        ),
    )
