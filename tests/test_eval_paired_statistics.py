"""Tests of paired counts.

They compare with scipy, with published examples, and with an enumeration of all possible tables.
"""

from itertools import combinations, compress, product
from math import isnan

import numpy as np
import pytest
from pytest import approx
from scipy import optimize, stats

from eval.paired_statistics import (
    PairedCounts,
    compute_correlation,
    compute_difference_interval,
    compute_macro_difference,
    compute_mcnemar_p,
    correct_by_holm,
    find_letters,
)

# From Fagerland, Lydersen and Laake, "Statistical Analysis of Contingency Tables" (2017), ch. 8:
# airway hyper-responsiveness (Bentur et al. 2009) and complete response (Cavo et al. 2012), before
# and after a therapy.
BENTUR = PairedCounts(1, 1, 7, 12)
CAVO = PairedCounts(59, 6, 16, 80)
Z_95 = stats.norm.ppf(0.975)


def test_published_examples():
    assert compute_difference_interval([CAVO]) == approx(
        (-0.1240, -0.0054),
        abs=5e-5,
    )
    assert compute_difference_interval([BENTUR]) == approx(
        (-0.517, -0.026),
        abs=5e-4,
    )
    assert compute_mcnemar_p(CAVO) == approx(0.052479, abs=5e-7)


@pytest.mark.parametrize(
    "n",
    [
        0,
        1,
        2,
        7,
        20,
        150,
    ],
)
def test_mcnemars_p_equals_that_of_the_binomial_test(n):
    for b in range(0, n + 1, max(1, n // 10)):
        expected = stats.binomtest(b, n).pvalue if n else 1.0
        counts = PairedCounts(
            3,
            b,
            n - b,
            5,
        )
        assert compute_mcnemar_p(counts) == approx(expected, rel=1e-10)


def find_likeliest_variance(counts, difference):
    """Return the variance of the difference at the maximum-likelihood rates, found numerically."""
    n = counts.n
    b = counts.only_first
    c = counts.only_second
    bounds = (
        max(0.0, -difference),
        0.5 * (1 - difference),
    )

    def loss(q):
        rates = np.array(
            [
                q + difference,
                q,
                1 - 2 * q - difference,
            ]
        )
        return -np.dot(
            (
                b,
                c,
                n - b - c,
            ),
            np.log(np.maximum(rates, 1e-300)),
        )

    q = optimize.minimize_scalar(
        loss,
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-12},
    ).x
    return (2 * q + difference - difference**2) / n


@pytest.mark.parametrize(
    "table",
    [
        (1, 1, 7, 12),
        (30, 12, 4, 4),
        (0, 9, 8, 3),
        (40, 3, 1, 6),
    ],
)
def test_the_ends_are_where_a_numerical_score_test_rejects(table):
    counts = PairedCounts(*table)
    for end in compute_difference_interval([counts]):
        deviation = np.sqrt(find_likeliest_variance(counts, end))
        assert abs(counts.difference - end) / deviation == approx(Z_95, rel=1e-4)


def test_the_interval_covers_what_it_says_by_every_table_that_can_come():
    n = 20
    tables = [(b, c, n - b - c) for b in range(n + 1) for c in range(n + 1 - b)]
    ends = [compute_difference_interval([PairedCounts(0, *table)]) for table in tables]
    low, high = np.transpose(ends)
    covered = []
    rates = (0.3, 0.5, 0.8, 0.9)
    for first, second, correlation in product(rates, rates, (0.0, 0.3)):
        deviations = np.sqrt(first * (1 - first) * second * (1 - second))
        both = first * second + correlation * deviations
        if both > min(first, second):
            continue
        neither = 1 - first - second + both
        shares = (
            first - both,
            second - both,
            both + neither,
        )
        chances = stats.multinomial.pmf(tables, n, shares)
        difference = first - second
        covers = (low - 1e-9 <= difference) & (difference <= high + 1e-9)
        covered.append(chances[covers].sum())
    assert len(covered) > 25
    assert min(covered) > 0.935
    assert 0.945 < np.mean(covered) < 0.985


def test_the_interval_of_several_tasks_respects_them():
    easy = PairedCounts(48, 1, 1, 0)
    hard = PairedCounts(5, 20, 5, 20)
    low, high = compute_difference_interval([easy, hard])
    assert compute_macro_difference([easy, hard]) == approx(0.15)
    assert low < 0.15 < high
    # If all tasks are alike, the interval equals the pooled one.
    low, high = compute_difference_interval([PairedCounts(20, 5, 2, 23)] * 4)
    pooled = PairedCounts(80, 20, 8, 92)
    assert compute_difference_interval([pooled]) == approx(
        (low, high),
        abs=1e-12,
    )
    mirrored = [PairedCounts(20, 2, 5, 23)] * 4
    assert compute_difference_interval(mirrored) == approx(
        (-high, -low),
        abs=1e-12,
    )


@pytest.mark.parametrize(
    "n",
    [1, 10, 50],
)
def test_at_the_ends_the_interval_does_not_collapse(n):
    same = PairedCounts(n, 0, 0, 0)
    widest = Z_95**2 / (n + Z_95**2)
    assert compute_difference_interval([same]) == approx((-widest, widest))
    all_only_first = PairedCounts(0, n, 0, 0)
    low, high = compute_difference_interval([all_only_first])
    assert high == 1
    assert low < 1


def test_of_nothing_nothing_is_known():
    nothing = PairedCounts(0, 0, 0, 0)
    assert compute_mcnemar_p(nothing) == 1
    assert isnan(nothing.difference)
    for strata in ([], [nothing], [CAVO, nothing]):
        interval = compute_difference_interval(strata)
        assert all(map(isnan, interval))
    assert isnan(compute_macro_difference([]))
    assert isnan(compute_correlation(PairedCounts(5, 5, 0, 0)))


def test_the_correlation_is_pearsons():
    first = np.repeat(
        [1, 1, 0, 0],
        [59, 6, 16, 80],
    )
    second = np.repeat(
        [1, 0, 1, 0],
        [59, 6, 16, 80],
    )
    assert compute_correlation(CAVO) == approx(np.corrcoef(first, second)[0, 1])


def test_holm_is_the_closed_test_of_bonferroni():
    rng = np.random.default_rng(0)
    subsets = [subset for k in range(1, 6) for subset in combinations(range(5), k)]
    for _ in range(20):
        p = dict(enumerate(rng.random(5) ** 3))
        for i, corrected in correct_by_holm(p).items():
            of_subsets = [len(s) * min(p[j] for j in s) for s in subsets if i in s]
            largest = max(of_subsets)
            assert corrected == approx(min(1, largest))
    assert correct_by_holm({}) == {}


def test_letters_are_shared_exactly_by_what_is_not_told_apart():
    pairs = list(combinations(range(5), 2))
    for chosen in product((False, True), repeat=len(pairs)):
        different = set(compress(pairs, chosen))
        letters = find_letters(5, different)
        assert all(letters)
        for i, j in pairs:
            is_shared = not set(letters[i]).isdisjoint(letters[j])
            assert is_shared == ((i, j) not in different)
        for letter in set("".join(letters)):
            group = {i for i in range(5) if letter in letters[i]}
            for i in set(range(5)) - group:
                with_group = {(min(i, j), max(i, j)) for j in group}
                assert with_group & different, "not largest"


def test_letters_begin_with_the_first():
    different = {
        (0, 2),
        (0, 3),
        (1, 3),
    }
    assert find_letters(4, different) == ["a", "ab", "bc", "c"]
    assert find_letters(1, set()) == ["a"]
