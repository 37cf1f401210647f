"""Finds the initial object positions from which the policy succeeds, and tests them.

A region is one condition or two, such as x ≥ 0.19 and y ≥ -0.09. Thresholds lie between the
observed values. Among all regions that they allow, the search takes the one that makes the outcomes
of half of the episodes most likely (one success rate inside, another one outside). The second
condition has Schwarz's penalty (BIC). The region is then tested on the other half alone, by
Fisher's exact test, which is the permutation test of a table of four counts. So the search costs no
significance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

# Fewer episodes than this, or fewer of either result, are not split.
_LEAST_EPISODES = 16
_LEAST_OF_A_KIND = 4
# Each side of a split has at least this share of the episodes on which it is found.
_LEAST_SHARE = 0.15
_MOST_THRESHOLDS = 40


@dataclass(frozen=True)
class Condition:
    """One variable on one side of a threshold."""

    variable: int
    is_above: bool
    threshold: float

    def holds(self, values: Float[np.ndarray, "episode variable"]) -> Bool[np.ndarray, " episode"]:
        """Return the episodes in which the condition holds."""
        column = values[:, self.variable]
        if self.is_above:
            return column >= self.threshold
        return column < self.threshold


@dataclass(frozen=True)
class StartRegion:
    """A region of initial states, with the results of the episodes inside and outside of it.

    Attributes:
        conditions: one or two; all hold inside.
        inside: (successes, episodes) inside, of all episodes.
        outside: (successes, episodes) outside, of all episodes.
        p_value: probability of such a table, or a clearer one, if the region did not matter,
            computed on the episodes that the region was not found on.
        n_tested: number of those episodes.
    """

    conditions: tuple[Condition, ...]
    inside: tuple[int, int]
    outside: tuple[int, int]
    p_value: float
    n_tested: int

    def describe(self, names: Sequence[str], unit: str) -> str:
        """Return the conditions in words, e.g. "x ≥ 0.19 m and y < -0.09 m"."""
        words = []
        for condition in self.conditions:
            name = names[condition.variable]
            sign = "≥" if condition.is_above else "<"
            words.append(f"{name} {sign} {condition.threshold:.3g} {unit}")
        return " and ".join(words)


def find_start_region(
    values: Float[np.ndarray, "episode variable"],
    success: Bool[np.ndarray, " episode"],
) -> StartRegion | None:
    """Return the region of initial states in which a policy succeeds more often.

    It is None if there are too few episodes. The region is found on every other episode and tested
    on the rest. Look at its `p_value` before you believe it.
    """
    n = len(values)
    n_rarer = min(success.sum(), (~success).sum())
    if n < _LEAST_EPISODES or n_rarer < _LEAST_OF_A_KIND:
        return None
    found_on = np.arange(n) % 2 == 0
    tested_on = ~found_on
    conditions = _find_conditions(values[found_on], success[found_on])
    if not conditions:
        return None
    is_inside = np.all([condition.holds(values) for condition in conditions], axis=0)
    from scipy.stats import fisher_exact  # takes a second to import

    table = []
    for side in (is_inside, ~is_inside):
        n_good, n_tested = _count(success, side & tested_on)
        table.append([n_good, n_tested - n_good])
    return StartRegion(
        conditions=conditions,
        inside=_count(success, is_inside),
        outside=_count(success, ~is_inside),
        p_value=float(fisher_exact(table, alternative="greater").pvalue),
        n_tested=int(tested_on.sum()),
    )


def _find_conditions(
    values: Float[np.ndarray, "episode variable"],
    success: Bool[np.ndarray, " episode"],
) -> tuple[Condition, ...]:
    """Return the likeliest region in which more episodes succeed than outside.

    It is () if no split leaves enough episodes on each side.
    """
    n = len(values)
    candidates = [
        Condition(variable, is_above, float(threshold))
        for variable, column in enumerate(values.T)
        for threshold in _find_thresholds(column)
        for is_above in (True, False)
    ]
    if not candidates:
        return ()
    masks = np.array([condition.holds(values) for condition in candidates], float)
    # Entry [i, j] is of the region in which conditions i and j hold; on the diagonal i alone.
    n_inside = masks @ masks.T
    good_inside = (masks * success) @ masks.T
    n_outside = n - n_inside
    good_outside = success.sum() - good_inside
    likelihood = _log_likelihood(good_inside, n_inside) + _log_likelihood(good_outside, n_outside)
    has_two_conditions = ~np.eye(len(candidates), dtype=bool)
    likelihood -= np.log(n) / 2 * has_two_conditions
    is_better = good_inside * n_outside > good_outside * n_inside
    is_large = np.minimum(n_inside, n_outside) >= _LEAST_SHARE * n
    allowed = is_better & is_large
    if not allowed.any():
        return ()
    best = np.where(allowed, likelihood, -np.inf).argmax()
    i, j = np.unravel_index(best, likelihood.shape)
    chosen = sorted({int(i), int(j)})
    return tuple(candidates[index] for index in chosen)


def _find_thresholds(column: Float[np.ndarray, " episode"]) -> Float[np.ndarray, " threshold"]:
    """Return the middles between neighbouring values, at most `_MOST_THRESHOLDS` of them."""
    distinct = np.unique(column)
    middles = (distinct[1:] + distinct[:-1]) / 2
    if len(middles) <= _MOST_THRESHOLDS:
        return middles
    places = np.linspace(0, len(middles) - 1, _MOST_THRESHOLDS)
    return middles[places.round().astype(int)]


def _log_likelihood(good: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the log likelihood of `good` successes in n episodes at their own rate."""
    from scipy.special import xlogy

    rate = np.divide(
        good,
        n,
        out=np.zeros_like(good),
        where=n > 0,
    )
    return xlogy(good, rate) + xlogy(n - good, 1 - rate)


def _count(success: np.ndarray, where: np.ndarray) -> tuple[int, int]:
    """Return (successes, episodes)."""
    return int(success[where].sum()), int(where.sum())
