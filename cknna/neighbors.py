"""The k nearest rows of every row, exactly, without ever holding an n x n matrix.

Nearest is the largest cosine s_ij of rows i and j; a row is not a neighbour of itself. With θ_i the
k-th largest cosine of row i, r_i of its k places left for the t_i rows at exactly θ_i, the
neighbourhood is the membership

    w_ij = 1 if s_ij > θ_i,    r_i / t_i if s_ij = θ_i,    0 otherwise        (Σ_j w_ij = k)

which is the probability that j is among the k nearest of i when ties are broken uniformly at
random. Without a tie at the k-th place t_i = r_i, and w is the usual mask of zeros and ones.
Breaking ties by the row number instead, as a top-k does, would make every score depend on the order
of the rows.

The dense part, one matrix product in float32, nominates a few more than k rows each
(`cknna/nomination.py`). Their cosines are computed anew from the rows in float64, one dot product a
pair, and sorted: copies of a row are exact ties and the result depends on no block size, thread or
device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int, Int32

from cknna.centred_rows import CentredRows
from cknna.features import UnitRows, check_groups, cut
from cknna.nomination import nominate
from sim.errors import WhiskerError

# Of rows in float64, which stay in the processor's cache.
_CACHE_BYTES = 1 << 18
# Tied pairs beyond k a row that are held, 8 bytes each. Only features of few distinct values have
# more.
MAX_TIED = 1 << 27

ABSENT = -1


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The result of a search: serves every smaller k, every permutation of rows and every deletion of an episode.

    A row's list is `index[i]` and, behind it, the pairs of `tied_row`, `tied_index` with `tied_row
    == i`. Together they are all rows whose cosine reaches `threshold[i]`.

    Attributes:
        index: rows, nearest first, equally near ones in any order; `ABSENT` where a deletion left
            fewer than k.
        similarity: their cosines; 0 where absent.
        threshold: cosine of the k-th; where a deletion left fewer than k, the one down to which the
            search went.
        tied_row, tied_index: pairs (i, j) beyond the k of row i, in which j is exactly as near as
            the k-th.
        row_mean: mean cosine to all rows, itself included: a_i · mean(A).
        n_candidates: how many rows it was chosen from.
    """

    index: Int32[np.ndarray, "n k"]
    similarity: Float64[np.ndarray, "n k"]
    threshold: Float64[np.ndarray, " n"]
    tied_row: Int32[np.ndarray, " tied"]
    tied_index: Int32[np.ndarray, " tied"]
    row_mean: Float64[np.ndarray, " n"]
    n_candidates: Int[np.ndarray, " n"]

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
    def tied_share(self) -> Float64[np.ndarray, " n"]:
        """Return r_i / t_i of each row, 1 without a tie."""
        share = np.ones(self.n)
        rows, n_beyond = np.unique(self.tied_row, return_counts=True)
        n_within = (self.similarity[rows] == self.threshold[rows, None]).sum(1)
        share[rows] = n_within / (n_within + n_beyond)
        return share

    def weigh(
        self, row: Int[np.ndarray, " pair"], similarity: Float64[np.ndarray, " pair"]
    ) -> Float64[np.ndarray, " pair"]:
        """Return the membership w of pairs in the lists of these rows, from the cosines of the pairs."""
        threshold = self.threshold[row]
        if not len(self.tied_row):
            return (similarity >= threshold).astype(np.float64)
        return np.where(
            similarity > threshold,
            1.0,
            np.where(similarity == threshold, self.tied_share[row], 0.0),
        )

    def first(self, k: int) -> "Neighbors":
        """Return the k nearest of them, as a search for k would have found them."""
        if k > self.k:
            raise WhiskerError(
                "neighbours", expected=f"at most the {self.k} searched for", got=f"k = {k}"
            )
        if k == self.k:
            return self
        threshold = np.where(
            self.index[:, k - 1] == ABSENT, self.threshold, self.similarity[:, k - 1]
        )
        is_tied = (self.similarity[:, k:] == threshold[:, None]) & (self.index[:, k:] != ABSENT)
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

    def reorder(self, order: Int[np.ndarray, " n"]) -> "Neighbors":
        """Return those of the same rows in another order: new row i is old row order[i].

        Nothing is searched.
        """
        new_index = np.empty(self.n, np.int32)
        new_index[order] = np.arange(self.n, dtype=np.int32)
        return Neighbors(
            new_index[self.index[order]],
            self.similarity[order],
            self.threshold[order],
            new_index[self.tied_row],
            new_index[self.tied_index],
            self.row_mean[order],
            self.n_candidates[order],
        )

    def delete(self, deleted: Int[np.ndarray, " rows"], k: int) -> "Neighbors":
        """Return the k nearest of the rows that stay: those further down in the list move up. Nothing is searched.

        A row of whose list fewer than k stay keeps fewer (`ABSENT`); a search deeper than k makes
        them rare. The row means stay those of all rows.
        """
        stays = np.ones(self.n, bool)
        stays[deleted] = False
        new_index = (np.cumsum(stays) - 1).astype(np.int32)
        gone = ~stays[self.index[stays]]
        kept = np.argsort(gone, axis=1, kind="stable")
        short = np.take_along_axis(gone, kept, axis=1)
        index = np.where(
            short, ABSENT, new_index[np.take_along_axis(self.index[stays], kept, axis=1)]
        )
        similarity = np.where(short, 0.0, np.take_along_axis(self.similarity[stays], kept, axis=1))
        threshold = self.threshold[stays]

        both_stay = stays[self.tied_row] & stays[self.tied_index]
        tied_row, tied_index = (
            new_index[self.tied_row[both_stay]],
            new_index[self.tied_index[both_stay]],
        )
        # Tied rows take the places at the end that have become free, in any order, for they are
        # equally near.
        place = (~short).sum(1)[tied_row] + _count_before(tied_row)
        moves = place < self.k
        index[tied_row[moves], place[moves]] = tied_index[moves]
        similarity[tied_row[moves], place[moves]] = threshold[tied_row[moves]]
        return Neighbors(
            index,
            similarity,
            threshold,
            tied_row[~moves],
            tied_index[~moves],
            self.row_mean[stays],
            self.n_candidates[stays] - len(deleted),
        ).first(k)


