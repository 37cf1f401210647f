"""CKNNA: are near moments near in the other representation too, and as near?

For features A and B of the same n moments, with K = A Aᵀ and L = B Bᵀ of unit rows, m_K and m_L the
masks of the k nearest of every row (itself excluded) and a = m_K ∘ m_L (Huh et al. 2024, "The
Platonic Representation Hypothesis"):

    CKNNA = S(a∘K, a∘L) / sqrt(S(m_K∘K, m_K∘K) S(m_L∘L, m_L∘L))

Four things are called so, and they are four numbers. Each is a row of `VARIANTS`:

- "unbiased": S = HSIC_u of the masked kernels, and 1e-6 added to the root: the default of the
  authors' code (platonic-rep, `AlignmentMetrics.cknna`), and what is mostly published. HSIC_u
  shrinks as k/n, so at n = 35,000 and k = 10 the 1e-6 takes up to a percent; it is kept, for the
  number to be theirs. The score may exceed 1 (HSIC_u of matrices that are not symmetric is no inner
  product), and A against B is not B against A. Where S is not positive under the root, as for rows
  that are all as far from each other, the score is nan (theirs is 0, or a root of two negatives).
- "row-centred": S = Σ_ij m_ij (K_ij - mean_l K_il)(L_ij - mean_l L_il) with m one of a, m_K, m_L
  and the mean over the whole row, l = i included: as printed in their Appendix A, eqs. 16 to 18. In
  [-1, 1] by Cauchy and Schwarz, and symmetric.
- "biased": S = tr(KHLH) of the masked kernels, where a row counts as the first of its own k
  neighbours: the code, with `unbiased=False`. The 1e-6 there is beyond all digits.
- "distance-agnostic": S = the number of edges: the code, with `distance_agnostic=True` (which stops
  at a matrix there, where it needs a number). It is mutual kNN by another name.

Ties. In rollouts many rows are exact copies on one side (every episode begins in one pose), and a
k-th place then has more claimants than room. A top-k gives it by the row number, so that shuffling
the rows moves the score. Here m is the expectation of that mask over uniformly random choices among
equally near rows (`cknna/neighbors.py`), a choice for each row and each representation by itself,
so that the expectation of m_K ∘ m_L is the product of both. Rows that tie share the places equally,
no row is left out, the score is a function of the set of rows, and without ties it is the formula
to the last bit. The root has the expectation of m_K ∘ m_K, which is m_K. So the score is the mean
of the formula over random choices, to O(1/n²) for "row-centred" and "distance-agnostic" exactly.
One choice for both representations would not do: it would let two features of few values that have
nothing to do with each other agree in which of the equal rows they take. The price: features with
ties do not fully agree with themselves either, since ties say nothing about which of the equal rows
is nearer. `n_tied_a` and `n_tied_b` say how many rows this concerns.

An undefined score is nan. A score means little without its null: see `cknna/null.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np

from cknna.features import MIN_K, UnitRows, check_topk, make_pair
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
    """S of the module's docstring.

    Attributes:
        constant: added to the root.
        own_first: whether a row is the first of its k neighbours.
    """

    alignment: Callable[[Edges], float]
    constant: float = 0.0
    own_first: bool = False


VARIANTS = {
    "unbiased": Variant(compute_hsic_unbiased, constant=1e-6),
    "row-centred": Variant(compute_row_centred_alignment),
    "biased": Variant(compute_hsic_biased, constant=1e-6, own_first=True),
    "distance-agnostic": Variant(sum_weights),
}
DEFAULT_VARIANT = "unbiased"


@dataclass(frozen=True)
class CknnaScore:
    """One score, and what it rests on.

    Attributes:
        mutual_knn: mean share of a row's k neighbours that are its neighbours in both.
        mutual_knn_chance: what it is for unrelated features: k / (n - 1), the mean of k / (rows to
            choose from).
        n_tied_a, n_tied_b: rows with more rows at the k-th cosine than places left, which share
            them equally.
        n_candidates_min: the fewest rows that a row could choose from: n - 1, or less without its
            own episode.
    """

    n: int
    k: int
    variant: str
    cknna: float
    mutual_knn: float
    mutual_knn_chance: float
    n_tied_a: int
    n_tied_b: int
    n_candidates_min: int


def score(
    features_a: np.ndarray,
    features_b: np.ndarray,
    topk: Sequence[int] = (10,),
    variant: str = DEFAULT_VARIANT,
    groups: np.ndarray | None = None,
    exclude_same_group: bool = False,
) -> list[CknnaScore]:
    """A score for each k, from one search."""
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
    """The neighbours in both, for every score, null and interval at these k.

    Args:
        depth: how many times the largest k to search for; 2 for the intervals of
            `cknna/jackknife.py`.
    """
    rows_a, rows_b = make_pair(features_a, features_b)
    check_topk(topk, rows_a.n)
    k = max(topk)
    deep = k
    if depth > 1:
        largest = (
            np.unique(groups, return_counts=True)[1].max()
            if exclude_same_group and groups is not None
            else 1
        )
        deep = max(k, min(depth * k, rows_a.n - int(largest)))
    a = find_neighbors(rows_a, deep, groups, exclude_same_group)
    return a, find_neighbors(rows_b, deep, groups, exclude_same_group)


def compute_score(a: Neighbors, b: Neighbors, k: int, variant: str = DEFAULT_VARIANT) -> CknnaScore:
    a, b = a.first(k), b.first(k)
    return CknnaScore(
        n=a.n,
        k=k,
        variant=variant,
        cknna=Scorer(a, b, k, variant).score_against(b),
        mutual_knn=sum_weights(find_mutual_edges(a, b)) / (a.n * k),
        mutual_knn_chance=float((k / a.n_candidates).mean()),
        n_tied_a=a.n_tied,
        n_tied_b=b.n_tied,
        n_candidates_min=int(a.n_candidates.min()),
    )


class Scorer:
    """The score of one `a` against any reordering of one `b`: what stands under the root is the same for all."""

    def __init__(self, a: Neighbors, b: Neighbors, k: int, variant: str = DEFAULT_VARIANT) -> None:
        if variant not in VARIANTS:
            raise UnknownNameError("CKNNA variant", variant, VARIANTS)
        if a.n != b.n:
            raise WhiskerError(
                "neighbours of two feature matrices", expected=f"{a.n} rows in both", got=f"{b.n}"
            )
        if k < MIN_K:
            raise WhiskerError(f"k = {k}", expected=f"k >= {MIN_K}", hint="Choose a larger k.")
        self._variant = VARIANTS[variant]
        self._k = k - self._variant.own_first
        self._a = a.first(self._k)
        own_a, own_b = (self._variant.alignment(find_own_edges(x.first(self._k))) for x in (a, b))
        self._root = (
            sqrt(own_a * own_b) + self._variant.constant if own_a > 0 and own_b > 0 else nan
        )

    def score_against(self, b: Neighbors) -> float:
        return self._variant.alignment(find_mutual_edges(self._a, b.first(self._k))) / self._root


def compute_cka(rows_a: UnitRows, rows_b: UnitRows, unbiased: bool = True) -> float:
    """Linear CKA of the unit rows: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) (Kornblith et al. 2019), all pairs counted.

    Without platonic-rep's 1e-6 under the line: features that point much the same way have an HSIC
    smaller than that.
    """
    both, own_a, own_b = (
        compute_linear_hsic(*pair, unbiased=unbiased)
        for pair in ((rows_a, rows_b), (rows_a, rows_a), (rows_b, rows_b))
    )
    return both / sqrt(own_a * own_b) if own_a > 0 and own_b > 0 else nan
