"""Which rows may be among the k nearest of a row: a dense product in float32, that leaves nobody out.

Nearest is the largest cosine s_ij of unit rows a_i. float32 cannot rank them, but it can say who is not in question:

1. Rows of a trained network point much the same way (s > 0.99), and float32 would lose the ranking in what they share.
   With the mean row μ, d_i = a_i - μ and c_i = μ·d_i, rows are ranked by s_ij - |μ|² = d_i·d_j + c_i + c_j: no loss.
2. A float32 product differs from the true one by less than ε = λ sqrt(dim) u (|d_i| max|d_j| + 2 max|c_j|), u = 2^-24;
   with λ = 8, an entry is further off once in 1e13 (Higham & Mary 2019, "A new approach to probabilistic rounding error
   analysis"). So the true k + 1 nearest are all among the entries within 2 ε of the (k + 1)-th largest.

The product is symmetric: on the processor only tiles on and above the diagonal are made, and each serves its rows and
its columns. A row's bar is the (k + 1)-th largest of what it has met so far; who is below by more than 2 ε is
forgotten. Tiles on the diagonal come first: the rows of an episode stand side by side, so the bar is high from the
start. Where very many are equally near (a feature of few values), what is remembered would grow to n x n; then whole
strips take over.
"""

import os
from collections.abc import Iterator
from math import sqrt

import numpy as np
from jaxtyping import Float32, Int

from cknna.features import KEPT_BYTES, UnitRows

# Rows and columns of a tile. Few large products: small ones make the threads of BLAS wait for each other, on a busy
# machine ten times as long as they work.
TILE = 4096
_MIN_BLOCKS = 4
STRIP_BYTES = 128 << 20
# How many nominees a row and neighbour are remembered before strips take over.
MAX_REMEMBERED = 32
_ROUNDING = 8.0
_FLOAT32_UNIT = 2.0**-24
_LOWEST = float(np.finfo(np.float32).min)
# Importing torch takes seconds: below this many multiplications the processor has finished by then.
_GPU_MULTIPLICATIONS = 1e11
# What a machine with an NVIDIA driver has, or Windows' Linux.
_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg")

# (start, stop, row - start, column) of rows [start, stop): rows ascending, columns in any order.
type Nominees = tuple[int, int, Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]