def _count_before(values: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return for each value how many equal ones stand before it."""
    order = np.argsort(values, kind="stable")
    _, begin, group = np.unique(values[order], return_index=True, return_inverse=True)
    before = np.empty(len(values), np.int64)
    before[order] = np.arange(len(values)) - begin[group]
    return before


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
        device: where the products are made, a torch device or "numpy"; by default a GPU where there
            is one and the work is worth it. The result is the same.
    """
    label = check_groups(groups, rows.n) if exclude_same_group and groups is not None else None
    own = np.bincount(label)[label] if label is not None else np.ones(rows.n, np.int64)
    if exclude_same_group and label is None:
        raise WhiskerError(
            "exclude_same_group",
            expected="groups",
            got="none",
            hint="Pass the episode of each row.",
        )
    n_candidates = rows.n - own
    if k < 1 or n_candidates.min() < k:
        raise WhiskerError(
            f"k = {k} for {rows.name}",
            expected=f"1 <= k <= {n_candidates.min()}, the fewest rows that a row may choose from",
            hint="Choose a smaller k.",
        )
    index = np.empty((rows.n, k), np.int32)
    similarity = np.empty((rows.n, k))
    tied: list[tuple[np.ndarray, np.ndarray]] = []
    factors = CentredRows(rows)
    for block, row, column in nominate(factors, k, label, tile, device):
        cosine = _compute_cosines(rows, block.start + row, column)
        order, begins = _sort(row, column, cosine, block.stop - block.start)
        nearest = order[begins[:, None] + np.arange(k)]
        index[block], similarity[block] = column[nearest], cosine[nearest]
        beyond = order[np.arange(len(order)) - begins[row[order]] >= k]
        beyond = beyond[cosine[beyond] == similarity[block.start + row[beyond], -1]]
        tied.append(((block.start + row[beyond]).astype(np.int32), column[beyond].astype(np.int32)))
        _check_tied(rows.name, tied)
    tied_row, tied_index = (np.concatenate(each) for each in zip(*tied, strict=True))
    return Neighbors(
        index,
        similarity,
        similarity[:, -1].copy(),
        tied_row,
        tied_index,
        factors.row_mean,
        n_candidates,
    )


def _check_tied(name: str, tied: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    if sum(len(row) for row, _ in tied) > MAX_TIED:
        raise WhiskerError(
            name,
            expected=f"at most {MAX_TIED:,} pairs of rows that tie with a k-th neighbour",
            got="more",
            hint="A feature of few distinct values has no neighbourhoods; add columns, or score fewer rows.",
        )


def _compute_cosines(
    rows: UnitRows, row: Int[np.ndarray, " pair"], column: Int[np.ndarray, " pair"]
) -> Float64[np.ndarray, " pair"]:
    """Of these pairs, in float64; of two that are mirrored once."""
    first, second = np.minimum(row, column).astype(np.int64), np.maximum(row, column)
    pair, which = np.unique(first * rows.n + second, return_inverse=True)
    cosine = np.empty(len(pair))
    for some in cut(len(pair), max(1, _CACHE_BYTES // (8 * rows.dim))):
        cosine[some] = rows.compute_cosines(*np.divmod(pair[some], rows.n))
    return cosine[which]


def _sort(
    row: Int[np.ndarray, " pair"],
    column: Int[np.ndarray, " pair"],
    cosine: Float64[np.ndarray, " pair"],
    n_rows: int,
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " row"]]:
    """Return the pairs by row, nearest first, and where each row's pairs begin in that order."""
    counts = np.bincount(row, minlength=n_rows)
    return np.lexsort((column, -cosine, row)), np.cumsum(counts) - counts
