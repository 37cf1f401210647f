"""Random numbers of a forward pass, drawn for each row of the batch from a generator of its own."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.overrides import TorchFunctionMode


class PerRowSeededRandom(TorchFunctionMode):
    """While this mode is active, torch draws row i of a batch from generator i.

    Policies draw from torch's one global generator, so the numbers of an episode would depend on
    the other rows of its batch and on everything that ran before. With this mode, a row gets the
    numbers that it would get alone, after `torch.manual_seed` with a seed from its own generator.
    They are the same in a batch of one and of eight, on a CPU and on a GPU.

    The leading dimension of a draw assigns it to rows: it is a multiple of the batch (several
    tokens per row). A draw that does not divide is served in a batch of one, and is an error in a
    larger batch.
    """

    def __init__(self, rngs: Sequence[np.random.Generator]) -> None:
        super().__init__()
        seeds = [int(rng.integers(2**63)) for rng in rngs]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.n_rows = len(seeds)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        draw = partial(_DRAWS[func], self) if func in _DRAWS else func
        return draw(*args, **kwargs or {})

    def fill(
        self,
        shape: Sequence[int],
        draw: Callable[[tuple[int, ...], torch.Generator], torch.Tensor],
    ):
        """Return a tensor of that shape on the CPU, made of one draw per row."""
        if self.n_rows == 1:
            return draw(tuple(shape), self._generators[0])
        n_each, remainder = divmod(shape[0] if shape else 1, self.n_rows)
        if remainder:
            raise RuntimeError(
                f"a random draw of shape {tuple(shape)} does not divide "
                f"among {self.n_rows} episodes"
            )
        part = (n_each, *shape[1:])
        return torch.cat([draw(part, generator) for generator in self._generators])


def _randn(mode: PerRowSeededRandom, *size, **kwargs):
    return _draw_shape(mode, torch.randn, *size, **kwargs)


def _rand(mode: PerRowSeededRandom, *size, **kwargs):
    return _draw_shape(mode, torch.rand, *size, **kwargs)


def _draw_shape(mode: PerRowSeededRandom, random, *size, dtype=None, device=None, **kwargs):
    """Return what `torch.randn` or `torch.rand` draws; they take the same arguments."""
    if "size" in kwargs:
        shape = kwargs["size"]
    elif isinstance(size[0], int):
        shape = size
    else:
        shape = size[0]

    def draw(part, generator):
        return random(part, generator=generator, dtype=dtype)

    return mode.fill(shape, draw).to(device)


def _randn_like(mode: PerRowSeededRandom, like, dtype=None, device=None, **_):
    return _randn(mode, *like.shape, dtype=dtype or like.dtype, device=device or like.device)


def _normal(mode: PerRowSeededRandom, mean=0.0, std=1.0, size=None, dtype=None, device=None, **_):
    if size is None:
        like = mean if isinstance(mean, torch.Tensor) else std
        return mean + std * _randn_like(mode, like)

    def draw(part, generator):
        return torch.normal(mean, std, part, generator=generator, dtype=dtype)

    return mode.fill(size, draw).to(device)


def _normal_(mode: PerRowSeededRandom, tensor, mean=0.0, std=1.0, **_):
    def draw(part, generator):
        return torch.empty(part, dtype=tensor.dtype).normal_(mean, std, generator=generator)

    return tensor.copy_(mode.fill(tensor.shape, draw))


def _multinomial(mode: PerRowSeededRandom, input, num_samples, replacement=False, **_):
    # A single distribution has no leading dimension to divide.
    rows = input.cpu() if input.ndim > 1 else input.cpu()[None]
    parts = iter(rows.split(math.ceil(len(rows) / mode.n_rows)))

    def draw(_, generator):
        return torch.multinomial(next(parts), num_samples, replacement, generator=generator)

    chosen = mode.fill(rows.shape[:1], draw)
    return chosen.reshape(*input.shape[:-1], num_samples).to(input.device)


def _randint(
    mode: PerRowSeededRandom,
    *args,
    low=0,
    high=None,
    size=None,
    dtype=None,
    device=None,
    **_,
):
    bounds = list(args)
    if size is None:
        size = bounds.pop()
    if len(bounds) == 2:
        low, high = bounds
    elif bounds:
        high = bounds[0]

    def draw(part, generator):
        return torch.randint(low, high, part, generator=generator, dtype=dtype)

    return mode.fill(size, draw).to(device)


def _dropout(mode: PerRowSeededRandom, input, p=0.5, training=True, *_, **__):
    del mode
    if training and p > 0:
        raise RuntimeError("dropout is on: a network that plans must be in evaluation mode")
    return input


def _refuse(name: str) -> Callable:
    def refuse(mode: PerRowSeededRandom, *args, **kwargs):
        raise RuntimeError(
            f"torch.{name} draws from the global generator, and cannot be seeded per episode"
        )

    return refuse


_DRAWS: dict[Callable, Callable] = {
    torch.randn: _randn,
    torch.randn_like: _randn_like,
    torch.rand: _rand,
    torch.normal: _normal,
    torch.Tensor.normal_: _normal_,
    torch.multinomial: _multinomial,
    torch.Tensor.multinomial: _multinomial,
    torch.randint: _randint,
    torch.nn.functional.dropout: _dropout,
}
# No policy uses these functions. One that begins to must not draw unseeded numbers unnoticed.
_REFUSED_FUNCTIONS = ("rand_like", "randint_like", "randperm", "bernoulli")
_REFUSED_METHODS = (
    "uniform_",
    "bernoulli",
    "bernoulli_",
    "exponential_",
    "random_",
    "geometric_",
    "log_normal_",
    "cauchy_",
)
for _name in _REFUSED_FUNCTIONS:
    _DRAWS[getattr(torch, _name)] = _refuse(_name)
for _name in _REFUSED_METHODS:
    _DRAWS[getattr(torch.Tensor, _name)] = _refuse(f"Tensor.{_name}")
