"""Reads feature pairs that other pipelines saved: one tensor `(n, dim)` in each `.pt` file."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sim.errors import WhiskerError


def load_tensor_pair(
    features_a: Sequence[Path],
    features_b: Path,
) -> tuple[Float32[np.ndarray, "row dim_a"], Float32[np.ndarray, "row dim_b"]]:
    """Load the policy's features and the robot's, whose row i is the same moment.

    Only tensors are unpickled.

    Args:
        features_a: one or several files, whose rows follow one another.

    Raises:
        WhiskerError: a file is absent, truncated, empty or holds something else, or widths or
            numbers of rows differ.
    """
    pieces = [load_tensor(path) for path in features_a]
    width = pieces[0].shape[1]
    for path, piece in zip(features_a, pieces, strict=True):
        if piece.shape[1] != width:
            raise WhiskerError(
                f"features {str(path)!r}",
                expected=f"rows of {width}, as before",
                got=str(piece.shape[1]),
            )
    a = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    b = load_tensor(features_b)
    if len(a) != len(b):
        raise WhiskerError(
            f"features {str(features_b)!r}",
            expected=f"{len(a)} rows, as in features_a",
            got=str(len(b)),
            hint="Row i of both must be the same moment.",
        )
    return a, b


def load_tensor(path: Path) -> Float32[np.ndarray, "row dim"]:
    """Load a matrix of floating-point numbers.

    Raises:
        WhiskerError: as `load_tensor_pair`.
    """
    tensor = _load(path)
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise WhiskerError(
            f"features {str(path)!r}",
            expected="floating-point numbers (n, dim)",
            got=f"{tensor.dtype} {tuple(tensor.shape)}",
        )
    return tensor.float().numpy()


def load_episode_numbers(path: Path, n_rows: int) -> Int64[np.ndarray, " row"]:
    """Load the episode of each row.

    Raises:
        WhiskerError: as `load_tensor_pair`, or the tensor is not one integer a row.
    """
    tensor = _load(path)
    is_integer = not (tensor.is_floating_point() or tensor.is_complex())
    if tensor.shape != (n_rows,) or not is_integer:
        raise WhiskerError(
            f"episodes {str(path)!r}",
            expected=f"integers ({n_rows},), the episode of each row",
            got=f"{tensor.dtype} {tuple(tensor.shape)}",
        )
    return tensor.to(torch.int64).numpy()


def _load(path: Path) -> torch.Tensor:
    subject = f"tensor file {str(path)!r}"
    try:
        with warnings.catch_warnings(action="ignore"):
            tensor = torch.load(
                path,
                map_location="cpu",
                weights_only=True,
            )
    except UnpicklingError as error:
        raise WhiskerError(
            subject,
            expected="a tensor and nothing else",
            got="other objects",
            hint="Save a tensor: torch.save(features, path).",
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, BadZipFile) as error:
        raise WhiskerError(
            subject,
            expected="a whole .pt file with one tensor",
            got=_first_sentence(error),
        ) from error
    if not isinstance(tensor, torch.Tensor):
        raise WhiskerError(
            subject,
            expected="one tensor",
            got=f"a {type(tensor).__name__}",
        )
    if not tensor.numel():
        raise WhiskerError(
            subject,
            expected="at least one row",
            got="an empty tensor",
        )
    return tensor.detach()


def _first_sentence(error: Exception) -> str:
    if not str(error):
        return type(error).__name__
    return str(error).partition(". ")[0].splitlines()[0]
