"""Finds the rows that may be among the k nearest of each row, by a float32 product.

Nearest means the largest cosine of unit rows. float32 cannot rank the cosines, but it can rule rows
out (`cknna/centered_factors.py`). The true k + 1 nearest are all among the entries within 2 ε of
the (k + 1)-th largest, so no neighbour is missed.

The product is symmetric. On the CPU only tiles on and above the diagonal are computed, as many at a
time as there are processors, and each tile serves its rows and its columns
(`cknna/top_k_candidates.py`). Tiles on the diagonal come first: rows of an episode are adjacent, so
the thresholds are high from the start. If very many rows are equally near (a feature with few
values), the candidates would grow to n x n. Then whole strips are computed instead.
"""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import isqrt, prod
from queue import SimpleQueue

import numpy as np
from jaxtyping import Float32, Int
from threadpoolctl import threadpool_limits

from cknna.centered_factors import CenteredFactors
from cknna.features import cut
from cknna.top_k_candidates import LOWEST, TopKCandidates, find_nth_largest

N_THREADS = os.cpu_count() or 1
if hasattr(os, "sched_getaffinity"):
    N_THREADS = len(os.sched_getaffinity(0))
# Rows and columns of a tile. All threads together hold at most 256 MB of products. With fewer rows
# a tile is a fraction of them, because half the work on the diagonal is lost, but it stays large
# enough to be worth a thread.
TILE = min(4096, isqrt((64 << 20) // N_THREADS))
_TILES_A_SIDE = 8
_MIN_TILE = 1024
STRIP_BYTES = 128 << 20
# Number of candidates remembered for each row and neighbour before strips are used instead.
MAX_REMEMBERED = 32
# Importing torch takes seconds. Below this many multiplications the CPU finishes sooner.
_GPU_MULTIPLICATIONS = 1e11
# Device files of an NVIDIA driver, and of the Windows Subsystem for Linux.
_GPU_FILES = ("/dev/nvidiactl", "/dev/dxg")

# Rows, and pairs (row - rows.start, column) sorted by row.
type _Pairs = Int[np.ndarray, " pair"]
type Candidates = tuple[slice, _Pairs, _Pairs]


def find_candidates(
    factors: CenteredFactors,
    k: int,
    label: np.ndarray | None,
    tile: int | None,
    device: str | None,
) -> Iterator[Candidates]:
    """Yield all rows in order, some at a time, with the candidates for their k + 1 nearest.

    These are the k + 1 nearest and every row that float32 cannot tell from them. A row is not its
    own candidate, and neither is a row of the same label. There are fewer candidates if there are
    fewer rows to choose from.
    """
    n = factors.n
    is_large = n**2 * factors.dim >= _GPU_MULTIPLICATIONS
    if device is None and is_large and any(map(os.path.exists, _GPU_FILES)):
        import torch

        device = "cuda" if torch.cuda.is_available() else None
    product = _Product(factors, np.arange(n) if label is None else label)
    if device not in (None, "numpy"):
        return _find_on_device(product, k, device)
    blocks = list(cut(n, tile or min(TILE, max(_MIN_TILE, n // _TILES_A_SIDE))))
    found = _multiply_tiles(product, k, blocks)
    if found is None:
        return _find_in_strips(product, k)
    both = zip(blocks, found, strict=True)
    return ((block, *candidates.result()) for block, candidates in both)


class _Product:
    """Computes any part of the n x n products; -inf between rows of one label."""

    def __init__(
        self,
        factors: CenteredFactors,
        label: Int[np.ndarray, " n"],
    ) -> None:
        self.n = factors.n
        self.error = factors.error
        self.factors = factors
        self.label = label
        self._all_differ = len(np.unique(label)) == len(label)

    def make(
        self,
        rows: slice,
        columns: slice,
        buffer: Float32[np.ndarray, "..."] | None = None,
    ) -> np.ndarray:
        left = self.factors.left(rows)
        right = self.factors.right(columns)
        shape = (len(left), len(right))
        out = None if buffer is None else buffer[: prod(shape)].reshape(shape)
        products = np.matmul(left, right.T, out=out)
        overlap = rows.start < columns.stop and columns.start < rows.stop
        if overlap or not self._all_differ:
            products[self.label[rows, None] == self.label[columns]] = -np.inf
        return products


def _multiply_tiles(
    product: _Product,
    k: int,
    blocks: list[slice],
) -> list[TopKCandidates] | None:
    """Return the candidates of each block, or None if there are too many to remember."""
    found = [TopKCandidates(product.error[block], k) for block in blocks]
    most = MAX_REMEMBERED * (k + 1) * product.n
    # Fresh memory for each tile would cost a tenth of the product.
    buffers: SimpleQueue[np.ndarray] = SimpleQueue()
    for _ in range(N_THREADS):
        buffers.put(np.empty(blocks[0].stop ** 2, np.float32))

    def multiply(tile: tuple[int, int]) -> bool:
        if sum(candidates.n_pairs for candidates in found) > most:
            return False
        i, j = tile
        buffer = buffers.get()
        products = product.make(blocks[i], blocks[j], buffer)
        found[i].update(products, blocks[j])
        if i != j:
            found[j].update(products, blocks[i], transposed=True)
        buffers.put(buffer)
        return True

    indices = range(len(blocks))
    tiles = [*zip(indices, indices, strict=True), *itertools.combinations(indices, 2)]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(N_THREADS) as threads:
        is_complete = all(threads.map(multiply, tiles))
    return found if is_complete else None


def _find_in_strips(product: _Product, k: int) -> Iterator[Candidates]:
    """Compute whole rows at a time, which takes twice the products and remembers nothing."""
    height = _strip_height(product.n)
    buffer = np.empty((height, product.n), np.float32)
    for rows in cut(product.n, height):
        strip = buffer[: rows.stop - rows.start]
        for columns in cut(product.n, TILE):
            strip[:, columns] = product.make(rows, columns)
        threshold = np.maximum(find_nth_largest(strip, k + 1) - 2 * product.error[rows], LOWEST)
        reaches = np.flatnonzero(strip >= threshold[:, None])
        yield rows, *np.divmod(reaches, product.n)


def _strip_height(n: int) -> int:
    return int(np.clip(STRIP_BYTES // (4 * n), 1, TILE))


def _find_on_device(
    product: _Product,
    k: int,
    device: str,
) -> Iterator[Candidates]:
    """Compute strips with torch. The right factor stays on the device: n rows, never n x n."""
    import torch

    n = product.n
    factors = product.factors

    def upload(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    right = torch.cat([upload(factors.right(columns)) for columns in cut(n, TILE)])
    label = upload(product.label)
    error = upload(product.error)
    matmul = torch.backends.cuda.matmul
    for rows in cut(n, _strip_height(n)):
        allowed = matmul.allow_tf32
        matmul.allow_tf32 = False
        try:
            strip = upload(factors.left(rows)) @ right.T
        finally:
            matmul.allow_tf32 = allowed
        strip[label[rows, None] == label] = -torch.inf
        threshold = strip.topk(k + 1, dim=1).values[:, -1] - 2 * error[rows]
        threshold.clamp_min_(LOWEST)
        row, column = torch.nonzero(strip >= threshold[:, None], as_tuple=True)
        yield rows, row.cpu().numpy(), column.cpu().numpy()
