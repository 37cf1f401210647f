"""Keeps the candidate neighbours of some rows while approximate products arrive."""

from threading import Lock

import numpy as np
from jaxtyping import Float32, Int, Int32

LOWEST = float(np.finfo(np.float32).min)

type _Int32Pairs = Int32[np.ndarray, " pair"]
type _IntPairs = Int[np.ndarray, " pair"]
type _Products = Float32[np.ndarray, " pair"]


class TopKCandidates:
    """The columns of each row whose exact product could still be in its top k + 1.

    The threshold of a row is never above its (k + 1)-th largest exact product. It rises as products
    arrive, and columns that are certainly below it are dropped. Threads may share one object.

    Attributes:
        n_pairs: number of pairs that are remembered.
    """

    def __init__(
        self,
        error: Float32[np.ndarray, " row"],
        k: int,
    ) -> None:
        """Begin without candidates.

        Args:
            error: bound on how far the products of each row are from the exact ones.
            k: number of neighbours.
        """
        self._error = error
        self._k = k
        self._threshold = np.full(len(error), LOWEST, np.float32)
        self._largest = np.full((len(error), k + 1), -np.inf, np.float32)
        self._found: list[tuple[_Int32Pairs, _Int32Pairs, _Products]] = []
        self._lock = Lock()
        self.n_pairs = 0

    def update(
        self,
        products: Float32[np.ndarray, "_rows _columns"],
        columns: slice,
        *,
        transposed: bool = False,
    ) -> None:
        """Take in the products of these rows with a range of columns.

        Args:
            products: contiguous array (row, column), or (column, row) if `transposed`; -inf where a
                row must not have that column.
            columns: which of all columns they are.
            transposed: the array was made for the rows of `columns`.
        """
        new = np.flatnonzero(self._threshold == LOWEST)
        if len(new):
            largest = find_nth_largest((products.T if transposed else products)[new], self._k + 1)
            self._threshold[new] = np.maximum(largest - self._error[new], LOWEST)
        lowest = self._threshold - self._error
        if not transposed:
            lowest = lowest[:, None]
        reaches = np.flatnonzero(products >= lowest)
        row, column = np.divmod(reaches, products.shape[1])
        if transposed:
            row, column = column, row
        product = products.ravel()[reaches]
        column = column + columns.start
        with self._lock:
            self._found.append((row.astype(np.int32), column.astype(np.int32), product))
            self.n_pairs += len(row)
            self._raise_thresholds(row, product)

    def result(self) -> tuple[_Int32Pairs, _Int32Pairs]:
        """Return the (row, column) pairs that are still candidates, sorted by row."""
        row, column, product = map(np.concatenate, zip(*self._found, strict=True))
        still = product >= (self._threshold - self._error)[row]
        row = row[still]
        column = column[still]
        by_row = np.argsort(row, kind="stable")
        return row[by_row], column[by_row]

    def _raise_thresholds(
        self,
        row: _IntPairs,
        product: _Products,
    ) -> None:
        order = np.lexsort((-product, row))
        row = row[order]
        product = product[order]
        touched, begin, group = np.unique(
            row,
            return_index=True,
            return_inverse=True,
        )
        place = np.arange(len(row)) - begin[group]
        width = self._k + 1
        is_large = place < width
        group = group[is_large]
        place = place[is_large]
        both = np.full((len(touched), 2 * width), -np.inf, np.float32)
        both[:, :width] = self._largest[touched]
        both[group, width + place] = product[is_large]
        largest = np.partition(both, width, axis=1)[:, width:]
        self._largest[touched] = largest
        self._threshold[touched] = np.maximum(
            self._threshold[touched], largest.min(1) - self._error[touched]
        )


def find_nth_largest(
    products: Float32[np.ndarray, "row column"],
    n: int,
) -> Float32[np.ndarray, " row"]:
    """Return the n-th largest product of each row; -inf if a row has fewer than n."""
    place = products.shape[1] - n
    if place < 0:
        return np.full(len(products), -np.inf, np.float32)
    return np.partition(products, place, axis=1)[:, place]
