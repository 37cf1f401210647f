"""Finds the k nearest rows of every row, exactly, without an n x n matrix.

Nearest means the largest cosine s_ij of rows i and j. A row is not a neighbour of itself. Let θ_i
be the k-th largest cosine of row i, let t_i rows have exactly this cosine, and let r_i of the k
places be left for them. The neighbourhood is the membership

    w_ij = 1 if s_ij > θ_i,    r_i / t_i if s_ij = θ_i,    0 otherwise        (Σ_j w_ij = k)

This is the probability that j is among the k nearest of i when ties are broken uniformly at random.
Without a tie at the k-th place t_i = r_i, and w is the usual mask of zeros and ones. A top-k breaks
ties by the row number instead, which would make every score depend on the order of the rows.

The dense part, one float32 matrix product, finds a few more than k candidates for each row
(`cknna/candidates.py`). Their cosines are computed again from the rows in float64, one dot product
a pair, and sorted. So copies of a row are exact ties, and the result does not depend on the block
size, the threads or the device.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int, Int32

from cknna.candidates import find_candidates
from cknna.centered_factors import CenteredFactors
from cknna.features import NormalizedFeatures, check_groups, cut
from sim.errors import WhiskerError

# Float64 rows of this size stay in the processor's cache.
_CACHE_BYTES = 1 << 18
# Largest number of tied pairs beyond k a row that are held, 8 bytes each. Only features with few
# distinct values have more.
MAX_TIED = 1 << 27

ABSENT = -1

type _IntPairs = Int[np.ndarray, " pair"]
type _Cosines = Float64[np.ndarray, " pair"]
type _PerRow = Int[np.ndarray, " n"]
type _Values = Float64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The result of a search, from which every smaller k, permutation and deletion follows.

    The list of row i is `index[i]` and the pairs of `tied_row`, `tied_index` with `tied_row == i`.
    Together they are all rows whose cosine reaches `threshold[i]`.

    Attributes:
        index: rows, nearest first, equally near ones in any order; `ABSENT` if a deletion left
            fewer than k.
        similarity: their cosines; 0 if absent.
        threshold: cosine of the k-th neighbour; if a deletion left fewer than k, the smallest
            cosine that the search covered.
        tied_row, tied_index: pairs (i, j) beyond the k of row i, in which j is exactly as near as
            the k-th.
        row_mean: mean cosine to all rows, itself included: a_i · mean(A).
        n_candidates: number of rows that the neighbours were chosen from.
    """

    index: Int32[np.ndarray, "n k"]
    similarity: Float64[np.ndarray, "n k"]
    threshold: _Values
    tied_row: Int32[np.ndarray, " tied"]
    tied_index: Int32[np.ndarray, " tied"]
    row_mean: _Values
    n_candidates: _PerRow

    @property
    def n(self) -> int:
        return self.index.shape[0]

    @property
    def k(self) -> int:
        return self.index.shape[1]

    @property
    def n_tied(self) -> int:
        """Return the number of rows with more rows at the k-th cosine than places left for them."""
        return len(np.unique(self.tied_row))

    @property
    def n_absent(self) -> int:
        return int((self.index == ABSENT).sum())

    @cached_property
    def tied_share(self) -> _Values:
        """Return r_i / t_i of each row, 1 without a tie."""
        share = np.ones(self.n)
        rows, n_beyond = np.unique(self.tied_row, return_counts=True)
        n_within = (self.similarity[rows] == self.threshold[rows, None]).sum(1)
        share[rows] = n_within / (n_within + n_beyond)
        return share

    def weigh(
        self,
        row: _IntPairs,
        similarity: _Cosines,
    ) -> _Cosines:
        """Return the membership w of pairs in the lists of these rows, from the pairs' cosines."""
        threshold = self.threshold[row]
        return np.where(similarity == threshold, self.tied_share[row], similarity > threshold)

    def first(self, k: int) -> "Neighbors":
        """Return the k nearest of them, as a search for k would have found them."""
        if k > self.k:
            raise WhiskerError(
                "neighbours",
                expected=f"at most the {self.k} searched for",
                got=f"k = {k}",
            )
        if k == self.k:
            return self
        is_absent = self.index == ABSENT
        last = k - 1
        threshold = np.where(is_absent[:, last], self.threshold, self.similarity[:, last])
        is_tied = (self.similarity[:, k:] == threshold[:, None]) & ~is_absent[:, k:]
        row, place = np.nonzero(is_tied)
        still = self.threshold[self.tied_row] == threshold[self.tied_row]
        return replace(
            self,
            index=self.index[:, :k],
            similarity=self.similarity[:, :k],
            threshold=threshold,
            tied_row=np.concatenate([row.astype(np.int32), self.tied_row[still]]),
            tied_index=np.concatenate([self.index[row, k + place], self.tied_index[still]]),
        )

    def reorder(self, order: _PerRow) -> "Neighbors":
        """Return the neighbours of the same rows in another order, without a new search.

        Row i of the result is row order[i] of this one.
        """
        new_index = np.empty(self.n, np.int32)
        new_index[order] = np.arange(self.n, dtype=np.int32)
        return Neighbors(
            index=new_index[self.index[order]],
            similarity=self.similarity[order],
            threshold=self.threshold[order],
            tied_row=new_index[self.tied_row],
            tied_index=new_index[self.tied_index],
            row_mean=self.row_mean[order],
            n_candidates=self.n_candidates[order],
        )

    def delete(
        self,
        deleted: Int[np.ndarray, " rows"],
        k: int,
    ) -> "Neighbors":
        """Return the k nearest of the remaining rows, without a new search.

        Neighbours further down a list move up. A row keeps fewer than k (`ABSENT`) if fewer of its
        list remain; a search deeper than k makes such rows rare. The row means stay those of all
        rows.
        """
        stays = np.ones(self.n, bool)
        stays[deleted] = False
        new_index = (np.cumsum(stays) - 1).astype(np.int32)
        old_index = self.index[stays]
        gone = ~stays[old_index]
        kept_first = np.argsort(
            gone,
            axis=1,
            kind="stable",
        )
        short = np.take_along_axis(gone, kept_first, axis=1)
        kept_index = np.take_along_axis(old_index, kept_first, axis=1)
        kept_similarity = np.take_along_axis(self.similarity[stays], kept_first, axis=1)
        index = np.where(short, ABSENT, new_index[kept_index])
        similarity = np.where(short, 0.0, kept_similarity)
        threshold = self.threshold[stays]

        both_stay = stays[self.tied_row] & stays[self.tied_index]
        tied_row = new_index[self.tied_row[both_stay]]
        tied_index = new_index[self.tied_index[both_stay]]
        # Tied rows fill the places that became free at the end. They are equally near, so any order
        # will do.
        place = (~short).sum(1)[tied_row] + _count_before(tied_row)
        moves = place < self.k
        index[tied_row[moves], place[moves]] = tied_index[moves]
        similarity[tied_row[moves], place[moves]] = threshold[tied_row[moves]]
        return Neighbors(
            index=index,
            similarity=similarity,
            threshold=threshold,
            tied_row=tied_row[~moves],
            tied_index=tied_index[~moves],
            row_mean=self.row_mean[stays],
            n_candidates=self.n_candidates[stays] - len(deleted),
        ).first(k)


