"""Tests CKNNA against a null by permutation: its value if the representations were unrelated.

Rows of a rollout are not independent. In any representation the neighbours of a frame are the
frames before and after it. So two unrelated random walks over the same episodes agree on most
neighbours (a score of 0.7, but permuted rows give 0.005). A null must keep that agreement and
break only the relation in question. Therefore whole episodes of B are permuted against A, not rows.

Scheme "episodes". Episode e of A is paired with episode π(e) of B, row by row from the reset on. B
keeps its rows and its neighbourhoods. It is relabelled, and nothing is searched again. What all
episodes have in common at the same time since the reset is in the null too. If episodes of B are
exchangeable given A, P(p <= α) <= α (Phipson & Smyth 2010).

Unequal lengths would distort the null. Pairing an episode of 30 rows with one of 70, and filling
the rest from elsewhere, cuts episodes into pieces. That alone lowers the null so much that each of
40 unrelated pairs of random walks came out as significant. So π exchanges only episodes of similar
length. Episodes, longest first, share a bin if none is more than `MAX_TRIM` shorter than the
longest in it. All in a bin are trimmed to the shortest, and π is uniform within bins. The bins
depend on the lengths alone, so the level holds for any lengths. The price is at most that share of
an episode's rows, and power if bins are small (an episode that is alone in its bin stays as it is).
The null is compared with the score of the trimmed rows: `observed`.

`strata` (the task of each row) keeps π within a task. Then the test asks whether B says more about
A than which task it is.

Scheme "rows" permutes rows. It is here to show its effect: it calls everything significant that is
smooth in time.
"""

from dataclasses import dataclass
from math import factorial, inf, nan, prod
from typing import Literal

import numpy as np
from jaxtyping import Int

from cknna.features import check_groups
from cknna.neighbors import Neighbors
from cknna.score import DEFAULT_VARIANT, Scorer
from sim.errors import WhiskerError

N_PERMUTATIONS = 999
MAX_TRIM = 0.2
# 170! is the largest factorial that a float holds.
_MAX_COUNTED = 150

type Scheme = Literal["episodes", "rows"]


@dataclass(frozen=True)
class Permutations:
    """The permutations that a null draws.

    Attributes:
        scheme: whether whole episodes or rows are permuted.
        strata: a label a row, the same in all rows of an episode, such as the task; only episodes
            with the same label are exchanged.
        n: number of permutations.
    """

    scheme: Scheme = "episodes"
    strata: np.ndarray | None = None
    n: int = N_PERMUTATIONS
    seed: int = 0


@dataclass(frozen=True)
class NullTest:
    """A one-sided test: is the score larger than those of permutations?

    Attributes:
        n_arrangements: number of possible permutations, inf beyond 1e300; p cannot be below
            1 / n_arrangements.
        n_rows: rows after trimming.
        observed: the score of these rows.
        null_high: 95th percentile of the null.
        p_value: (1 + #{null >= observed}) / (1 + the number of permutations), never 0; nan if the
            score is not defined.
    """

    scheme: str
    n_arrangements: float
    n_rows: int
    observed: float
    null_mean: float
    null_high: float
    p_value: float


def compute_null(
    a: Neighbors,
    b: Neighbors,
    k: int,
    variant: str = DEFAULT_VARIANT,
    groups: np.ndarray | None = None,
    permutations: Permutations | None = None,
) -> NullTest:
    """Compute the null of `compute_score(a, b, k, variant).cknna`.

    Args:
        a, b: the results of `search(..., depth=2)` if episodes differ in length.
        groups: the episode of each row, whose rows are in the order of time (not necessarily
            adjacent).
        permutations: by default `Permutations()`.
    """
    permutations = permutations or Permutations()
    if permutations.scheme == "rows":
        blocks = EpisodeBlocks(np.arange(a.n), a.n)
    elif groups is None:
        raise WhiskerError(
            "null by episodes",
            expected="groups",
            got="none",
            hint="Pass the episode of each row.",
        )
    else:
        blocks = EpisodeBlocks(groups, a.n, permutations.strata)
    a = blocks.trim(a, k)
    b = blocks.trim(b, k)
    scorer = Scorer(a, b, k, variant)
    observed = scorer.score_against(b)
    rng = np.random.default_rng(permutations.seed)
    null = np.empty(permutations.n)
    for draw in range(permutations.n):
        null[draw] = scorer.score_against(b.reorder(blocks.permute(rng)))
    p_value = nan
    if not np.isnan(observed):
        p_value = (1 + int((null >= observed).sum())) / (1 + permutations.n)
    return NullTest(
        scheme=permutations.scheme,
        n_arrangements=blocks.n_arrangements,
        n_rows=a.n,
        observed=observed,
        null_mean=float(null.mean()),
        null_high=float(np.quantile(null, 0.95)),
        p_value=p_value,
    )


