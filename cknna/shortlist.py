"""Of some rows: who may be among the k + 1 nearest, while products go by."""

from threading import Lock

import numpy as np
from jaxtyping import Float32, Int, Int32

LOWEST = float(np.finfo(np.float32).min)


class Shortlist:
    """Each row's others whose true product may reach the row's bar.

    The bar is no higher than the (k + 1)-th largest true product of the row, and rises as products
    come; who is below it for certain is forgotten. Threads may share one.

    Attributes:
        n_remembered: pairs.
    """

    def __init__(self, error: Float32[np.ndarray, " row"], k: int) -> None:
        """Args:
        error: how far from the truth a row's products may be.
        """
        self._error, self._k = error, k
        self._bar = np.full(len(error), LOWEST, np.float32)
        self._largest = np.full((len(error), k + 1), -np.inf, np.float32)
        self._met: list[
            tuple[
                Int32[np.ndarray, " pair"], Int32[np.ndarray, " pair"], Float32[np.ndarray, " pair"]
            ]
        ] = []
        self._lock = Lock()
        self.n_remembered = 0

    def meet(
        self,
        products: Float32[np.ndarray, "_rows _columns"],
        others: slice,
        *,
        transposed: bool = False,
    ) -> None:
        """Products of these rows with a range of all; -inf where a row must not have another.

        Args:
            products: contiguous: (row, other), or `transposed`, as it was made for `others`.
        """
        new = np.flatnonzero(self._bar == LOWEST)
        if len(new):
            of_row = (products.T if transposed else products)[new]
            self._bar[new] = np.maximum(
                find_nth_largest(of_row, self._k + 1) - self._error[new], LOWEST
            )
        bar = self._bar - self._error
        reaches = np.flatnonzero(products >= (bar if transposed else bar[:, None]))
        first, second = np.divmod(reaches, products.shape[1])
        row, other = (second, first) if transposed else (first, second)
        self._remember(row, other + others.start, products.ravel()[reaches])

    def recall(self) -> tuple[Int32[np.ndarray, " pair"], Int32[np.ndarray, " pair"]]:
        """(row, other) of who is still in question, by row."""
        row, other, product = (np.concatenate(parts) for parts in zip(*self._met, strict=True))
        still = product >= (self._bar - self._error)[row]
        row, other = row[still], other[still]
        by_row = np.argsort(row, kind="stable")
        return row[by_row], other[by_row]

    def _remember(
        self, row: Int[np.ndarray, " pair"], other: Int[np.ndarray, " pair"], product: np.ndarray
    ) -> None:
        with self._lock:
            self._met.append((row.astype(np.int32), other.astype(np.int32), product))
            self.n_remembered += len(row)
            self._raise_bar(row, product)

    def _raise_bar(
        self, row: Int[np.ndarray, " pair"], product: Float32[np.ndarray, " pair"]
    ) -> None:
        order = np.lexsort((-product, row))
        row, product = row[order], product[order]
        touched, begin, group = np.unique(row, return_index=True, return_inverse=True)
        place = np.arange(len(row)) - begin[group]
        width = self._k + 1
        largest = place < width
        both = np.full((len(touched), 2 * width), -np.inf, np.float32)
        both[:, :width] = self._largest[touched]
        both[group[largest], width + place[largest]] = product[largest]
        self._largest[touched] = np.partition(both, width, axis=1)[:, width:]
        self._bar[touched] = np.maximum(
            self._bar[touched], self._largest[touched].min(1) - self._error[touched]
        )


def find_nth_largest(
    products: Float32[np.ndarray, "row other"], n: int
) -> Float32[np.ndarray, " row"]:
    """Of each row; -inf where there are fewer."""
    place = products.shape[1] - n
    if place < 0:
        return np.full(len(products), -np.inf, np.float32)
    return np.partition(products, place, axis=1)[:, place]
