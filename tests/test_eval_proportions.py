from math import isnan, sqrt

import numpy as np
import pytest
from pytest import approx
from scipy import special, stats

from eval.proportions import (
    NEAR_THE_END,
    compute_beta_cdf,
    compute_clopper_pearson_interval,
    compute_interval,
    compute_normal_quantile,
    compute_t_quantile,
    compute_wilson_interval,
    uses_clopper_pearson,
)

each_count = pytest.mark.parametrize(
    ("k", "n"),
    [
        (0, 10),
        (0, 1),
        (1, 1),
        (8, 10),
        (10, 10),
        (27, 30),
        (99, 100),
        (1000, 2000),
        (1999, 2000),
    ],
)


def wilson(k, n, z=1.959963984540054):
    """Return the interval by the closed form of Wilson (1927)."""
    p = k / n
    middle = p + z**2 / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return (middle - half) / scale, (middle + half) / scale


@each_count
def test_wilson_equals_its_closed_form_and_scipys(k, n):
    interval = compute_wilson_interval(k, n)
    assert interval == approx(wilson(k, n), abs=1e-12)
    scipys = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert interval == approx(tuple(scipys), abs=1e-12)


@each_count
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_clopper_pearson_equals_scipys(k, n, confidence):
    interval = compute_clopper_pearson_interval(k, n, confidence)
    scipys = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    assert interval == approx(tuple(scipys), abs=1e-12)


def test_of_nothing_nothing_is_known():
    for compute in (compute_wilson_interval, compute_clopper_pearson_interval):
        assert all(map(isnan, compute(0, 0)))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1.0, 1.0),
        (2.0, 5.0),
        (0.5, 0.5),
        (50.0, 1.0),
        (1.0, 2e3),
        (1e3, 1001.0),
        (500.0, 0.5),
    ],
)
@pytest.mark.parametrize(
    "x",
    [0.0, 1e-9, 0.01, 0.2, 0.5, 0.8, 0.99, 1.0],
)
def test_the_beta_distribution_equals_scipys(x, a, b):
    scipys = special.betainc(a, b, x)
    assert compute_beta_cdf(x, a, b) == approx(
        scipys,
        rel=1e-9,
        abs=1e-13,
    )


@pytest.mark.parametrize(
    "n_freedom",
    [1, 2, 5, 30, 1999],
)
def test_students_quantile_equals_scipys(n_freedom):
    scipys = stats.t.ppf(0.975, n_freedom)
    assert compute_t_quantile(0.95, n_freedom) == approx(scipys, rel=1e-11)


def test_the_normal_quantile_equals_scipys():
    assert compute_normal_quantile(0.95) == approx(stats.norm.ppf(0.975), rel=1e-14)


def least_coverage(n, rates, method):
    """Return the least probability, over these rates, that the interval covers the rate."""
    low, high = np.transpose([compute_interval(k, n, method) for k in range(n + 1)])
    rate = np.reshape(rates, (-1, 1))
    chances = stats.binom.pmf(
        np.arange(n + 1),
        n,
        rate,
    )
    covers = (low <= rate) & (rate <= high)
    return np.sum(chances * covers, axis=1).min()


def test_the_exact_interval_mends_what_wilsons_does_not_cover_near_the_ends():
    assert least_coverage(50, [0.98], "wilson") == approx(0.922, abs=0.0005)
    rates = [
        *np.linspace(0.0005, 0.02, 40),
        *np.linspace(0.02, 0.5, 60),
    ]
    assert least_coverage(50, rates, "wilson") < 0.86
    assert least_coverage(50, rates, "auto") > 0.925
    assert least_coverage(50, rates, "clopper-pearson") >= 0.95


def test_which_interval_is_taken():
    assert uses_clopper_pearson(NEAR_THE_END, 50)
    assert uses_clopper_pearson(50 - NEAR_THE_END, 50)
    assert not uses_clopper_pearson(NEAR_THE_END + 1, 50)
    assert not uses_clopper_pearson(0, 50, "wilson")
    assert uses_clopper_pearson(25, 50, "clopper-pearson")
