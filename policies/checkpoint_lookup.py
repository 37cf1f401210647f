"""Find the folder of a checkpoint by what people call it: a folder, a training's folder, a shipped name, a hub id."""

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
_CHECKPOINTS_FOLDER, _LAST_STEP, _MODEL_FOLDER = "checkpoints", "last", "pretrained_model"
# Of openpi's JAX checkpoints, which orbax writes: <step>/params, with one of these inside.
_ORBAX_FILES = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "_sharding")


def find_checkpoint(name: str) -> Path:
    """Return the folder of a checkpoint.

    Args:
        name: a local folder; one that `lerobot-train` wrote, which stands for its last checkpoint;
            a shipped name; or a repository of the hub, `owner/name`, with a folder inside
            (`owner/name/folder`) and a branch, tag or commit behind (`owner/name@revision`), where
            needed.

    Raises:
        WhiskerError: there is none; says what is known of the reason.
    """
    # A folder of one's own must not be taken for another by its name.
    if Path(name).is_dir():
        return _find_in_folder(Path(name), name)
    if name in shipped_checkpoints():
        return CHECKPOINT_FOLDER / name
    repository, revision, folder = _split_hub_id(name)
    if not repository:
        raise _not_found(name, "no such folder")
    patterns = [str(PurePosixPath(folder) / pattern) for pattern in _FILE_PATTERNS]
    try:
        snapshot = Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=patterns,
                # Else a commit that is in the cache is asked of the hub all the same.
                local_files_only=constants.HF_HUB_OFFLINE,
            )
        )
    except Exception as error:
        raise _not_found(name, *_explain(error)) from error
    if not (snapshot / folder).is_dir():
        raise _not_found(name, f"no folder {folder!r} in the repository {repository!r}")
    return _find_in_folder(snapshot / folder, name)


def _find_in_folder(folder: Path, name: str) -> Path:
    """Return that folder, or the last checkpoint of the training whose folder it is.

    Raises:
        WhiskerError: it holds a checkpoint of another framework.
    """
    if (folder / CONFIG_FILE).is_file():
        _refuse_openpi_config(folder / CONFIG_FILE, name)
        return folder
    last = _find_last_of_training(folder)
    if last is not None:
        message = f"checkpoint {name!r} is the folder of a training: its checkpoint {str(last)!r} is taken."
        warnings.warn(message, WhiskerWarning, stacklevel=3)
        return last
    if any(
        (params / file).exists() for params in (folder / "params", folder) for file in _ORBAX_FILES
    ):
        raise _openpi(name, "JAX weights (orbax)")
    return folder


def _find_last_of_training(folder: Path) -> Path | None:
    """Return the newest `pretrained_model` below <output_dir>, <output_dir>/checkpoints or a step's folder."""
    steps = folder / _CHECKPOINTS_FOLDER if (folder / _CHECKPOINTS_FOLDER).is_dir() else folder
    numbered = (path for path in steps.iterdir() if path.name.isdigit())
    by_number = sorted(numbered, key=lambda path: int(path.name), reverse=True)
    for step in (folder, steps / _LAST_STEP, *by_number):
        if (step / _MODEL_FOLDER / CONFIG_FILE).is_file():
            # What is written down of a run must name the same files when the training has gone on.
            return step.resolve() / _MODEL_FOLDER if step.is_symlink() else step / _MODEL_FOLDER
    return None


def _split_hub_id(name: str) -> tuple[str, str | None, str]:
    """Return (repository, revision, folder) of `owner/name/folder@revision`; no repository if it cannot be one."""
    path, _, revision = name.partition("@")
    owner, _, rest = path.partition("/")
    repository_name, _, folder = rest.partition("/")
    is_path = name.startswith((".", "/", "~")) or not (owner and repository_name)
    return "" if is_path else f"{owner}/{repository_name}", revision or None, folder.strip("/")


def _explain(error: Exception) -> tuple[str, str]:
    """Return why the hub gave nothing, as far as it is known, and what to do."""
    if isinstance(error, HFValidationError):
        return "no such folder", ""
    if isinstance(error, LocalEntryNotFoundError):
        nothing = "no local folder, nothing in the cache, and"
        if constants.HF_HUB_OFFLINE:
            return (
                f"{nothing} HF_HUB_OFFLINE is set",
                "Check the name; offline, give a local folder.",
            )
        cause = error.__cause__ or error
        answer = f"{type(cause).__name__}: {cause}".splitlines()[0]
        return (
            f"{nothing} no answer of the hub ({answer})",
            "Check the name; offline, give a local folder.",
        )
    said = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
    return said, "Check the name; for a private one log in with `hf auth login`."


def _not_found(name: str, got: str, hint: str = "") -> WhiskerError:
    shipped = ", ".join(shipped_checkpoints())
    expected = f"a folder, a hub id (owner/name, owner/name/folder, owner/name@revision), or one of: {shipped}"
    return WhiskerError(f"checkpoint {name!r}", expected=expected, got=got, hint=hint)


def _refuse_openpi_config(path: Path, name: str) -> None:
    """Raise for the `config.json` that openpi writes beside weights which it converted to PyTorch."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return  # whoever reads it for its content says so
    if (
        isinstance(config, dict)
        and "type" not in config
        and {"action_horizon", "paligemma_variant"} <= config.keys()
    ):
        raise _openpi(name, "weights that it converted to PyTorch")


def _openpi(name: str, got: str) -> WhiskerError:
    return WhiskerError(
        f"checkpoint {name!r}",
        expected="a policy in lerobot's format",
        got=f"one of openpi, {got}",
        hint="openpi's own scripts/serve_policy.py runs it, which Whisker does not talk to. For LIBERO there are, in "
        f"lerobot's format, {LEROBOT_TYPES['pi0'].published} and {LEROBOT_TYPES['pi05'].published}.",
    )
