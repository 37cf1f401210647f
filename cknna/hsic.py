"""Computes the dependence of two kernels (HSIC) from their non-zero entries, or from the features.

Kernels K, L are (n, n) float64. A mask keeps in row i the columns of its k nearest rows. So a
masked kernel has k entries a row, is not symmetric, and is stored as a list of edges i → j. Song et
al. (2012), "Feature Selection via Dependence Maximization", eq. 5, with zero diagonals:

    HSIC_u(K, L) = [ Σ_ij K_ij L_ji + ΣK ΣL / ((n-1)(n-2)) - 2/(n-2) 1ᵀKL1 ] / (n(n-3))

Every term is a sum over edges. The first sums edges with both i → j and j → i (L_ji = L_ij, since
they are cosines). The last is Σ_j (column sum of K)_j (row sum of L)_j. With H = 1 - 11ᵀ/n the
biased HSIC is

    tr(KHLH) = Σ_ij K_ij L_ji - (1ᵀLK1 + 1ᵀKL1)/n + ΣK ΣL/n²

Exchanging two masked kernels changes the number: the last term of HSIC_u treats K and L differently
if either is not symmetric.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from cknna.features import NormalizedFeatures, cut
from cknna.neighbors import Neighbors

# Blocks of this many rows fit in memory and are large enough for a fast matrix product.
_ROWS_AT_ONCE = 1024

type _EdgeRows = Int[np.ndarray, " edges"]
type _EdgeValues = Float64[np.ndarray, " edges"]
type _PerRow = Float64[np.ndarray, " n"]
# The row, the column, the cosine in the first list and the cosine in the second of each edge.
type _EdgeArrays = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Edges:
    """Two kernels with the same mask: edge e is row[e] → column[e].

    Attributes:
        k_value, l_value: K_ij and L_ij, cosines.
        k_row_mean, l_row_mean: (n,) means of the whole rows of the unmasked kernels.
        weight: the mask's entry at i → j, in (0, 1]; below 1 if ties at a k-th place share it.
        reverse_weight: the mask's entry at j → i; 0 if that is no edge.
    """

    n: int
    row: _EdgeRows
    column: _EdgeRows
    k_value: _EdgeValues
    l_value: _EdgeValues
    k_row_mean: _PerRow
    l_row_mean: _PerRow
    weight: _EdgeValues
    reverse_weight: _EdgeValues


def find_mutual_edges(a: Neighbors, b: Neighbors) -> Edges:
    """Return the edges i → j that are in both lists, weighted by the product of the memberships."""
    tied_row, tied_column, tied_l, tied_k = _find_tied_edges(b, a)
    pieces = (
        _find_untied_edges(a, b),
        _find_tied_edges(a, b),
        (tied_row, tied_column, tied_k, tied_l),
        _find_edges_tied_in_both(a, b),
    )
    row, column, k_value, l_value = map(np.concatenate, zip(*pieces, strict=True))
    return Edges(
        n=a.n,
        row=row,
        column=column,
        k_value=k_value,
        l_value=l_value,
        k_row_mean=a.row_mean,
        l_row_mean=b.row_mean,
        weight=a.weigh(row, k_value) * b.weigh(row, l_value),
        reverse_weight=a.weigh(column, k_value) * b.weigh(column, l_value),
    )


def find_own_edges(a: Neighbors) -> Edges:
    """Return the edges of one list under its own mask.

    The weight is a single membership, because a random draw of ties agrees with itself.
    """
    is_present = a.index >= 0
    row = np.concatenate([np.nonzero(is_present)[0], a.tied_row])
    column = np.concatenate([a.index[is_present], a.tied_index])
    value = np.concatenate([a.similarity[is_present], a.threshold[a.tied_row]])
    return Edges(
        n=a.n,
        row=row,
        column=column,
        k_value=value,
        l_value=value,
        k_row_mean=a.row_mean,
        l_row_mean=a.row_mean,
        weight=a.weigh(row, value),
        reverse_weight=a.weigh(column, value),
    )


def _find_untied_edges(a: Neighbors, b: Neighbors) -> _EdgeArrays:
    """Return the edges that are among the k of both lists."""
    found = [np.flatnonzero(a.index == column[:, None]) for column in b.index.T]
    edges = np.concatenate(found)
    place_b = np.repeat(np.arange(b.k), [len(each) for each in found])
    # Two absent neighbours are no neighbour in common.
    present = a.index.ravel()[edges] >= 0
    place_b = place_b[present]
    row, place_a = np.divmod(edges[present], a.k)
    return row, a.index[row, place_a], a.similarity[row, place_a], b.similarity[row, place_b]


def _find_tied_edges(a: Neighbors, b: Neighbors) -> _EdgeArrays:
    """Return a's tied pairs that are among the k of b."""
    pair, place = np.nonzero(b.index[a.tied_row] == a.tied_index[:, None])
    row = a.tied_row[pair]
    return row, a.tied_index[pair], a.threshold[row], b.similarity[row, place]


