"""The k nearest rows of every row, exactly, without ever holding an n x n matrix.

Nearest is the largest cosine s_ij = a_i · a_j of unit rows; a row is no neighbour of its own. The order is total and is
a function of the unit rows alone, of no block size, thread or device: s_ij in float64, then the smaller row index.

The dense part, one matrix product in float32, nominates a few more than k rows each (`cknna/nomination.py`); their
cosines are computed anew from the unit rows in float64 and sorted. Duplicates of a row are exact ties.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int, Int32

from cknna.centred_rows import CentredRows
from cknna.features import UnitRows, check_groups, cut
from cknna.nomination import nominate
from sim.errors import WhiskerError

# Of rows in float64, which stay in the processor's cache.
_CACHE_BYTES = 1 << 18

ABSENT = -1


@dataclass(frozen=True, eq=False)
class Neighbors:
    """What a search found: serves every smaller k, every permutation of rows and every deletion of an episode.

    Attributes:
        index: rows, nearest first; `ABSENT` where a deletion left fewer than k.
        similarity: their cosines; 0 where absent.
        next_similarity: cosine of the (k + 1)-th; -inf where there is none.
        reverse_place: at which place (from 0) this row stands in the neighbour's own list; k where it does not.
        row_mean: mean cosine to all rows, itself included: a_i · mean(A).
        n_candidates: how many rows it was chosen from.
    """

    index: Int32[np.ndarray, "n k"]
    similarity: Float64[np.ndarray, "n k"]
    next_similarity: Float64[np.ndarray, " n"]
    reverse_place: Int32[np.ndarray, "n k"]
    row_mean: Float64[np.ndarray, " n"]
    n_candidates: Int[np.ndarray, " n"]

    @property
    def n(self) -> int:
        return self.index.shape[0]

    @property
    def k(self) -> int:
        return self.index.shape[1]

    @property
    def n_ties(self) -> int:
        """Rows whose k-th and (k + 1)-th nearest are equally near: there the row index decided."""
        return int((self.similarity[:, -1] == self.next_similarity).sum())

    @property
    def n_absent(self) -> int:
        return int((self.index == ABSENT).sum())

    def first(self, k: int) -> "Neighbors":
        """The k nearest of them, as a search for k would have found."""
        if k > self.k:
            raise WhiskerError("neighbours", expected=f"at most the {self.k} searched for", got=f"k = {k}")
        if k == self.k:
            return self
        return replace(
            self,
            index=self.index[:, :k],
            similarity=self.similarity[:, :k],
            next_similarity=self.similarity[:, k],
            reverse_place=np.minimum(self.reverse_place[:, :k], k),
        )

    def reorder(self, order: Int[np.ndarray, " n"]) -> "Neighbors":
        """Those of the same rows in another order: new row i is old row order[i]. Nothing is searched."""
        new_index = np.empty(self.n, np.int32)
        new_index[order] = np.arange(self.n, dtype=np.int32)
        return Neighbors(
            new_index[self.index[order]],
            self.similarity[order],
            self.next_similarity[order],
            self.reverse_place[order],
            self.row_mean[order],
            self.n_candidates[order],
        )

    def delete(self, deleted: Int[np.ndarray, " rows"], k: int) -> "Neighbors":
        """The k nearest of the rows that stay: those further down in the list move up. Nothing is searched.

        A row of whose list fewer than k stay keeps fewer (`ABSENT`): search deeper than k to have them rare. The row
        means stay those of all rows.
        """
        stays = np.ones(self.n, bool)
        stays[deleted] = False
        gone = ~stays[self.index]
        gone_before = np.cumsum(gone, axis=1, dtype=np.int32) - gone
        place = np.minimum(self.reverse_place, self.k - 1)
        moved_up = np.where(self.reverse_place < self.k, gone_before[self.index, place], 0)
        reverse_place = np.where(self.reverse_place < self.k, self.reverse_place - moved_up, k)

        kept = np.argsort(gone[stays], axis=1, kind="stable")
        short = np.take_along_axis(gone[stays], kept, axis=1)
        new_index = (np.cumsum(stays) - 1).astype(np.int32)
        index = np.where(short, ABSENT, new_index[np.take_along_axis(self.index[stays], kept, axis=1)])
        similarity = np.where(short, 0.0, np.take_along_axis(self.similarity[stays], kept, axis=1))
        return Neighbors(
            index[:, :k],
            similarity[:, :k],
            similarity[:, k] if k < self.k else self.next_similarity[stays],
            np.minimum(np.take_along_axis(reverse_place[stays], kept, axis=1), k)[:, :k].astype(np.int32),
            self.row_mean[stays],
            self.n_candidates[stays] - len(deleted),
        )


def find_neighbors(
    rows: UnitRows,
    k: int,
    groups: np.ndarray | None = None,
    exclude_same_group: bool = False,
    tile: int | None = None,
    device: str | None = None,
) -> Neighbors:
    """The k nearest of every row; with `exclude_same_group`, of the rows that belong to another group.

    Args:
        groups: the episode that each row belongs to; used with `exclude_same_group` alone.
        tile: rows and columns of the products made at a time; of itself a good one.
        device: where the products are made, a torch device or "numpy"; by default a GPU where there is one and the
            work is worth it. The result is the same.
    """
    label = check_groups(groups, rows.n) if exclude_same_group and groups is not None else None
    own = np.bincount(label)[label] if label is not None else np.ones(rows.n, np.int64)
    if exclude_same_group and label is None:
        raise WhiskerError("exclude_same_group", expected="groups", got="none", do="Pass the episode of each row.")
    n_candidates = rows.n - own
    if k < 1 or n_candidates.min() < k:
        raise WhiskerError(
            f"k = {k} for {rows.name}",
            expected=f"1 <= k <= {n_candidates.min()}, the fewest rows that a row may choose from",
            do="Choose a smaller k.",
        )
    index = np.empty((rows.n, k), np.int32)
    similarity = np.empty((rows.n, k + 1))
    factors = CentredRows(rows)
    for block, row, column in nominate(factors, k, label, tile, device):
        cosine = _compute_cosines(rows, block.start + row, column)
        index[block], similarity[block] = _sort(row, column, cosine, k, block.stop - block.start)
    return Neighbors(
        index,
        np.ascontiguousarray(similarity[:, :k]),
        similarity[:, k].copy(),
        _find_reverse_places(index),
        factors.row_mean,
        n_candidates,
    )


def _compute_cosines(
    rows: UnitRows, row: Int[np.ndarray, " pair"], column: Int[np.ndarray, " pair"]
) -> Float64[np.ndarray, " pair"]:
    """Of these pairs, in float64; of two that are mirrored once."""
    first, second = np.minimum(row, column).astype(np.int64), np.maximum(row, column)
    pair, which = np.unique(first * rows.n + second, return_inverse=True)
    cosine = np.empty(len(pair))
    for some in cut(len(pair), max(1, _CACHE_BYTES // (8 * rows.dim))):
        left, right = (rows.take(index).astype(np.float64) for index in np.divmod(pair[some], rows.n))
        # One dot product a pair, never a matrix product: its summation must not depend on who stands beside whom.
        np.vecdot(left, right, out=cosine[some])
    return cosine[which]


def _sort(
    row: Int[np.ndarray, " pair"],
    column: Int[np.ndarray, " pair"],
    cosine: Float64[np.ndarray, " pair"],
    k: int,
    n_rows: int,
) -> tuple[Int32[np.ndarray, "row k"], Float64[np.ndarray, "row k_and_1"]]:
    """The k nearest of each row, and k + 1 cosines (-inf where there are no more)."""
    counts = np.bincount(row, minlength=n_rows)
    begins = np.cumsum(counts) - counts
    order = np.lexsort((column, -cosine, row))
    place = np.arange(k + 1)
    chosen = order[np.minimum(begins[:, None] + place, len(order) - 1)]
    similarity = np.where(place < counts[:, None], cosine[chosen], -np.inf)
    return column[chosen[:, :k]].astype(np.int32), similarity


def _find_reverse_places(index: Int32[np.ndarray, "n k"]) -> Int32[np.ndarray, "n k"]:
    """The place of i in the list of its neighbour j, or k: edges (j, i) are looked up among the sorted (i, j)."""
    n, k = index.shape
    row = np.arange(n, dtype=np.int64)[:, None]
    edges = (row * n + index).ravel()
    order = np.argsort(edges)
    reverse = (index.astype(np.int64) * n + row).ravel()
    at = np.minimum(np.searchsorted(edges, reverse, sorter=order), len(edges) - 1)
    found = order[at]
    return np.where(edges[found] == reverse, found % k, k).astype(np.int32).reshape(n, k)
