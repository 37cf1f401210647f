"""What CKNNA would be if the two representations had nothing to do with each other: a null by permutation.

Rows of a rollout are not independent: the neighbours of a frame are the frames before and after it,
in whatever representation. So two unrelated random walks over the same episodes agree on most
neighbours (a score of 0.7, where permuted rows say 0.005). A null must keep that agreement and
break only what is asked about: permute whole episodes of B against A, not rows.

Scheme "episodes". Episode e of A is paired with episode π(e) of B, row by row from the reset on. B
keeps its rows and its neighbourhoods: it is relabelled, and nothing is searched anew. What all
episodes have in common at the same time since the reset is in the null too. If episodes of B are
exchangeable given A, P(p <= α) <= α (Phipson & Smyth 2010).

Lengths differ, and the null does not forgive it. To pair an episode of 30 rows with one of 70, and
to fill up what is left over from elsewhere, cuts episodes in pieces; that alone lowers the null so
much that each of 40 unrelated pairs of random walks came out as significant. So π exchanges
episodes of like length only: episodes, longest first, share a bin while none is more than
`MAX_TRIM` shorter than the longest in it; all in a bin are trimmed to the shortest; π is uniform
within bins. The bins depend on the lengths alone, so the level holds for any lengths. The price is
at most that share of an episode's rows, and power where bins are small (alone in one, an episode
stays as it is). What is compared is the score of the trimmed rows: `observed`.

`strata` (the task of each row) keeps π within a task: does B say more about A than which task it
is?

Scheme "rows" permutes rows. It is here to show what it does: it calls everything significant that
is smooth in time.
"""

from dataclasses import dataclass
from math import factorial, nan, prod
from typing import Literal

import numpy as np
from jaxtyping import Int

from cknna.features import check_groups
from cknna.neighbors import Neighbors
from cknna.score import DEFAULT_VARIANT, Scorer
from sim.errors import WhiskerError

N_PERMUTATIONS = 999
MAX_TRIM = 0.2

type Scheme = Literal["episodes", "rows"]


@dataclass(frozen=True)
class NullTest:
    """One-sided: is the score larger than those of permutations?

    Attributes:
        n_episodes: what was permuted; 0 in the scheme "rows".
        n_arrangements: how many permutations there are, inf beyond 1e300: p cannot be below 1 /
            n_arrangements.
        n_rows: rows after trimming.
        n_short: places in lists of neighbours that trimming left empty (search deeper); 0 is exact.
        observed: the score of these rows.
        null_high: 95th percentile of the null.
        p_value: (1 + #{null >= observed}) / (1 + n_permutations): never 0; nan where the score is
            not defined.
    """

    scheme: str
    n_permutations: int
    n_episodes: int
    n_arrangements: float
    n_rows: int
    n_short: int
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
    scheme: Scheme = "episodes",
    strata: np.ndarray | None = None,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
) -> NullTest:
    """The null of `compute_score(a, b, k, variant).cknna`.

    Args:
        a, b: from `search(..., depth=2)` where episodes differ in length.
        groups: the episode that each row belongs to, its rows in the order of time (not necessarily
            side by side).
        strata: what episodes to be exchanged must share, such as the task; a label a row, one in
            each episode.
    """
    if scheme == "rows":
        blocks = Blocks(np.arange(a.n), a.n)
    elif groups is None:
        raise WhiskerError(
            "null by episodes", expected="groups", got="none", hint="Pass the episode of each row."
        )
    else:
        blocks = Blocks(groups, a.n, strata)
    a, b = blocks.trim(a, k), blocks.trim(b, k)
    scorer = Scorer(a, b, k, variant)
    observed = scorer.score_against(b)
    rng = np.random.default_rng(seed)
    null = np.array(
        [scorer.score_against(b.reorder(blocks.permute(rng))) for _ in range(n_permutations)]
    )
    return NullTest(
        scheme=scheme,
        n_permutations=n_permutations,
        n_episodes=blocks.n if scheme == "episodes" else 0,
        n_arrangements=blocks.n_arrangements,
        n_rows=a.n,
        n_short=a.n_absent + b.n_absent,
        observed=observed,
        null_mean=float(null.mean()),
        null_high=float(np.quantile(null, 0.95)),
        p_value=nan
        if np.isnan(observed)
        else (1 + int((null >= observed).sum())) / (1 + n_permutations),
    )


class Blocks:
    """Episodes by stratum and length, trimmed to be exchanged.

    Attributes:
        n: episodes.
        dropped: rows that trimming leaves out.
        bins: one matrix (episode, time) for each, of rows as they are numbered without the dropped.
    """

    def __init__(self, groups: np.ndarray, n: int, strata: np.ndarray | None = None) -> None:
        label = check_groups(groups, n)
        stratum_of_row = (
            np.zeros(n, np.int64) if strata is None else check_groups(strata, n, "strata")
        )
        first, length = np.unique(label, return_index=True, return_counts=True)[1:]
        stratum = stratum_of_row[first]
        if (stratum[label] != stratum_of_row).any():
            raise WhiskerError(
                "strata", expected="one label in each episode", hint="An episode has one task."
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
        trimmed = [
            np.stack([members[episode][: length[chosen].min()] for episode in chosen])
            for chosen in _bin_by_length(length, stratum)
        ]
        kept = np.zeros(n, bool)
        for rows in trimmed:
            kept[rows] = True
        self.dropped = np.flatnonzero(~kept)
        new_index = np.cumsum(kept) - 1
        self.bins = [new_index[rows] for rows in trimmed]
        self._n_kept = int(kept.sum())

    @property
    def n_arrangements(self) -> float:
        sizes = [len(rows) for rows in self.bins]
        # 170! is the largest that a float holds.
        return float("inf") if sum(sizes) > 150 else float(prod(factorial(size) for size in sizes))

    def trim(self, neighbors: Neighbors, k: int) -> Neighbors:
        if not len(self.dropped):
            return neighbors.first(k)
        if neighbors.k < min(2 * k, int(neighbors.n_candidates.min())):
            raise WhiskerError(
                "null by episodes of unequal length",
                expected=f"neighbours searched to {2 * k}, twice k",
                got=f"{neighbors.k}",
                hint="Search with depth=2: trimming an episode takes neighbours away.",
            )
        return neighbors.delete(self.dropped, k)

    def permute(self, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
        """Row i of A is to be paired with row order[i] of B."""
        order = np.arange(self._n_kept)
        for rows in self.bins:
            order[rows] = rows[rng.permutation(len(rows))]
        return order


def _bin_by_length(length: np.ndarray, stratum: np.ndarray) -> list[list[int]]:
    bins: list[list[int]] = []
    for episode in np.lexsort((-length, stratum)).tolist():
        longest = bins[-1][0] if bins else episode
        if (
            bins
            and stratum[episode] == stratum[longest]
            and length[episode] >= (1 - MAX_TRIM) * length[longest]
        ):
            bins[-1].append(episode)
        else:
            bins.append([episode])
    return bins
