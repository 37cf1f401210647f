"""Feature pairs as other pipelines save them: one tensor `(n, dim)` a `.pt` file."""

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
    features_a: Sequence[Path], features_b: Path
) -> tuple[Float32[np.ndarray, "row dim_a"], Float32[np.ndarray, "row dim_b"]]:
    """The policy's features and the robot's, row by row of the same moments. Nothing but tensors is unpickled.

    Args:
        features_a: one or several files, whose rows follow one another.

    Raises:
        WhiskerError: a file that is absent, truncated, empty or holds something else; widths or
            numbers of rows that differ.
    """
    parts = [load_tensor(path) for path in features_a]
    for path, part in zip(features_a, parts, strict=True):
        if part.shape[1] != parts[0].shape[1]:
            raise WhiskerError(
                f"features {str(path)!r}",
                expected=f"rows of {parts[0].shape[1]}, as before",
                got=str(part.shape[1]),
            )
    a, b = parts[0] if len(parts) == 1 else np.concatenate(parts), load_tensor(features_b)
    if len(a) != len(b):
        raise WhiskerError(
            f"features {str(features_b)!r}",
            expected=f"{len(a)} rows, as in features_a",
            got=str(len(b)),
            hint="Row i of both must be the same moment.",
        )
    return a, b


def load_tensor(path: Path) -> Float32[np.ndarray, "row dim"]:
    """Raises WhiskerError: as above."""
    tensor = _load(path)
    if tensor.ndim != 2 or not tensor.is_floating_point():
        raise WhiskerError(
            f"features {str(path)!r}",
            expected="floating-point numbers (n, dim)",
            got=f"{tensor.dtype} {tuple(tensor.shape)}",
        )
    return tensor.float().numpy()


def load_episode_numbers(path: Path, n_rows: int) -> Int64[np.ndarray, " row"]:
    """Which episode each row is of. Raises WhiskerError: as above, or not one integer a row."""
    tensor = _load(path)
    if tensor.shape != (n_rows,) or tensor.is_floating_point() or tensor.is_complex():
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
            tensor = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        hint = "Save a tensor: torch.save(features, path)."
        raise WhiskerError(
            subject, expected="a tensor and nothing else", got="other objects", hint=hint
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, BadZipFile) as error:
        got = str(error).partition(". ")[0].splitlines()[0] if str(error) else type(error).__name__
        raise WhiskerError(subject, expected="a whole .pt file with one tensor", got=got) from error
    if not isinstance(tensor, torch.Tensor):
        raise WhiskerError(subject, expected="one tensor", got=f"a {type(tensor).__name__}")
    if not tensor.numel():
        raise WhiskerError(subject, expected="at least one row", got="an empty tensor")
    return tensor.detach()
