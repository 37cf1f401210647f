"""Which rows may be among the k nearest of a row: a product in float32, that leaves nobody out.

Nearest is the largest cosine of unit rows. float32 cannot rank them, but it can say who is not in
question (`cknna/centred_rows.py`): the true k + 1 nearest are all among the entries within 2 ε of
the (k + 1)-th largest.

The product is symmetric: on the processor only tiles on and above the diagonal are made, as many at
a time as there are processors, and each serves its rows and its columns (`cknna/shortlist.py`).
Tiles on the diagonal come first: the rows of an episode stand side by side, so the bar is high from
the start. Where very many are equally near (a feature of few values), what is remembered would grow
to n x n; then whole strips take over.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import isqrt
from queue import SimpleQueue

import numpy as np
from jaxtyping import Float32, Int
from threadpoolctl import threadpool_limits

from cknna.centred_rows import CentredRows
from cknna.features import cut
from cknna.shortlist import LOWEST, Shortlist, find_nth_largest

N_THREADS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)
# Rows and columns of a tile: at most so many, that all threads together hold 256 MB of products;
# where there are fewer rows, a part of them, for half the work on the diagonal is lost; but not so
# few that it is not worth a thread.
TILE = min(4096, isqrt((64 << 20) // N_THREADS))
_TILES_A_SIDE, _MIN_TILE = 8, 1024
STRIP_BYTES = 128 << 20
# How many nominees a row and neighbour are remembered before strips take over.
MAX_REMEMBERED = 32
# Importing torch takes seconds: below this many multiplications the processor has finished by then.
_GPU_MULTIPLICATIONS = 1e11
# What a machine with an NVIDIA driver has, or Windows' Linux.
_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg")

# Rows, and pairs (row - rows.start, column) by row.
type Nominees = tuple[slice, Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]


def nominate(
    factors: CentredRows,
    k: int,
    label: np.ndarray | None = None,
    tile: int | None = None,
    device: str | None = None,
) -> Iterator[Nominees]:
    """All rows, some at a time in order, each with its k + 1 nearest and whoever float32 cannot tell from them.

    A row is not its own nominee, nor is one of the same label. There are fewer where there are
    fewer to choose from.
    """
    n = factors.n
    if (
        device is None
        and n**2 * factors.dim >= _GPU_MULTIPLICATIONS
        and any(map(os.path.exists, _GPU_FILES))
    ):
        import torch

        device = "cuda" if torch.cuda.is_available() else None
    product = _Product(factors, np.arange(n) if label is None else label)
    if device in (None, "numpy"):
        return _nominate(product, k, tile or min(TILE, max(_MIN_TILE, n // _TILES_A_SIDE)))
    return _nominate_on_device(product, k, device)


class _Product:
    """Any part of the n x n products, made when it is asked for; -inf between rows of one label."""

    def __init__(self, factors: CentredRows, label: Int[np.ndarray, " n"]) -> None:
        self.n, self.error, self.factors, self.label = factors.n, factors.error, factors, label
        self._is_own = len(np.unique(label)) == len(label)

    def make(
        self, rows: slice, columns: slice, room: Float32[np.ndarray, "..."] | None = None
    ) -> np.ndarray:
        left, right = self.factors.left(rows), self.factors.right(columns)
        out = (
            None if room is None else room[: len(left) * len(right)].reshape(len(left), len(right))
        )
        products = np.matmul(left, right.T, out=out)
        if not self._is_own or max(rows.start, columns.start) < min(rows.stop, columns.stop):
            products[self.label[rows, None] == self.label[columns]] = -np.inf
        return products


def _nominate(product: _Product, k: int, tile: int) -> Iterator[Nominees]:
    blocks = list(cut(product.n, tile))
    shortlists = _sweep(product, k, blocks)
    if shortlists is None:
        yield from _nominate_in_strips(product, k)
        return
    for block, shortlist in zip(blocks, shortlists, strict=True):
        yield block, *shortlist.recall()


def _sweep(product: _Product, k: int, blocks: list[slice]) -> list[Shortlist] | None:
    """The shortlist of each block; None where they would be too long."""
    shortlists = [Shortlist(product.error[block], k) for block in blocks]
    most = MAX_REMEMBERED * (k + 1) * product.n
    rooms: SimpleQueue[np.ndarray] = SimpleQueue()  # fresh memory would cost a tenth of the product
    for _ in range(N_THREADS):
        rooms.put(np.empty(blocks[0].stop ** 2, np.float32))

    def meet(tile: tuple[int, int]) -> bool:
        if sum(shortlist.n_remembered for shortlist in shortlists) > most:
            return False
        i, j = tile
        room = rooms.get()
        products = product.make(blocks[i], blocks[j], room)
        shortlists[i].meet(products, blocks[j])
        if i != j:
            shortlists[j].meet(products, blocks[i], transposed=True)
        rooms.put(room)
        return True

    n = range(len(blocks))
    tiles = [(i, i) for i in n] + [(i, j) for i in n for j in n[i + 1 :]]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(N_THREADS) as threads:
        return shortlists if all(threads.map(meet, tiles)) else None


def _nominate_in_strips(product: _Product, k: int) -> Iterator[Nominees]:
    """Each row with all columns at once: twice the products, and nothing to remember."""
    height = int(np.clip(STRIP_BYTES // (4 * product.n), 1, TILE))
    room = np.empty((height, product.n), np.float32)
    for rows in cut(product.n, height):
        strip = room[: rows.stop - rows.start]
        for columns in cut(product.n, TILE):
            strip[:, columns] = product.make(rows, columns)
        bar = np.maximum(find_nth_largest(strip, k + 1) - 2 * product.error[rows], LOWEST)
        yield rows, *np.divmod(np.flatnonzero(strip >= bar[:, None]), product.n)


def _nominate_on_device(product: _Product, k: int, device: str) -> Iterator[Nominees]:
    """In strips on a GPU, by torch; the right factor stays there: a bank of n rows, never n x n."""
    import torch

    n, factors = product.n, product.factors
    right = torch.cat(
        [torch.from_numpy(factors.right(columns)).to(device) for columns in cut(n, TILE)]
    )
    label, error = (torch.from_numpy(array).to(device) for array in (product.label, product.error))
    for rows in cut(n, int(np.clip(STRIP_BYTES // (4 * n), 1, TILE))):
        allowed, torch.backends.cuda.matmul.allow_tf32 = (
            torch.backends.cuda.matmul.allow_tf32,
            False,
        )
        try:
            strip = torch.from_numpy(factors.left(rows)).to(device) @ right.T
        finally:
            torch.backends.cuda.matmul.allow_tf32 = allowed
        strip[label[rows, None] == label] = -torch.inf
        bar = strip.topk(k + 1, dim=1).values[:, -1] - 2 * error[rows]
        row, column = torch.nonzero(strip >= bar.clamp_min(LOWEST)[:, None], as_tuple=True)
        yield rows, row.cpu().numpy(), column.cpu().numpy()
