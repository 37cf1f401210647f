"""Finds the files of a checkpoint that is not of lerobot, before torch is imported."""

from dataclasses import dataclass
from pathlib import Path

from policies.checkpoint_files import compute_sha256
from policies.checkpoint_lookup import CONFIG_FILE
from policies.checkpoint_reading import check_present, read_json
from policies.config import PolicyConfig
from policies.native.native_types import NATIVE_TYPES
from sim.errors import WhiskerError

DTYPES = ("float32", "bfloat16")
_HINT = "The folder must be one that lerobot's `save_pretrained` wrote."
# Files of a tokenizer and of settings, on which numbers depend too.
_HASHED = (".json", ".model")


@dataclass(frozen=True)
class NativeCheckpoint:
    """A checkpoint whose files are present.

    Attributes:
        name: as the user gave it.
        folder: the folder of its files.
        weights: its files with weights.
        dtype: the number format that the network computes in.
    """

    name: str
    folder: Path
    weights: tuple[Path, ...]
    dtype: str


def open_native_checkpoint(named: PolicyConfig) -> NativeCheckpoint:
    """Find the files of a checkpoint. This is quick and reads no weights.

    Raises:
        WhiskerError: there is none, or a file of it is a Git LFS pointer.
    """
    assert named.name is not None
    row = NATIVE_TYPES[named.name]
    if named.checkpoint is None:
        raise WhiskerError(
            f"policy {named.name!r}", expected=f"--checkpoint, {row.takes}", got="none"
        )
    subject = f"checkpoint {named.checkpoint!r} of policy {named.name!r}"
    path = Path(named.checkpoint)
    if not path.exists():
        raise WhiskerError(subject, expected=row.takes, got="no such file or folder")
    weights = tuple(sorted(path.glob(f"*{row.weights}"))) if path.is_dir() else (path,)
    if not weights or any(file.suffix != row.weights for file in weights):
        raise WhiskerError(subject, expected=row.takes, got=f"none that ends in {row.weights}")
    for file in weights:
        check_present(file, "Copy it again.")
    folder = path if path.is_dir() else path.parent
    return NativeCheckpoint(named.checkpoint, folder, weights, named.dtype or DTYPES[0])


def find_native_type(checkpoint: str) -> str | None:
    """Return the type of a checkpoint that is not of lerobot; None if it is no such checkpoint.

    A single file of weights has the only type that is published so. The settings of a folder name
    its type as transformers' "model_type".
    """
    path = Path(checkpoint)
    config = path / CONFIG_FILE
    if config.is_file():
        model_type = read_json(config, _HINT).get("model_type")
        return model_type if model_type in NATIVE_TYPES else None
    for name, row in NATIVE_TYPES.items():
        if path.is_file() and path.suffix == row.weights:
            return name
    return None


def check_dtype(policy: str, dtype: str | None) -> None:
    """Raise for a `--dtype` that does not exist, or of a policy that states its own."""
    if dtype is None:
        return
    subject = f"--dtype {dtype}"
    if policy not in NATIVE_TYPES:
        raise WhiskerError(
            subject,
            expected=f"one of the policies {', '.join(NATIVE_TYPES)} beside it",
            got=f"policy {policy!r}, whose checkpoint states the format",
            hint="Leave --dtype out.",
        )
    if dtype not in DTYPES:
        raise WhiskerError(subject, expected=" or ".join(DTYPES), got=repr(dtype))


def fingerprint(checkpoint: NativeCheckpoint) -> dict[str, str]:
    """Return file → SHA-256, of the weights and of the settings beside them."""
    beside = [*checkpoint.folder.glob("*.json"), *checkpoint.folder.glob("tokenizer/*")]
    files = {*checkpoint.weights, *(path for path in beside if path.suffix in _HASHED)}
    return {
        path.relative_to(checkpoint.folder).as_posix(): compute_sha256(path)
        for path in sorted(files)
    }