def nominate(
    rows: UnitRows, k: int, label: np.ndarray | None = None, tile: int | None = None, device: str | None = None
) -> Iterator[Nominees]:
    """All rows, some at a time in order, each with its k + 1 nearest and whoever float32 cannot tell from them.

    A row is not its own nominee, nor is one of the same label. There are fewer where there are fewer to choose from.
    """
    if device is None and rows.n**2 * rows.dim >= _GPU_MULTIPLICATIONS and any(map(os.path.exists, _GPU_FILES)):
        import torch

        device = "cuda" if torch.cuda.is_available() else None
    centred = _CentredRows(rows)
    if device in (None, "numpy"):
        return _sweep(centred, k, label, tile or min(TILE, -(-rows.n // _MIN_BLOCKS)))
    return _nominate_on_device(centred, k, label, device)


class _CentredRows:
    """Left [d_i, c_i, 1] and right [d_j, 1, c_j] factors of the product, and how far float32 may be from it."""

    def __init__(self, rows: UnitRows) -> None:
        self.n, self._rows = rows.n, rows
        self._mean = rows.mean.astype(np.float32)
        self._offset = np.empty(rows.n, np.float32)
        length = np.empty(rows.n)
        shape = rows.n, rows.dim + 2
        self._right = np.empty(shape, np.float32) if 4 * shape[0] * shape[1] <= KEPT_BYTES else None
        for start, stop in rows.blocks():
            block = rows.block(start, stop) - self._mean
            self._offset[start:stop] = block @ rows.mean
            length[start:stop] = np.sqrt(np.vecdot(block, block))
            if self._right is not None:
                self._right[start:stop] = self._make(start, stop, (1, self._offset[start:stop]))
        scale = length * length.max() + 2 * np.abs(self._offset).max()
        self.error = ((_ROUNDING * sqrt(rows.dim + 2) + 4) * _FLOAT32_UNIT * scale).astype(np.float32)

    def left(self, start: int, stop: int) -> Float32[np.ndarray, "rows dim_and_2"]:
        return self._make(start, stop, (self._offset[start:stop], 1))

    def right(self, start: int, stop: int) -> Float32[np.ndarray, "rows dim_and_2"]:
        if self._right is not None:
            return self._right[start:stop]
        return self._make(start, stop, (1, self._offset[start:stop]))

    def _make(self, start: int, stop: int, last: tuple) -> Float32[np.ndarray, "rows dim_and_2"]:
        factor = np.empty((stop - start, self._rows.dim + 2), np.float32)
        np.subtract(self._rows.block(start, stop), self._mean, out=factor[:, :-2])
        factor[:, -2], factor[:, -1] = last
        return factor


class _Memory:
    """Of some rows the k + 1 largest products that they have met, and all that are within 2 ε of the bar."""

    def __init__(self, error: Float32[np.ndarray, " rows"], k: int) -> None:
        self._error = error
        self._top = np.full((len(error), k + 1), -np.inf, np.float32)
        self._met: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def n(self) -> int:
        return sum(len(row) for row, _, _ in self._met)

    def meet(self, products: Float32[np.ndarray, "rows columns"], first_column: int, transposed: bool = False) -> None:
        """Products of these rows with columns first_column, ...; `transposed` where memory has them by column."""
        bar = self._top.min(1)
        empty = np.flatnonzero(np.isneginf(bar))
        rank = products.shape[1] - self._top.shape[1]
        if len(empty) and rank >= 0:
            bar[empty] = np.partition(products[empty], rank, axis=1)[:, rank]
        bar = np.maximum(bar - 2 * self._error, _LOWEST)
        if transposed:
            by_column = products.T
            column, row = np.divmod(np.flatnonzero(by_column >= bar), products.shape[0])
        else:
            row, column = np.divmod(np.flatnonzero(products >= bar[:, None]), products.shape[1])
        if len(row):
            value = products[row, column]
            self._raise_bar(row, value)
            self._met.append((row.astype(np.int32), (column + first_column).astype(np.int32), value))

    def recall(self) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
        """(row, column) of who is still in question, by row."""
        bar = np.maximum(self._top.min(1) - 2 * self._error, _LOWEST)
        row, column, value = (np.concatenate(parts) for parts in zip(*self._met, strict=True))
        kept = value >= bar[row]
        self._met = [(row[kept], column[kept], value[kept])]
        order = np.argsort(row[kept], kind="stable")
        return row[kept][order], column[kept][order]

    def _raise_bar(self, row: np.ndarray, value: np.ndarray) -> None:
        order = np.lexsort((-value, row))
        row, value = row[order], value[order]
        touched, begin, group = np.unique(row, return_index=True, return_inverse=True)
        place = np.arange(len(row)) - begin[group]
        width = self._top.shape[1]
        best = place < width
        both = np.full((len(touched), 2 * width), -np.inf, np.float32)
        both[:, :width] = self._top[touched]
        both[group[best], width + place[best]] = value[best]
        self._top[touched] = np.partition(both, width, axis=1)[:, width:]


def _sweep(centred: _CentredRows, k: int, label: np.ndarray | None, tile: int) -> Iterator[Nominees]:
    n = centred.n
    blocks = [(start, min(start + tile, n)) for start in range(0, n, tile)]
    memories = [_Memory(centred.error[start:stop], k) for start, stop in blocks]
    room = np.empty((min(tile, n), min(tile, n)), np.float32)  # fresh memory would cost a tenth of the product

    def multiply(i: int, j: int, left: np.ndarray) -> np.ndarray:
        (start, stop), (first, last) = blocks[i], blocks[j]
        products = np.matmul(left, centred.right(first, last).T, out=room[: stop - start, : last - first])
        _forbid(products, start, stop, first, label)
        return products

    for i, block in enumerate(blocks):
        memories[i].meet(multiply(i, i, centred.left(*block)), block[0])
    for i, (start, stop) in enumerate(blocks):
        left = centred.left(start, stop)
        for j in range(i + 1, len(blocks)):
            products = multiply(i, j, left)
            memories[i].meet(products, blocks[j][0])
            memories[j].meet(products.T, start, transposed=True)
        yield (start, stop, *memories[i].recall())
        memories[i] = _Memory(centred.error[:0], k)
        if sum(memory.n for memory in memories) > MAX_REMEMBERED * (k + 1) * n:
            for memory in memories[i + 1 :]:
                memory.recall()
            if sum(memory.n for memory in memories) > MAX_REMEMBERED * (k + 1) * n // 2:
                del memories
                yield from _nominate_in_strips(centred, k, label, stop)
                return


def _nominate_in_strips(centred: _CentredRows, k: int, label: np.ndarray | None, begin: int) -> Iterator[Nominees]:
    """Rows from `begin` on, each with all columns at once: twice the products, and nothing to remember."""
    n = centred.n
    height = int(np.clip(STRIP_BYTES // (4 * n), 1, TILE))
    room = np.empty((height, n), np.float32)
    for start in range(begin, n, height):
        stop = min(start + height, n)
        strip, left = room[: stop - start], centred.left(start, stop)
        for first in range(0, n, TILE):
            last = min(first + TILE, n)
            np.matmul(left, centred.right(first, last).T, out=strip[:, first:last])
        _forbid(strip, start, stop, 0, label)
        memory = _Memory(centred.error[start:stop], k)
        memory.meet(strip, 0)
        yield (start, stop, *memory.recall())


def _forbid(products: np.ndarray, start: int, stop: int, first: int, label: np.ndarray | None) -> None:
    """A row and itself, or whoever has its label."""
    if label is not None:
        products[label[start:stop, None] == label[first : first + products.shape[1]]] = -np.inf
        return
    own = np.arange(max(start, first), min(stop, first + products.shape[1]))
    products[own - start, own - first] = -np.inf


def _nominate_on_device(centred: _CentredRows, k: int, label: np.ndarray | None, device: str) -> Iterator[Nominees]:
    """In strips on a GPU, by torch; the right factor stays there: a bank of n rows, never n x n."""
    import torch

    n = centred.n
    height = int(np.clip(STRIP_BYTES // (4 * n), 1, TILE))
    blocks = [(first, min(first + TILE, n)) for first in range(0, n, TILE)]
    right = torch.cat([torch.from_numpy(centred.right(*block)).to(device) for block in blocks])
    labels = None if label is None else torch.from_numpy(label).to(device)
    error = torch.from_numpy(centred.error).to(device)
    for start in range(0, n, height):
        stop = min(start + height, n)
        allowed, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
        try:
            strip = torch.from_numpy(centred.left(start, stop)).to(device) @ right.T
        finally:
            torch.backends.cuda.matmul.allow_tf32 = allowed
        if labels is None:
            strip[torch.arange(stop - start), torch.arange(start, stop)] = -torch.inf
        else:
            strip[labels[start:stop, None] == labels] = -torch.inf
        bar = strip.topk(k + 1, dim=1).values[:, -1] - 2 * error[start:stop]
        row, column = torch.nonzero(strip >= bar.clamp_min(_LOWEST)[:, None], as_tuple=True)
        yield start, stop, row.cpu().numpy(), column.cpu().numpy()