def _find_edges_tied_in_both(a: Neighbors, b: Neighbors) -> _EdgeArrays:
    tied_a = a.tied_row.astype(np.int64) * a.n + a.tied_index
    tied_b = b.tied_row.astype(np.int64) * a.n + b.tied_index
    in_both = np.intersect1d(tied_a, tied_b, assume_unique=True)
    row, column = np.divmod(in_both, a.n)
    return row, column, a.threshold[row], b.threshold[row]


def compute_hsic_unbiased(edges: Edges) -> float:
    """Return HSIC_u of the masked kernels. It has either sign, and is undefined for n < 4."""
    n = edges.n
    k_value = edges.weight * edges.k_value
    l_value = edges.weight * edges.l_value
    trace = _sum_reciprocal(edges)
    k_columns = _sum_by(edges.column, k_value, n)
    through = np.dot(k_columns, _sum_by(edges.row, l_value, n))
    return float(_combine_unbiased(trace, k_value.sum() * l_value.sum(), through, n))


def _combine_unbiased(
    trace: float,
    total: float,
    through: float,
    n: int,
) -> float:
    """Return HSIC_u from its terms: Σ_ij K_ij L_ji, ΣK ΣL and 1ᵀKL1."""
    mean_term = total / ((n - 1) * (n - 2))
    return (trace + mean_term - 2 * through / (n - 2)) / (n * (n - 3))


def compute_hsic_biased(edges: Edges) -> float:
    """Return tr(KHLH) of the masked kernels, with an edge of cosine one from each row to itself."""
    n = edges.n
    k_value = edges.weight * edges.k_value
    l_value = edges.weight * edges.l_value
    trace = n + _sum_reciprocal(edges)
    k_columns = 1 + _sum_by(edges.column, k_value, n)
    k_rows = 1 + _sum_by(edges.row, k_value, n)
    l_columns = 1 + _sum_by(edges.column, l_value, n)
    l_rows = 1 + _sum_by(edges.row, l_value, n)
    through = np.dot(k_columns, l_rows) + np.dot(l_columns, k_rows)
    return float(trace - through / n + k_rows.sum() * l_rows.sum() / n**2)


def _sum_reciprocal(edges: Edges) -> float:
    """Return Σ_ij of the masked K_ij L_ji."""
    both = edges.reverse_weight > 0
    forward = edges.weight[both] * edges.k_value[both]
    backward = edges.reverse_weight[both] * edges.l_value[both]
    return float(np.dot(forward, backward))


def compute_row_centred_alignment(edges: Edges) -> float:
    """Return Σ over edges of (K_ij - mean of row i of K)(L_ij - mean of row i of L)."""
    k_centred = edges.k_value - edges.k_row_mean[edges.row]
    l_centred = edges.l_value - edges.l_row_mean[edges.row]
    return float(np.dot(edges.weight * k_centred, l_centred))


def sum_weights(edges: Edges) -> float:
    """Return the number of edges, in which tied ones count by their share."""
    return float(edges.weight.sum())


def compute_linear_hsic(
    rows_a: NormalizedFeatures,
    rows_b: NormalizedFeatures,
    unbiased: bool,
) -> float:
    """Return HSIC of the whole kernels K = A Aᵀ and L = B Bᵀ in O(n D_a D_b), float64.

    Features are centred first. This changes neither HSIC (both depend on a kernel only up to
    r_i + r_j), and saves digits. Then tr(KHLH) = |AᵀB|². HSIC_u leaves out the diagonals
    k_i = |a_i|²: tr(KL) = |AᵀB|² - Σ k_i l_i, K1 = -k, and ΣK = -Σk.
    """
    n = rows_a.n
    cross = np.zeros((rows_a.dim, rows_b.dim))
    diagonal_a = np.empty(n)
    diagonal_b = np.empty(n)
    for block in cut(n, _ROWS_AT_ONCE):
        block_a = rows_a.take_exact(block) - rows_a.mean
        block_b = rows_b.take_exact(block) - rows_b.mean
        cross += block_a.T @ block_b
        diagonal_a[block] = np.vecdot(block_a, block_a)
        diagonal_b[block] = np.vecdot(block_b, block_b)
    whole = float(np.vdot(cross, cross))
    if not unbiased:
        return whole
    both = float(np.dot(diagonal_a, diagonal_b))
    return _combine_unbiased(whole - both, float(diagonal_a.sum() * diagonal_b.sum()), both, n)


def _sum_by(
    index: _EdgeRows,
    value: _EdgeValues,
    n: int,
) -> _PerRow:
    """Return the sum of the values at each index, as float64 even if there are no edges."""
    return np.bincount(index, value, n).astype(np.float64)
