"""Tests of sample sizes for comparisons.

They compare with published numbers and with an enumeration of all possible tables.
"""

import numpy as np
import pytest
from scipy import stats

from eval.power import (
    compute_exact_power,
    compute_paired_size,
    compute_unpaired_size,
    find_correlation_range,
    find_discordant_shares,
    find_exact_paired_size,
)
from sim.errors import WhiskerError


def test_known_sizes():
    assert compute_unpaired_size(0.8, 0.9) == compute_unpaired_size(0.9, 0.8) == 199
    shares = find_discordant_shares(0.8, 0.9, 0.3)
    assert shares == pytest.approx((0.044, 0.144))
    assert compute_paired_size(sum(shares), 0.1) == 146


@pytest.fixture(scope="module")
def rejecting():
    """Return the tables of 25 pairs that McNemar's exact test rejects, as (b, c, concordant)."""
    return [
        (b, c, 25 - b - c)
        for b in range(26)
        for c in range(26 - b)
        if b + c and stats.binomtest(b, b + c).pvalue <= 0.05
    ]


@pytest.mark.parametrize(
    "shares",
    [
        (0.044, 0.144),
        (0.4, 0.1),
        (0.0, 0.3),
    ],
)
def test_exact_power_is_that_of_every_table_that_can_come(rejecting, shares):
    chances = stats.multinomial.pmf(
        rejecting,
        25,
        (*shares, 1 - sum(shares)),
    )
    assert compute_exact_power(25, *shares) == pytest.approx(chances.sum(), abs=1e-6)


def test_the_exact_size_has_the_power_and_one_less_has_not():
    n = find_exact_paired_size(0.044, 0.144)
    assert n > compute_paired_size(0.188, 0.1)
    assert compute_exact_power(n, 0.044, 0.144) >= 0.8 > compute_exact_power(n - 1, 0.044, 0.144)
    assert all(compute_exact_power(n + more, 0.044, 0.144) >= 0.8 for more in range(8))


@pytest.mark.parametrize("n", [10, 50, 200])
def test_the_test_is_never_wrong_too_often(n):
    assert all(compute_exact_power(n, share, share) <= 0.05 for share in (0.02, 0.1, 0.5))


def test_correlations_that_rates_can_have():
    least, largest = find_correlation_range(0.8, 0.9)
    assert find_discordant_shares(0.8, 0.9, largest)[0] == pytest.approx(0, abs=1e-12)
    both = 0.8 * 0.9 + least * np.sqrt(0.8 * 0.2 * 0.9 * 0.1)
    assert both == pytest.approx(0.7)  # One of the two always succeeds.
    with pytest.raises(WhiskerError, match=r"from -0\.17 to 0\.67"):
        find_discordant_shares(0.8, 0.9, 0.9)


@pytest.mark.parametrize(
    "rates",
    [
        (0.0, 0.5),
        (0.5, 1.0),
        (1.5, 0.5),
        (0.5, 0.5),
    ],
)
def test_rates_that_make_no_sense_are_refused(rates):
    with pytest.raises(WhiskerError, match="--power"):
        find_discordant_shares(*rates, 0.0)
