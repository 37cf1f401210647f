"""How much of one kernel is in another (HSIC), from the entries that are not zero, or from the features.

Kernels K, L (n x n, float64). A mask keeps of row i the columns of its k nearest rows, so that a
masked kernel has k entries a row, is not symmetric, and is held as a list of edges i → j. Song et
al. (2012), "Feature Selection via Dependence Maximization", eq. 5, with zero diagonals:

    HSIC_u(K, L) = [ Σ_ij K_ij L_ji + ΣK ΣL / ((n-1)(n-2)) - 2/(n-2) 1ᵀKL1 ] / (n(n-3))

Every term is a sum over edges: the first is of those with i → j and j → i both (where L_ji = L_ij:
a cosine), the last is Σ_j (column sum of K)_j (row sum of L)_j. With H = 1 - 11ᵀ/n the biased one
is

    tr(KHLH) = Σ_ij K_ij L_ji - (1ᵀLK1 + 1ᵀKL1)/n + ΣK ΣL/n²

The two orders of masked kernels give two numbers: the last term of HSIC_u tells K from L where K or
L is not symmetric.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from cknna.features import UnitRows, cut
from cknna.neighbors import Neighbors

# Few enough to fit anywhere, and enough for a matrix product to be worth its name.
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Edges:
    """Two kernels masked alike: edge e is row[e] → column[e].

    Attributes:
        k_value, l_value: K_ij and L_ij, cosines.
        k_row_mean, l_row_mean: (n,) means of the whole rows of the unmasked kernels.
        weight: the mask's entry at i → j, in (0, 1]: below 1 where ties at a k-th place share it.
        reverse_weight: the mask's entry at j → i; 0 where that is no edge.
    """

    n: int
    row: Int[np.ndarray, " edges"]
    column: Int[np.ndarray, " edges"]
    k_value: Float64[np.ndarray, " edges"]
    l_value: Float64[np.ndarray, " edges"]
    k_row_mean: Float64[np.ndarray, " n"]
    l_row_mean: Float64[np.ndarray, " n"]
    weight: Float64[np.ndarray, " edges"]
    reverse_weight: Float64[np.ndarray, " edges"]


def find_mutual_edges(a: Neighbors, b: Neighbors) -> Edges:
    """Return i → j where j is in the lists of i in both, with the product of both memberships as weight."""
    found = [np.flatnonzero(a.index == b.index[:, place, None]) for place in range(b.k)]
    edges, place_b = np.concatenate(found), np.repeat(np.arange(b.k), [len(each) for each in found])
    # Two absent neighbours are no neighbour in common.
    present = a.index.ravel()[edges] >= 0
    row, place_a = np.divmod(edges[present], a.k)
    parts: list[tuple[np.ndarray, ...]] = []
    parts.append(
        (
            row,
            a.index[row, place_a],
            a.similarity[row, place_a],
            b.similarity[row, place_b[present]],
        )
    )
    if len(a.tied_row):
        parts.append(_find_tied_edges(a, b))
    if len(b.tied_row):
        row, column, l_value, k_value = _find_tied_edges(b, a)
        parts.append((row, column, k_value, l_value))
    if len(a.tied_row) and len(b.tied_row):
        tied_a, tied_b = (x.tied_row.astype(np.int64) * a.n + x.tied_index for x in (a, b))
        row, column = np.divmod(np.intersect1d(tied_a, tied_b, assume_unique=True), a.n)
        parts.append((row, column, a.threshold[row], b.threshold[row]))
    row, column, k_value, l_value = (np.concatenate(each) for each in zip(*parts, strict=True))
    weight, reverse_weight = (a.weigh(of, k_value) * b.weigh(of, l_value) for of in (row, column))
    return Edges(a.n, row, column, k_value, l_value, a.row_mean, b.row_mean, weight, reverse_weight)


def find_own_edges(a: Neighbors) -> Edges:
    """Return the edges of one list, as its own mask has them: a random draw of ties agrees with itself."""
    row, place = np.nonzero(a.index >= 0)
    row, column, value = row, a.index[row, place], a.similarity[row, place]
    if len(a.tied_row):
        row, column = np.concatenate([row, a.tied_row]), np.concatenate([column, a.tied_index])
        value = np.concatenate([value, a.threshold[a.tied_row]])
    return Edges(
        a.n,
        row,
        column,
        value,
        value,
        a.row_mean,
        a.row_mean,
        a.weigh(row, value),
        a.weigh(column, value),
    )


def _find_tied_edges(a: Neighbors, b: Neighbors) -> tuple[np.ndarray, ...]:
    """Return (row, column, cosine in a, cosine in b) of a's tied pairs that are among the k of b."""
    pair, place = np.nonzero(b.index[a.tied_row] == a.tied_index[:, None])
    row = a.tied_row[pair]
    return row, a.tied_index[pair], a.threshold[row], b.similarity[row, place]


