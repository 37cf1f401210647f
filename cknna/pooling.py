"""One vector a row of the batch, from whatever a module puts out."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Float32

from sim.errors import WhiskerError

type Pool = Literal["mean", "masked-mean", "first", "last"]


def pool_rows(
    output: Float[torch.Tensor, "..."],
    n_rows: int,
    pool: Pool,
    mask: Bool[torch.Tensor, "_row _masked"] | None = None,
    *,
    cameras_first: bool = False,
) -> Float32[torch.Tensor, "row _dim"]:
    """Pool space or tokens, in float32, and put what there is several of (cameras, observation steps) side by side.

    By its number of dimensions an output is a map `(B, channels, h, w)`, of which the mean over
    space is taken, tokens `(B, tokens, D)`, pooled as asked, or a vector `(B, D)`. B is k times the
    number of rows; a row gets k D numbers.

    Args:
        mask: real tokens. What padding holds, NaN included, changes nothing. A row without any
            gives NaN.
        cameras_first: B runs over the rows of the first camera, then over those of the second.

    Raises:
        WhiskerError: another shape, or tokens that the mask is not of.
    """
    values = output.detach().float()
    if values.ndim not in (2, 3, 4) or len(values) % n_rows:
        expected = f"(B, D), (B, tokens, D) or (B, channels, h, w) with B a multiple of the batch of {n_rows}"
        raise WhiskerError(
            "output at a hook point", expected=expected, got=str(tuple(output.shape))
        )
    if values.ndim == 4:
        values = values.mean(dim=(2, 3))
    elif values.ndim == 3:
        values = _pool_tokens(values, pool, mask)
    n_parts = len(values) // n_rows
    if cameras_first:
        values = values.unflatten(0, (n_parts, n_rows)).transpose(0, 1)
    # A copy, always: the network may go on working in place.
    return values.reshape(n_rows, -1).clone()


def _pool_tokens(
    values: Float32[torch.Tensor, "row token dim"],
    pool: Pool,
    mask: Bool[torch.Tensor, "_row _masked"] | None,
) -> Float32[torch.Tensor, "row dim"]:
    """Without a mask that fits, `first` and `last` are of all tokens; a masked mean needs one."""
    if mask is None or mask.shape != values.shape[:2]:
        if pool == "masked-mean":
            known = "none for this policy type" if mask is None else f"one of {tuple(mask.shape)}"
            raise WhiskerError(
                "--pool masked-mean",
                expected=f"a mask of the tokens {tuple(values.shape[:2])}",
                got=known,
                hint="Use --pool mean, first or last.",
            )
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    if pool == "mean":
        return values.mean(dim=1)
    if pool == "masked-mean":
        return torch.where(mask[..., None], values, 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    # The index of a maximum is that of the first.
    index = (
        mask.int().argmax(dim=1)
        if pool == "first"
        else mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)
    )
    return values[torch.arange(len(values), device=values.device), index]


def find_tensor(output: Any) -> torch.Tensor | None:
    """The tensor that a module's output is about: itself, `last_hidden_state`, or the first in it; None without any."""
    if isinstance(output, torch.Tensor):
        return output
    if hasattr(output, "last_hidden_state"):
        return output.last_hidden_state
    parts = (
        output.values()
        if isinstance(output, dict)
        else output
        if isinstance(output, (list, tuple))
        else ()
    )
    return next((tensor for part in parts if (tensor := find_tensor(part)) is not None), None)
