"""CKNNA: are moments that are near in one representation as near in the other?

For features A and B of the same n moments, let K = A Aᵀ and L = B Bᵀ of unit rows, let m_K and m_L
be the masks of the k nearest rows of every row (itself excluded), and a = m_K ∘ m_L (Huh et al.
2024, "The Platonic Representation Hypothesis"). Then

    CKNNA = S(a∘K, a∘L) / sqrt(S(m_K∘K, m_K∘K) S(m_L∘L, m_L∘L))

Four scores share this name and give four numbers. Each is a row of `VARIANTS`:

- "unbiased": S = HSIC_u of the masked kernels, and 1e-6 is added to the root. It is the default of
  the authors' code (platonic-rep, `AlignmentMetrics.cknna`) and the one that is mostly published.
  HSIC_u shrinks as k/n, so at n = 35,000 and k = 10 the 1e-6 changes the score by up to a percent.
  It is kept so that the number equals theirs. The score may exceed 1 (HSIC_u of matrices that are
  not symmetric is no inner product), and A against B differs from B against A. The score is nan if
  an S under the root is not positive, as for rows that are all equally far from each other (their
  code gives 0, or a root of two negatives).
- "row-centred": S = Σ_ij m_ij (K_ij - mean_l K_il)(L_ij - mean_l L_il), in which m is one of a,
  m_K, m_L, and the mean is over the whole row, l = i included. This is the formula of their
  Appendix A, eqs. 16 to 18. It is in [-1, 1] by Cauchy and Schwarz, and symmetric.
- "biased": S = tr(KHLH) of the masked kernels, in which a row counts as the first of its own k
  neighbours. This is their code with `unbiased=False`. Its 1e-6 is below the precision of float64.
- "distance-agnostic": S = the number of edges. This is their code with `distance_agnostic=True`
  (which stops at a matrix where it needs a number). It is mutual kNN by another name.

Ties. In rollouts many rows are exact copies on one side, since every episode begins in one pose.
Then more rows claim a k-th place than there is room for. A top-k picks them by the row number, so
that shuffling the rows changes the score. Here m is the expectation of that mask over uniformly
random choices among equally near rows (`cknna/neighbors.py`). The choices are independent for each
row and each representation, so the expectation of m_K ∘ m_L is the product of both. Rows that tie
share the places equally, no row is left out, the score is a function of the set of rows, and
without ties it is the formula to the last bit. Under the root stands the expectation of m_K ∘ m_K,
which is m_K. So the score is the mean of the formula over random choices, to O(1/n²), and exactly
for "row-centred" and "distance-agnostic". One choice for both representations would be wrong: two
unrelated features with few values could then agree in which of the equal rows they take. The price
is that features with ties do not fully agree with themselves either, since ties say nothing about
which of the equal rows is nearer. `n_tied_a` and `n_tied_b` give the number of rows concerned.

An undefined score is nan. A score means little without its null: see `cknna/null.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np

from cknna.features import MIN_K, NormalizedFeatures, check_topk, make_pair
from cknna.hsic import (
    Edges,
    compute_hsic_biased,
    compute_hsic_unbiased,
    compute_linear_hsic,
    compute_row_centred_alignment,
    find_mutual_edges,
    find_own_edges,
    sum_weights,
)
from cknna.neighbors import Neighbors, find_neighbors
from sim.errors import UnknownNameError, WhiskerError


@dataclass(frozen=True)
class Variant:
    """The alignment S of the module's docstring.

    Attributes:
        constant: number added to the root.
        own_first: whether a row is the first of its k neighbours.
    """

    alignment: Callable[[Edges], float]
    constant: float = 0.0
    own_first: bool = False


VARIANTS = {
    "unbiased": Variant(compute_hsic_unbiased, constant=1e-6),
    "row-centred": Variant(compute_row_centred_alignment),
    "biased": Variant(
        compute_hsic_biased,
        constant=1e-6,
        own_first=True,
    ),
    "distance-agnostic": Variant(sum_weights),
}
DEFAULT_VARIANT = "unbiased"


@dataclass(frozen=True)
class CknnaScore:
    """One score, with the counts that qualify it.

    Attributes:
        mutual_knn: mean share of a row's k neighbours that are its neighbours in both.
        mutual_knn_chance: its expectation for unrelated features: k / (n - 1), or the mean of
            k / (rows to choose from).
        n_tied_a, n_tied_b: number of rows with more rows at the k-th cosine than places left, which
            share them equally.
    """

    n: int
    k: int
    variant: str
    cknna: float
    mutual_knn: float
    mutual_knn_chance: float
    n_tied_a: int
    n_tied_b: int


def score(
    features_a: np.ndarray,
    features_b: np.ndarray,
    topk: Sequence[int] = (10,),
    variant: str = DEFAULT_VARIANT,
    groups: np.ndarray | None = None,
    exclude_same_group: bool = False,
) -> list[CknnaScore]:
    """Compute a score for each k from one search."""
    a, b = search(features_a, features_b, topk, groups, exclude_same_group)
    return [compute_score(a, b, k, variant) for k in topk]


def search(
    features_a: np.ndarray,
    features_b: np.ndarray,
    topk: Sequence[int] = (10,),
    groups: np.ndarray | None = None,
    exclude_same_group: bool = False,
    depth: int = 1,
) -> tuple[Neighbors, Neighbors]:
    """Find the neighbours in both matrices, for every score, null and interval at these k.

    Args:
        depth: multiple of the largest k to search for; 2 for the intervals of
            `cknna/jackknife.py`.
    """
    rows_a, rows_b = make_pair(features_a, features_b)
    n = rows_a.n
    check_topk(topk, n)
    k = max(topk)
    n_excluded = 1
    if exclude_same_group and groups is not None:
        _, lengths = np.unique(groups, return_counts=True)
        n_excluded = int(lengths.max())
    deep = max(k, min(depth * k, n - n_excluded))
    a = find_neighbors(rows_a, deep, groups, exclude_same_group)
    b = find_neighbors(rows_b, deep, groups, exclude_same_group)
    return a, b


def compute_score(
    a: Neighbors,
    b: Neighbors,
    k: int,
    variant: str = DEFAULT_VARIANT,
) -> CknnaScore:
    """Compute the score of two searches that went to k or deeper."""
    a = a.first(k)
    b = b.first(k)
    cknna = Scorer(a, b, k, variant).score_against(b)
    return CknnaScore(
        n=a.n,
        k=k,
        variant=variant,
        cknna=cknna,
        mutual_knn=sum_weights(find_mutual_edges(a, b)) / (a.n * k),
        mutual_knn_chance=float((k / a.n_candidates).mean()),
        n_tied_a=a.n_tied,
        n_tied_b=b.n_tied,
    )


class Scorer:
    """Scores one `a` against any reordering of one `b`, which all have the same root."""

    def __init__(
        self,
        a: Neighbors,
        b: Neighbors,
        k: int,
        variant: str,
    ) -> None:
        if variant not in VARIANTS:
            raise UnknownNameError("CKNNA variant", variant, VARIANTS)
        if a.n != b.n:
            raise WhiskerError(
                "neighbours of two feature matrices",
                expected=f"{a.n} rows in both",
                got=f"{b.n}",
            )
        if k < MIN_K:
            raise WhiskerError(
                f"k = {k}",
                expected=f"k >= {MIN_K}",
                hint="Choose a larger k.",
            )
        self._variant = VARIANTS[variant]
        self._k = k - self._variant.own_first
        self._a = a.first(self._k)
        own_a = self._variant.alignment(find_own_edges(self._a))
        own_b = self._variant.alignment(find_own_edges(b.first(self._k)))
        self._root = nan
        if own_a > 0 and own_b > 0:
            self._root = sqrt(own_a * own_b) + self._variant.constant

    def score_against(self, b: Neighbors) -> float:
        return self._variant.alignment(find_mutual_edges(self._a, b.first(self._k))) / self._root


def compute_cka(
    rows_a: NormalizedFeatures,
    rows_b: NormalizedFeatures,
    unbiased: bool = True,
) -> float:
    """Compute linear CKA of the unit rows over all pairs (Kornblith et al. 2019).

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)). The 1e-6 that platonic-rep adds to the
    denominator is left out: features that point in much the same direction have an HSIC below it.
    """
    both = compute_linear_hsic(rows_a, rows_b, unbiased)
    own_a = compute_linear_hsic(rows_a, rows_a, unbiased)
    own_b = compute_linear_hsic(rows_b, rows_b, unbiased)
    if own_a > 0 and own_b > 0:
        return both / sqrt(own_a * own_b)
    return nan
