"""Computes how many episodes a comparison takes, before any is run."""

from math import ceil, sqrt
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

from sim.errors import WhiskerError

POWER, ALPHA = 0.8, 0.05
# Nobody runs more for one comparison; the power of more is not looked for.
_MOST_EPISODES = 20_000


def compute_unpaired_size(
    rate: float, other: float, power: float = POWER, alpha: float = ALPHA
) -> int:
    """Return how many episodes each of two runs needs that share none, by the normal approximation.

    n = (z_α sqrt(2 p̄ (1 - p̄)) + z_β sqrt(p₁ (1 - p₁) + p₂ (1 - p₂)))² / (p₁ - p₂)², p̄ = (p₁ +
    p₂)/2

    Source: J. L. Fleiss, B. Levin and M. C. Paik, "Statistical Methods for Rates and Proportions",
    3rd ed., eq. 4.14.
    """
    mean = 0.5 * (rate + other)
    null, alternative = 2 * mean * (1 - mean), rate * (1 - rate) + other * (1 - other)
    return _round_up(_compute_z_sum(null, alternative, power, alpha) ** 2 / (rate - other) ** 2)


def compute_paired_size(
    discordant: float, difference: float, power: float = POWER, alpha: float = ALPHA
) -> int:
    """Return how many shared episodes McNemar's test takes, by the normal approximation.

    n = (z_α sqrt(ψ) + z_β sqrt(ψ - δ²))² / δ²

    Args:
        discordant: ψ, the share of episodes that only one of the two policies solves; at least |δ|.
        difference: δ of the two success rates.

    Source: R. J. Connor, "Sample size for testing differences in proportions for the paired-sample
    design", Biometrics 43 (1987).
    """
    return _round_up(
        _compute_z_sum(discordant, discordant - difference**2, power, alpha) ** 2 / difference**2,
    )


def find_exact_paired_size(
    only_first: float, only_second: float, power: float = POWER, alpha: float = ALPHA
) -> int:
    """Return how many shared episodes McNemar's exact test takes: from there on its power stays above `power`.

    The exact test gives away a little for never being wrong too often, so that this is more than
    Connor's number.

    Args:
        only_first: probability that only the first policy solves an episode.
    """
    n = compute_paired_size(only_first + only_second, only_first - only_second, power, alpha)
    n_after = max(10, n // 20)
    last_below = n
    while n < min(last_below + n_after, _MOST_EPISODES):
        if compute_exact_power(n, only_first, only_second, alpha) < power:
            last_below = n
        n += 1
    return last_below + 1


def compute_exact_power(
    n: int, only_first: float, only_second: float, alpha: float = ALPHA
) -> float:
    """Return the probability that McNemar's exact test of n shared episodes finds a difference."""
    discordant = only_first + only_second
    if discordant <= 0:
        return 0.0
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    chances = _compute_binomial(log_factorial, n, discordant)
    # What is rarer than this changes no digit that is shown.
    likely = np.flatnonzero(chances > 1e-9)
    share = only_first / discordant
    return float(
        sum(chances[m] * _find_rejected(log_factorial, int(m), share, alpha) for m in likely)
    )


def find_correlation_range(rate: float, other: float) -> tuple[float, float]:
    """Return the least and the largest correlation that two successes of these rates can have."""
    spread = sqrt(rate * (1 - rate) * other * (1 - other))
    least = (max(0.0, rate + other - 1) - rate * other) / spread
    return least, (min(rate, other) - rate * other) / spread


def find_discordant_shares(rate: float, other: float, correlation: float) -> tuple[float, float]:
    """Return the probabilities that only the first, and that only the second of two policies solves an episode.

    Raises:
        WhiskerError: rates that are not between 0 and 1 or do not differ, or a correlation that
            they cannot have.
    """
    for share in (rate, other):
        if not 0 < share < 1:
            raise WhiskerError(
                "--power", expected="two success rates between 0 and 1", got=str(share)
            )
    if rate == other:
        raise WhiskerError("--power", expected="two rates that differ", got=f"{rate} twice")
    least, largest = find_correlation_range(rate, other)
    if not least <= correlation <= largest:
        expected = f"one from {least:.2f} to {largest:.2f}, which success rates of {rate} and {other} can have"
        raise WhiskerError("--correlation", expected=expected, got=str(correlation))
    both = rate * other + correlation * sqrt(rate * (1 - rate) * other * (1 - other))
    return max(0.0, rate - both), max(0.0, other - both)


def _find_rejected(
    log_factorial: Float64[np.ndarray, " _n1"], m: int, share: float, alpha: float
) -> float:
    """Return the probability that the test of m discordant episodes rejects, if the first has `share` of them."""
    tail = np.cumsum(_compute_binomial(log_factorial, m, 0.5))
    n_low = int(
        np.searchsorted(tail, 0.5 * alpha, side="right")
    )  # counts 0 to n_low - 1 are rejected
    if n_low == 0:
        return 0.0
    chances = _compute_binomial(log_factorial, m, share)
    return float(chances[:n_low].sum() + chances[m + 1 - n_low :].sum())


def _compute_binomial(
    log_factorial: Float64[np.ndarray, " _n1"], n: int, share: float
) -> Float64[np.ndarray, " _k"]:
    """Return the binomial distribution of 0 to n successes."""
    k = np.arange(n + 1)
    if share in (0.0, 1.0):
        return (k == n * share).astype(float)
    log_choose = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    return np.exp(log_choose + k * np.log(share) + (n - k) * np.log1p(-share))


def _compute_z_sum(null: float, alternative: float, power: float, alpha: float) -> float:
    z = NormalDist().inv_cdf
    return z(1 - 0.5 * alpha) * sqrt(null) + z(power) * sqrt(max(0.0, alternative))


def _round_up(n: float) -> int:
    return ceil(n - 1e-9)