def compute_hsic_unbiased(edges: Edges) -> float:
    """HSIC_u of the masked kernels; of either sign, and undefined for n < 4."""
    n = edges.n
    k_value, l_value = edges.weight * edges.k_value, edges.weight * edges.l_value
    trace = _sum_reciprocal(edges)
    through = np.dot(_sum_by(edges.column, k_value, n), _sum_by(edges.row, l_value, n))
    total = k_value.sum() * l_value.sum()
    return float((trace + total / ((n - 1) * (n - 2)) - 2 * through / (n - 2)) / (n * (n - 3)))


def compute_hsic_biased(edges: Edges) -> float:
    """tr(KHLH) of the masked kernels with each row an edge to itself, of cosine one."""
    n = edges.n
    k_value, l_value = edges.weight * edges.k_value, edges.weight * edges.l_value
    trace = n + _sum_reciprocal(edges)
    k_columns, k_rows = (1 + _sum_by(index, k_value, n) for index in (edges.column, edges.row))
    l_columns, l_rows = (1 + _sum_by(index, l_value, n) for index in (edges.column, edges.row))
    through = np.dot(k_columns, l_rows) + np.dot(l_columns, k_rows)
    return float(trace - through / n + k_rows.sum() * l_rows.sum() / n**2)


def _sum_reciprocal(edges: Edges) -> float:
    """Return Σ_ij of the masked K_ij L_ji."""
    both = edges.reverse_weight > 0
    k_value, l_value = edges.k_value[both], edges.l_value[both]
    return float(np.dot(edges.weight[both] * k_value, edges.reverse_weight[both] * l_value))


def compute_row_centred_alignment(edges: Edges) -> float:
    """Σ over edges of (K_ij - mean of row i of K)(L_ij - mean of row i of L)."""
    k_centred = edges.k_value - edges.k_row_mean[edges.row]
    l_centred = edges.l_value - edges.l_row_mean[edges.row]
    return float(np.dot(edges.weight * k_centred, l_centred))


def sum_weights(edges: Edges) -> float:
    """Return the number of edges, tied ones counted by their share."""
    return float(edges.weight.sum())


def compute_linear_hsic(rows_a: UnitRows, rows_b: UnitRows, unbiased: bool) -> float:
    """HSIC of the whole kernels K = A Aᵀ and L = B Bᵀ from the features: O(n D_a D_b), float64.

    Features are centred first, which changes neither (both see a kernel up to r_i + r_j), and saves
    digits. Then tr(KHLH) = |AᵀB|². For HSIC_u the diagonals k_i = |a_i|² go: tr(KL) = |AᵀB|² - Σ
    k_i l_i, K1 = -k, and ΣK = -Σk.
    """
    n = rows_a.n
    cross = np.zeros((rows_a.dim, rows_b.dim))
    diagonal_a, diagonal_b = np.empty(n), np.empty(n)
    for block in cut(n, _ROWS_AT_ONCE):
        block_a, block_b = (rows.take_exact(block) - rows.mean for rows in (rows_a, rows_b))
        cross += block_a.T @ block_b
        diagonal_a[block], diagonal_b[block] = (
            np.vecdot(block_a, block_a),
            np.vecdot(block_b, block_b),
        )
    whole = float(np.vdot(cross, cross))
    if not unbiased:
        return whole
    both = float(np.dot(diagonal_a, diagonal_b))
    total = float(diagonal_a.sum() * diagonal_b.sum())
    return (whole - both + total / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))


def _sum_by(
    index: Int[np.ndarray, " edges"], value: Float64[np.ndarray, " edges"], n: int
) -> Float64[np.ndarray, " n"]:
    # Of no edges at all numpy makes integers.
    return np.bincount(index, weights=value, minlength=n).astype(np.float64)
