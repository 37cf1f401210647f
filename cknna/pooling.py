"""Pools the output of a module to one vector for each row of the batch."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Float32, Int64

from sim.errors import WhiskerError

type _Mask = Bool[torch.Tensor, "_row _masked"]
type Pool = Literal["mean", "masked-mean", "first", "last"]


def pool_rows(
    output: Float[torch.Tensor, "..."],
    n_rows: int,
    pool: Pool,
    mask: _Mask | None = None,
    *,
    cameras_first: bool = False,
) -> Float32[torch.Tensor, "row _dim"]:
    """Pool space or tokens in float32, and concatenate what a row has several of.

    A row may have several cameras or observation steps. The number of dimensions says what an
    output is: a map `(B, channels, h, w)`, pooled by the mean over space, tokens `(B, tokens, D)`,
    pooled as asked, or a vector `(B, D)`. B is k times the number of rows, and a row gets k D
    numbers.

    Args:
        mask: real tokens. The values of padding, NaN included, do not matter. A row without real
            tokens gives NaN.
        cameras_first: B runs over the rows of the first camera, then over those of the second.

    Raises:
        WhiskerError: the output has another shape, or the mask does not fit its tokens.
    """
    values = output.detach().float()
    if values.ndim not in (2, 3, 4) or len(values) % n_rows:
        shapes = "(B, D), (B, tokens, D) or (B, channels, h, w)"
        raise WhiskerError(
            "output at a hook point",
            expected=f"{shapes} with B a multiple of the batch of {n_rows}",
            got=str(tuple(output.shape)),
        )
    if values.ndim == 4:
        values = values.mean(dim=(2, 3))
    elif values.ndim == 3:
        values = _pool_tokens(values, pool, mask)
    n_parts = len(values) // n_rows
    if cameras_first:
        values = values.unflatten(0, (n_parts, n_rows)).transpose(0, 1)
    # The network may go on working in place, so the result is always a copy.
    return values.reshape(n_rows, -1).clone()


def _pool_tokens(
    values: Float32[torch.Tensor, "row token dim"],
    pool: Pool,
    mask: _Mask | None,
) -> Float32[torch.Tensor, "row dim"]:
    """Pool tokens. Without a fitting mask `first` and `last` take all tokens as real."""
    shape = values.shape[:2]
    if mask is None or mask.shape != shape:
        if pool == "masked-mean":
            raise WhiskerError(
                "--pool masked-mean",
                expected=f"a mask of the tokens {tuple(shape)}",
                got="none for this policy type" if mask is None else f"one of {tuple(mask.shape)}",
                hint="Use --pool mean, first or last.",
            )
        mask = values.new_ones(shape, dtype=torch.bool)
    if pool == "mean":
        return values.mean(dim=1)
    if pool == "masked-mean":
        return torch.where(mask[..., None], values, 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    if pool == "first":
        index = _find_first(mask)
    else:
        index = mask.shape[1] - 1 - _find_first(mask.flip(1))
    return values[torch.arange(len(values), device=values.device), index]


def _find_first(mask: Bool[torch.Tensor, "row token"]) -> Int64[torch.Tensor, " row"]:
    """Return the index of the first true entry of each row; `argmax` returns the first maximum."""
    return mask.int().argmax(dim=1)


def find_tensor(output: Any) -> torch.Tensor | None:
    """Return the main tensor of a module's output, or None if it has none.

    This is the output itself, its `last_hidden_state`, or the first tensor in it.
    """
    if isinstance(output, torch.Tensor):
        return output
    if hasattr(output, "last_hidden_state"):
        return output.last_hidden_state
    if isinstance(output, dict):
        output = output.values()
    elif not isinstance(output, (list, tuple)):
        return None
    tensors = map(find_tensor, output)
    return next((tensor for tensor in tensors if tensor is not None), None)
