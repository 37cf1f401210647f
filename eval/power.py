"""Computes how many episodes a comparison needs, before any is run."""

from math import ceil, sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

from sim.errors import WhiskerError

POWER = 0.8
ALPHA = 0.05
# The largest number of episodes that is tried.
_MOST_EPISODES = 20_000

LogFactorials = Float64[np.ndarray, " _n1"]
Probabilities = Float64[np.ndarray, " _k"]


def compute_unpaired_size(
    rate: float,
    other: float,
    power: float = POWER,
    alpha: float = ALPHA,
) -> int:
    """Return how many episodes each of two runs needs if they share none.

    Normal approximation, with p̄ = (p₁ + p₂)/2:

        n = (z_α sqrt(2 p̄ (1 - p̄)) + z_β sqrt(p₁ (1 - p₁) + p₂ (1 - p₂)))² / (p₁ - p₂)²

    Source: J. L. Fleiss, B. Levin and M. C. Paik, "Statistical Methods for Rates and Proportions",
    3rd ed., eq. 4.14.
    """
    mean = 0.5 * (rate + other)
    null = 2 * mean * (1 - mean)
    alternative = rate * (1 - rate) + other * (1 - other)
    z_sum = _compute_z_sum(null, alternative, power, alpha)
    return _round_up(z_sum**2 / (rate - other) ** 2)


def compute_paired_size(
    discordant: float,
    difference: float,
    power: float = POWER,
    alpha: float = ALPHA,
) -> int:
    """Return how many shared episodes McNemar's test needs, by the normal approximation.

        n = (z_α sqrt(ψ) + z_β sqrt(ψ - δ²))² / δ²

    Args:
        discordant: ψ, the share of episodes that only one of the two policies solves; at least |δ|.
        difference: δ, the difference of the two success rates.

    Source: R. J. Connor, "Sample size for testing differences in proportions for the paired-sample
    design", Biometrics 43 (1987).
    """
    z_sum = _compute_z_sum(
        discordant,
        discordant - difference**2,
        power,
        alpha,
    )
    return _round_up(z_sum**2 / difference**2)


def find_exact_paired_size(
    only_first: float,
    only_second: float,
    power: float = POWER,
    alpha: float = ALPHA,
) -> int:
    """Return the number of shared episodes from which the power of McNemar's exact test suffices.

    From this number on, it stays above `power`. The exact test keeps its error below alpha for
    every number of episodes, so this is larger than Connor's number.

    Args:
        only_first: probability that only the first policy solves an episode.
    """
    n = compute_paired_size(
        only_first + only_second,
        only_first - only_second,
        power,
        alpha,
    )
    n_after = max(10, n // 20)
    last_below = n
    while n < min(last_below + n_after, _MOST_EPISODES):
        if compute_exact_power(n, only_first, only_second, alpha) < power:
            last_below = n
        n += 1
    return last_below + 1


def compute_exact_power(
    n: int,
    only_first: float,
    only_second: float,
    alpha: float = ALPHA,
) -> float:
    """Return the probability that McNemar's exact test of n shared episodes finds a difference."""
    discordant = only_first + only_second
    if discordant <= 0:
        return 0.0
    logarithms = np.log(np.arange(1, n + 1))
    log_factorial = np.concatenate([[0.0], np.cumsum(logarithms)])
    probabilities = _compute_binomial(log_factorial, n, discordant)
    share = only_first / discordant
    power = 0.0
    # Rarer numbers of discordant episodes change no digit that is shown.
    for m in np.flatnonzero(probabilities > 1e-9):
        power += probabilities[m] * _compute_rejection(
            log_factorial,
            int(m),
            share,
            alpha,
        )
    return float(power)


def find_correlation_range(rate: float, other: float) -> tuple[float, float]:
    """Return the least and the largest correlation that successes with these rates can have."""
    spread = _compute_spread(rate, other)
    least_both = max(0.0, rate + other - 1)
    most_both = min(rate, other)
    return (least_both - rate * other) / spread, (most_both - rate * other) / spread


def check_rates(
    rate: float,
    other: float,
    correlation: float,
) -> None:
    """Raise unless two policies can have these success rates and this correlation.

    Raises:
        WhiskerError: the rates are not between 0 and 1 or do not differ, or they cannot have the
            correlation.
    """
    for share in (rate, other):
        if not 0 < share < 1:
            raise WhiskerError(
                "--power",
                expected="two success rates between 0 and 1",
                got=str(share),
            )
    if rate == other:
        raise WhiskerError(
            "--power",
            expected="two rates that differ",
            got=f"{rate} twice",
        )
    least, largest = find_correlation_range(rate, other)
    if not least <= correlation <= largest:
        raise WhiskerError(
            "--correlation",
            expected=f"one from {least:.2f} to {largest:.2f}, "
            f"which success rates of {rate} and {other} can have",
            got=str(correlation),
        )


def find_discordant_shares(
    rate: float,
    other: float,
    correlation: float,
) -> tuple[float, float]:
    """Return the probabilities that only the first and only the second policy solves an episode.

    Raises:
        WhiskerError: as in `check_rates`.
    """
    check_rates(rate, other, correlation)
    both = rate * other + correlation * _compute_spread(rate, other)
    return max(0.0, rate - both), max(0.0, other - both)


def _compute_spread(rate: float, other: float) -> float:
    """Return the product of the two successes' standard deviations."""
    return sqrt(rate * (1 - rate) * other * (1 - other))


def _compute_rejection(
    log_factorial: LogFactorials,
    m: int,
    share: float,
    alpha: float,
) -> float:
    """Return the probability that the test of m discordant episodes rejects.

    Args:
        share: probability that the first policy is the one that solves a discordant episode.
    """
    tail = np.cumsum(_compute_binomial(log_factorial, m, 0.5))
    # Counts below `n_low` are rejected, and likewise at the other end.
    n_low = int(np.searchsorted(tail, 0.5 * alpha, side="right"))
    if n_low == 0:
        return 0.0
    probabilities = _compute_binomial(log_factorial, m, share)
    low = probabilities[:n_low].sum()
    high = probabilities[m + 1 - n_low :].sum()
    return float(low + high)


def _compute_binomial(
    log_factorial: LogFactorials,
    n: int,
    share: float,
) -> Probabilities:
    """Return the binomial distribution of 0 to n successes."""
    k = np.arange(n + 1)
    if share in (0.0, 1.0):
        return (k == n * share).astype(float)
    log_choose = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    return np.exp(log_choose + k * np.log(share) + (n - k) * np.log1p(-share))


def _compute_z_sum(
    null: float,
    alternative: float,
    power: float,
    alpha: float,
) -> float:
    """Return z_α sqrt(null) + z_β sqrt(alternative)."""
    normal = NormalDist()
    z_alpha = normal.inv_cdf(1 - 0.5 * alpha)
    z_beta = normal.inv_cdf(power)
    return z_alpha * sqrt(null) + z_beta * sqrt(max(0.0, alternative))


def _round_up(n: float) -> int:
    return ceil(n - 1e-9)