class EpisodeBlocks:
    """Episodes in bins by stratum and length, trimmed so that they can be exchanged.

    Attributes:
        n: number of episodes.
        dropped: rows that trimming leaves out.
        bins: a matrix (episode, time) of rows for each bin, numbered without the dropped rows.
    """

    def __init__(
        self,
        groups: np.ndarray,
        n: int,
        strata: np.ndarray | None = None,
    ) -> None:
        label = check_groups(groups, n)
        _, first, length = np.unique(
            label,
            return_index=True,
            return_counts=True,
        )
        stratum: np.ndarray = np.zeros(len(first), np.int64)
        if strata is not None:
            stratum_of_row = check_groups(strata, n, "strata")
            stratum = stratum_of_row[first]
            if (stratum[label] != stratum_of_row).any():
                raise WhiskerError(
                    "strata",
                    expected="one label in each episode",
                    hint="An episode has one task.",
                )
        self.n = len(first)
        if self.n < 2:
            raise WhiskerError(
                "null by episodes",
                expected="at least 2 episodes",
                got="1",
                hint="Collect more episodes.",
            )
        members = np.split(np.argsort(label, kind="stable"), np.cumsum(length)[:-1])
        trimmed = []
        kept = np.zeros(n, bool)
        for episodes in _bin_by_length(length, stratum):
            shortest = length[episodes].min()
            rows = np.stack([members[episode][:shortest] for episode in episodes])
            kept[rows] = True
            trimmed.append(rows)
        self.dropped = np.flatnonzero(~kept)
        new_index = np.cumsum(kept) - 1
        self.bins = [new_index[rows] for rows in trimmed]
        self._n_kept = int(kept.sum())

    @property
    def n_arrangements(self) -> float:
        """Return the number of permutations; inf beyond what a float holds."""
        sizes = [len(rows) for rows in self.bins]
        if sum(sizes) > _MAX_COUNTED:
            return inf
        return float(prod(map(factorial, sizes)))

    def trim(
        self,
        neighbors: Neighbors,
        k: int,
    ) -> Neighbors:
        """Return the k nearest of each row among the rows that trimming keeps."""
        if not len(self.dropped):
            return neighbors.first(k)
        if neighbors.k < min(2 * k, int(neighbors.n_candidates.min())):
            raise WhiskerError(
                "null by episodes of unequal length",
                expected=f"neighbours searched to {2 * k}, twice k",
                got=f"{neighbors.k}",
                hint="Search with depth=2, because trimming an episode removes neighbours.",
            )
        return neighbors.delete(self.dropped, k)

    def permute(self, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
        """Draw an order: row i of A is to be paired with row order[i] of B."""
        order = np.arange(self._n_kept)
        for rows in self.bins:
            order[rows] = rows[rng.permutation(len(rows))]
        return order


def _bin_by_length(length: np.ndarray, stratum: np.ndarray) -> list[list[int]]:
    """Return the episodes of each bin, the longest of a bin first."""
    bins: list[list[int]] = []
    for episode in np.lexsort((-length, stratum)).tolist():
        longest = bins[-1][0] if bins else episode
        is_similar = length[episode] >= (1 - MAX_TRIM) * length[longest]
        if bins and is_similar and stratum[episode] == stratum[longest]:
            bins[-1].append(episode)
        else:
            bins.append([episode])
    return bins