def _count_before(values: _PerRow) -> _PerRow:
    """Return for each value how many equal ones stand before it."""
    order = np.argsort(values, kind="stable")
    _, begin, group = np.unique(
        values[order],
        return_index=True,
        return_inverse=True,
    )
    before = np.empty(len(values), np.int64)
    before[order] = np.arange(len(values)) - begin[group]
    return before


def find_neighbors(
    rows: NormalizedFeatures,
    k: int,
    groups: np.ndarray | None = None,
    exclude_same_group: bool = False,
    tile: int | None = None,
    device: str | None = None,
) -> Neighbors:
    """Find the k nearest of every row; with `exclude_same_group`, among rows of other groups.

    Args:
        groups: the episode of each row; used only with `exclude_same_group`.
        tile: number of rows and columns of a product; by default a good one is chosen.
        device: "numpy" or the torch device of the products; by default a GPU if there is one and
            the work is worth it. The result is the same.
    """
    if not exclude_same_group:
        label = None
        own = np.ones(rows.n, np.int64)
    elif groups is None:
        raise WhiskerError(
            "exclude_same_group",
            expected="groups",
            got="none",
            hint="Pass the episode of each row.",
        )
    else:
        label = check_groups(groups, rows.n)
        own = np.bincount(label)[label]
    n_candidates = rows.n - own
    fewest = n_candidates.min()
    if k < 1 or fewest < k:
        raise WhiskerError(
            f"k = {k} for {rows.name}",
            expected=f"1 <= k <= {fewest}, the fewest rows that a row may choose from",
            hint="Choose a smaller k.",
        )
    index = np.empty((rows.n, k), np.int32)
    similarity = np.empty((rows.n, k))
    # The row and the column of each tied pair.
    tied: list[tuple[np.ndarray, np.ndarray]] = []
    factors = CenteredFactors(rows)
    for block, block_row, column in find_candidates(factors, k, label, tile, device):
        row = block.start + block_row
        cosine = _compute_cosines(rows, row, column)
        # By row, and nearest first.
        order = np.lexsort((column, -cosine, block_row))
        begins = np.searchsorted(block_row[order], np.arange(block.stop - block.start))
        nearest = order[begins[:, None] + np.arange(k)]
        index[block] = column[nearest]
        similarity[block] = cosine[nearest]
        place = np.arange(len(order)) - begins[block_row[order]]
        beyond = order[place >= k]
        ties = beyond[cosine[beyond] == similarity[row[beyond], -1]]
        tied.append((row[ties].astype(np.int32), column[ties].astype(np.int32)))
        if sum(len(tied_row) for tied_row, _ in tied) > MAX_TIED:
            raise WhiskerError(
                rows.name,
                expected=f"at most {MAX_TIED:,} pairs of rows that tie with a k-th neighbour",
                got="more",
                hint="A feature with few distinct values has no neighbourhoods. Add columns, or "
                "score fewer rows.",
            )
    tied_row, tied_index = map(np.concatenate, zip(*tied, strict=True))
    return Neighbors(
        index=index,
        similarity=similarity,
        threshold=similarity[:, -1].copy(),
        tied_row=tied_row,
        tied_index=tied_index,
        row_mean=factors.row_mean,
        n_candidates=n_candidates,
    )


def _compute_cosines(
    rows: NormalizedFeatures,
    row: _IntPairs,
    column: _IntPairs,
) -> _Cosines:
    """Return the float64 cosines of these pairs, computing each of two mirrored pairs once."""
    first = np.minimum(row, column).astype(np.int64)
    second = np.maximum(row, column)
    pair, which = np.unique(first * rows.n + second, return_inverse=True)
    cosine = np.empty(len(pair))
    for some in cut(len(pair), max(1, _CACHE_BYTES // (8 * rows.dim))):
        left, right = np.divmod(pair[some], rows.n)
        cosine[some] = rows.compute_cosines(left, right)
    return cosine[which]
