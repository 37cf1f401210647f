"""How sure a score is: a jackknife over episodes, for one score and for the difference of two policies.

Episodes are what was sampled; rows within one are not independent. Delete episode e and score the
rest: s_(e). With E episodes and their mean s_(.) (Efron & Stein 1981, "The Jackknife Estimate of
Variance"),

    se² = (E - 1)/E Σ_e (s_(e) - s_(.))²        interval: s ± t_{E-1, 0.975} se

Why not the bootstrap: it draws episodes twice, a row's nearest neighbour is then its own copy, and
the score is of another kind of data; it fails for statistics of nearest neighbours (Abadie & Imbens
2008). A deletion makes no copies, and moves up in each list of neighbours whoever stood behind: no
new search, if the lists are deeper than k (`search(..., depth=2)`). A row of whose 2 k nearest more
than k are in one other episode runs short when that one goes; it keeps fewer, and is counted. Of
more than `MAX_DELETIONS` episodes several are deleted together, each once (the delete-a-group
jackknife, Kott 2001): E is the number of groups then, and the time does not grow with n twice.

Paired: policies P and Q scored against B on the same moments share what is easy and hard about an
episode. So the jackknife is of the difference of their scores, and the test is a t-test with E - 1
degrees of freedom.

The interval is conservative. The variance of the jackknife is biased upwards: what comes from pairs
of episodes (one holds the neighbours of the other) is counted twice (Efron & Stein). In simulations
the standard error is about 1.4 times that of repeated experiments, and the 95 % interval covers the
mean score in 97 to 100 % of them (`tests/benchmarks/cknna_coverage.py`). Efron and Stein's
correction, which deletes pairs, is not applied: with 12 short episodes it left a negative variance
in 38 % of the experiments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from scipy.stats import t as student

from cknna.features import check_groups
from cknna.neighbors import Neighbors
from cknna.score import DEFAULT_VARIANT, Scorer
from sim.errors import WhiskerError

MIN_EPISODES = 3
MAX_DELETIONS = 200


@dataclass(frozen=True)
class Interval:
    """A number and its interval over episodes.

    Attributes:
        n_deletions: as many as episodes, or groups of them.
        n_short: places in lists of neighbours that a deletion left empty, in the worst one; 0 is
            exact.
    """

    value: float
    low: float
    high: float
    standard_error: float
    n_episodes: int
    n_deletions: int
    n_short: int


@dataclass(frozen=True)
class PairedTest:
    """The first policy's score less the second's; p_value is two-sided for no difference."""

    difference: Interval
    p_value: float


def compute_interval(
    a: Neighbors,
    b: Neighbors,
    k: int,
    groups: np.ndarray,
    variant: str = DEFAULT_VARIANT,
    confidence: float = 0.95,
) -> Interval:
    """Interval of `compute_score(a, b, k, variant).cknna`."""

    def compute(a: Neighbors, b: Neighbors) -> float:
        return _score(a, b, k, variant)

    return _jackknife(compute, (a, b), k, groups, confidence)


def compute_paired_test(
    a_first: Neighbors,
    a_second: Neighbors,
    b: Neighbors,
    k: int,
    groups: np.ndarray,
    variant: str = DEFAULT_VARIANT,
    confidence: float = 0.95,
) -> PairedTest:
    """Do two policies, on one shared set of moments, differ in how they align with the same features_b?"""

    def compute(first: Neighbors, second: Neighbors, b: Neighbors) -> float:
        return _score(first, b, k, variant) - _score(second, b, k, variant)

    difference = _jackknife(compute, (a_first, a_second, b), k, groups, confidence)
    if difference.standard_error > 0:
        ratio = abs(difference.value) / difference.standard_error
        return PairedTest(difference, float(2 * student.sf(ratio, difference.n_deletions - 1)))
    # The same features twice, or a score that is not defined.
    return PairedTest(difference, 1.0 if difference.value == 0 else nan)


def _score(a: Neighbors, b: Neighbors, k: int, variant: str) -> float:
    return Scorer(a, b, k, variant).score_against(b)


def _jackknife(
    compute: Callable[..., float],
    neighbors: tuple[Neighbors, ...],
    k: int,
    groups: np.ndarray,
    confidence: float,
) -> Interval:
    episode = check_groups(groups, neighbors[0].n)
    n_episodes = int(episode.max()) + 1
    if n_episodes < MIN_EPISODES:
        expected = f"at least {MIN_EPISODES} episodes"
        raise WhiskerError(
            "interval over episodes", expected=expected, got=f"{n_episodes}", hint="Collect more."
        )
    value = compute(*(each.first(k) for each in neighbors))
    n = min(n_episodes, MAX_DELETIONS)
    left_out, n_short = np.empty(n), 0
    for group in range(n):
        rest = tuple(each.delete(np.flatnonzero(episode % n == group), k) for each in neighbors)
        left_out[group] = compute(*rest)
        n_short = max(n_short, *(each.n_absent for each in rest))
    error = sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    half = float(student.ppf((1 + confidence) / 2, n - 1)) * error
    return Interval(value, value - half, value + half, error, n_episodes, n, n_short)
