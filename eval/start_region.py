"""Finds where the object has to begin for the policy to succeed, on some episodes, and tests it on others.

A region is one condition or two, such as x ≥ 0.19 and y ≥ -0.09. Of all that the thresholds between
the observed values allow, the one is taken that makes the outcomes of half of the episodes most
likely (a success rate inside, another one outside), with Schwarz's penalty (BIC) for the second
condition. Whether it holds is then asked of the other half alone, by Fisher's exact test, which is
the permutation test of a table of four counts. So the search costs no significance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import xlogy
from scipy.stats import fisher_exact

# Fewer episodes than this, or fewer of either result, are not split.
_LEAST_EPISODES, _LEAST_OF_A_KIND = 16, 4
# Each side of a split has at least this share of the episodes that it is found on.
_LEAST_SHARE = 0.15
_MOST_THRESHOLDS = 40


@dataclass(frozen=True)
class Condition:
    """One variable on one side of a threshold."""

    variable: int
    is_above: bool
    threshold: float

    def holds(self, values: Float[np.ndarray, "episode variable"]) -> Bool[np.ndarray, " episode"]:
        column = values[:, self.variable]
        return column >= self.threshold if self.is_above else column < self.threshold


@dataclass(frozen=True)
class StartRegion:
    """A region of initial states, and what became of the episodes inside and outside of it.

    Attributes:
        conditions: one or two; all hold inside.
        inside: (successes, episodes), of all episodes.
        outside: likewise.
        p_value: of the episodes that it was not found on: the probability of such a table, or a
            clearer one, if the region did not matter.
        n_tested: how many those are.
    """

    conditions: tuple[Condition, ...]
    inside: tuple[int, int]
    outside: tuple[int, int]
    p_value: float
    n_tested: int

    def describe(self, names: Sequence[str], unit: str) -> str:
        """Return the conditions in words, e.g. "x ≥ 0.19 m and y < -0.09 m"."""
        sides = {True: "≥", False: "<"}
        return " and ".join(
            f"{names[c.variable]} {sides[c.is_above]} {c.threshold:.3g} {unit}"
            for c in self.conditions
        )


def find_start_region(
    values: Float[np.ndarray, "episode variable"], success: Bool[np.ndarray, " episode"]
) -> StartRegion | None:
    """Return the region of initial states in which a policy succeeds more often; None if there are too few episodes.

    The region is found on every other episode and tested on the rest: look at its `p_value` before
    you believe it.
    """
    n_success = int(success.sum())
    if len(values) < _LEAST_EPISODES or min(n_success, len(values) - n_success) < _LEAST_OF_A_KIND:
        return None
    found_on = np.arange(len(values)) % 2 == 0
    conditions = _find_conditions(values[found_on], success[found_on])
    if not conditions:
        return None
    is_inside = np.logical_and.reduce([condition.holds(values) for condition in conditions])
    inside, outside = _count(success, is_inside), _count(success, ~is_inside)
    tested = [_count(success, side & ~found_on) for side in (is_inside, ~is_inside)]
    table = [[n_good, n - n_good] for n_good, n in tested]
    p_value = float(fisher_exact(table, alternative="greater").pvalue)
    return StartRegion(conditions, inside, outside, p_value, int((~found_on).sum()))


def _find_conditions(
    values: Float[np.ndarray, "episode variable"], success: Bool[np.ndarray, " episode"]
) -> tuple[Condition, ...]:
    """Return the likeliest region inside which more succeed than outside; () if no split leaves enough on each side."""
    n = len(values)
    candidates = [
        Condition(variable, is_above, float(threshold))
        for variable in range(values.shape[1])
        for threshold in _find_thresholds(values[:, variable])
        for is_above in (True, False)
    ]
    if not candidates:
        return ()
    masks = np.stack([condition.holds(values) for condition in candidates]).astype(float)
    # [i, j]: of the region in which conditions i and j hold; i on the diagonal alone.
    n_inside, good_inside = masks @ masks.T, (masks * success) @ masks.T
    n_outside, good_outside = n - n_inside, success.sum() - good_inside
    likelihood = _log_likelihood(good_inside, n_inside) + _log_likelihood(good_outside, n_outside)
    likelihood -= np.log(n) / 2 * ~np.eye(len(candidates), dtype=bool)
    better = good_inside * n_outside > good_outside * n_inside
    allowed = better & (np.minimum(n_inside, n_outside) >= _LEAST_SHARE * n)
    if not allowed.any():
        return ()
    best = np.unravel_index(np.where(allowed, likelihood, -np.inf).argmax(), likelihood.shape)
    return tuple(candidates[i] for i in sorted({int(i) for i in best}))


def _find_thresholds(column: Float[np.ndarray, " episode"]) -> Float[np.ndarray, " threshold"]:
    """Return the middles between neighbouring values, not too many."""
    distinct = np.unique(column)
    middles = (distinct[1:] + distinct[:-1]) / 2
    if len(middles) <= _MOST_THRESHOLDS:
        return middles
    return middles[np.linspace(0, len(middles) - 1, _MOST_THRESHOLDS).round().astype(int)]


def _log_likelihood(good: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return that of `good` successes in n episodes at their own rate."""
    rate = np.divide(good, n, out=np.zeros_like(good), where=n > 0)
    return xlogy(good, rate) + xlogy(n - good, 1 - rate)


def _count(success: np.ndarray, where: np.ndarray) -> tuple[int, int]:
    return int(success[where].sum()), int(where.sum())
