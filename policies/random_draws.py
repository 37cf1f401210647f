"""Random numbers of a forward pass, drawn for each row of the batch from a generator of its own."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.overrides import TorchFunctionMode


class RowDraws(TorchFunctionMode):
    """While it is on, torch draws row i of a batch from generator i.

    Policies draw from torch's one global generator, so that what an episode gets depends on who
    shares its batch and on all that ran before. Here a row gets the numbers that it would get
    alone, after `torch.manual_seed` with a seed from its own generator: the same in a batch of one
    and of eight, on a CPU and on a GPU.

    A draw belongs to rows by its leading dimension, a multiple of the batch (several tokens a row).
    One that does not is served to a batch of one only, and is an error in a larger batch.
    """

    def __init__(self, rngs: Sequence[np.random.Generator]) -> None:
        super().__init__()
        self._generators = [torch.Generator().manual_seed(int(rng.integers(2**63))) for rng in rngs]

    @property
    def n_rows(self) -> int:
        return len(self._generators)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        draw = _DRAWS.get(func)
        return (
            func(*args, **(kwargs or {})) if draw is None else draw(self, *args, **(kwargs or {}))
        )

    def fill(
        self, shape: Sequence[int], draw: Callable[[tuple[int, ...], torch.Generator], torch.Tensor]
    ):
        """A tensor of that shape on the CPU, of one draw a row."""
        if self.n_rows == 1:
            return draw(tuple(shape), self._generators[0])
        n_each, left_over = divmod(shape[0] if shape else 1, self.n_rows)
        if left_over:
            raise RuntimeError(
                f"a random draw of shape {tuple(shape)} does not divide among {self.n_rows} episodes"
            )
        return torch.cat([draw((n_each, *shape[1:]), generator) for generator in self._generators])


def _randn(draws: RowDraws, *size, dtype=None, device=None, **kwargs):
    shape = (
        kwargs["size"] if "size" in kwargs else size[0] if not isinstance(size[0], int) else size
    )
    return draws.fill(shape, lambda part, g: torch.randn(part, generator=g, dtype=dtype)).to(device)


def _randn_like(draws: RowDraws, like, dtype=None, device=None, **_):
    return _randn(draws, *like.shape, dtype=dtype or like.dtype, device=device or like.device)


def _normal(draws: RowDraws, mean=0.0, std=1.0, size=None, dtype=None, device=None, **_):
    if size is None:
        return mean + std * _randn_like(draws, mean if isinstance(mean, torch.Tensor) else std)
    return draws.fill(
        size, lambda part, g: torch.normal(mean, std, part, generator=g, dtype=dtype)
    ).to(device)


def _normal_(draws: RowDraws, tensor, mean=0.0, std=1.0, **_):
    def draw(part, generator):
        return torch.empty(part, dtype=tensor.dtype).normal_(mean, std, generator=generator)

    return tensor.copy_(draws.fill(tensor.shape, draw))


def _multinomial(draws: RowDraws, input, num_samples, replacement=False, **_):
    # One distribution alone has no row to divide by.
    rows = input.cpu() if input.ndim > 1 else input.cpu()[None]
    parts = iter(rows.split(math.ceil(len(rows) / draws.n_rows)))
    chosen = draws.fill(
        rows.shape[:1],
        lambda _, g: torch.multinomial(next(parts), num_samples, replacement, generator=g),
    )
    return chosen.reshape(*input.shape[:-1], num_samples).to(input.device)


def _randint(draws: RowDraws, *args, low=0, high=None, size=None, dtype=None, device=None, **_):
    *bounds, size = args if size is None else (*args, size)
    low, high = bounds if len(bounds) == 2 else (low, bounds[0] if bounds else high)
    return draws.fill(
        size, lambda part, g: torch.randint(low, high, part, generator=g, dtype=dtype)
    ).to(device)


def _dropout(draws: RowDraws, input, p=0.5, training=True, *_, **__):
    del draws
    if training and p > 0:
        raise RuntimeError("dropout is on: a network that plans must be in evaluation mode")
    return input


def _refuse(name: str) -> Callable:
    def refuse(draws: RowDraws, *args, **kwargs):
        raise RuntimeError(
            f"torch.{name} draws from the global generator: which episode would it be for?"
        )

    return refuse


_DRAWS: dict[Callable, Callable] = {
    torch.randn: _randn,
    torch.randn_like: _randn_like,
    torch.normal: _normal,
    torch.Tensor.normal_: _normal_,
    torch.multinomial: _multinomial,
    torch.Tensor.multinomial: _multinomial,
    torch.randint: _randint,
    torch.nn.functional.dropout: _dropout,
}
# No policy draws by these, and one that does must not go unnoticed.
_DRAWS |= {
    getattr(torch, name): _refuse(name)
    for name in ("rand", "rand_like", "randint_like", "randperm", "bernoulli")
}
_DRAWS |= {
    getattr(torch.Tensor, name): _refuse(f"Tensor.{name}")
    for name in (
        "uniform_",
        "bernoulli",
        "bernoulli_",
        "exponential_",
        "random_",
        "geometric_",
        "log_normal_",
        "cauchy_",
    )
}
