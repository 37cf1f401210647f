"""Tests of paired counts.

They compare with scipy, with published examples, and with an enumeration of all possible tables.
"""

from itertools import combinations, product
from math import isnan

import numpy as np
import pytest
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


def test_published_examples():
    assert compute_difference_interval([CAVO]) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert compute_difference_interval([BENTUR]) == pytest.approx((-0.517, -0.026), abs=5e-4)
    assert compute_mcnemar_p(CAVO) == pytest.approx(0.052479, abs=5e-7)


@pytest.mark.parametrize(
    "n",
    [0, 1, 2, 7, 20, 150],
)
def test_mcnemars_p_equals_that_of_the_binomial_test(n):
    for b in range(0, n + 1, max(1, n // 10)):
        expected = stats.binomtest(b, n).pvalue if n else 1.0
        assert compute_mcnemar_p(
            PairedCounts(
                3,
                b,
                n - b,
                5,
            )
        ) == pytest.approx(expected, rel=1e-10)


def find_likeliest_variance(counts, difference):
    """Return the variance of the difference at the maximum-likelihood rates, found numerically."""
    n = counts.n
    b = counts.only_first
    c = counts.only_second
    low = max(0.0, -difference)
    high = 0.5 * (1 - difference)

    def loss(q):
        parts = ((b, q + difference), (c, q), (n - b - c, 1 - 2 * q - difference))
        return -sum(k * np.log(max(p, 1e-300)) for k, p in parts if k)

    q = optimize.minimize_scalar(
        loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
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
        z = (counts.difference - end) / np.sqrt(find_likeliest_variance(counts, end))
        assert abs(z) == pytest.approx(stats.norm.ppf(0.975), rel=1e-4)


def test_the_interval_covers_what_it_says_by_every_table_that_can_come():
    n = 20
    covered = []
    tables = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    low, high = np.array(
        [
            compute_difference_interval(
                [
                    PairedCounts(
                        0,
                        b,
                        c,
                        n - b - c,
                    )
                ]
            )
            for b, c in tables
        ]
    ).T
    counts = np.array([(b, c, n - b - c) for b, c in tables])
    for first, second, correlation in product(
        (0.3, 0.5, 0.8, 0.9), (0.3, 0.5, 0.8, 0.9), (0.0, 0.3)
    ):
        both = first * second + correlation * np.sqrt(first * (1 - first) * second * (1 - second))
        if both <= min(first, second):
            shares = first - both, second - both, 1 - first - second + 2 * both
            chances = stats.multinomial.pmf(counts, n, shares)
            difference = first - second
            covered.append(chances[(low - 1e-9 <= difference) & (difference <= high + 1e-9)].sum())
    assert len(covered) > 25 and min(covered) > 0.935 and 0.945 < np.mean(covered) < 0.985


def test_the_interval_of_several_tasks_respects_them():
    easy = PairedCounts(48, 1, 1, 0)
    hard = PairedCounts(5, 20, 5, 20)
    low, high = compute_difference_interval([easy, hard])
    assert compute_macro_difference([easy, hard]) == pytest.approx(0.15) and low < 0.15 < high
    # If all tasks are alike, the interval equals the pooled one.
    alike = [PairedCounts(20, 5, 2, 23)] * 4
    pooled = PairedCounts(80, 20, 8, 92)
    assert compute_difference_interval(alike) == pytest.approx(
        compute_difference_interval([pooled]), abs=1e-12
    )
    mirrored = [
        PairedCounts(
            counts.both,
            counts.only_second,
            counts.only_first,
            counts.neither,
        )
        for counts in alike
    ]
    low, high = compute_difference_interval(alike)
    assert compute_difference_interval(mirrored) == pytest.approx((-high, -low), abs=1e-12)


@pytest.mark.parametrize(
    "n",
    [1, 10, 50],
)
def test_at_the_ends_the_interval_does_not_collapse(n):
    same = PairedCounts(n, 0, 0, 0)
    all_only_first = PairedCounts(0, n, 0, 0)
    low, high = compute_difference_interval([same])
    z = stats.norm.ppf(0.975)
    assert high == pytest.approx(-low) and high == pytest.approx(z**2 / (n + z**2))
    low, high = compute_difference_interval([all_only_first])
    assert high == 1 and low < 1


def test_of_nothing_nothing_is_known():
    nothing = PairedCounts(0, 0, 0, 0)
    assert compute_mcnemar_p(nothing) == 1 and isnan(nothing.difference)
    for strata in ([], [nothing], [CAVO, nothing]):
        assert all(isnan(end) for end in compute_difference_interval(strata))
    assert isnan(compute_macro_difference([])) and isnan(
        compute_correlation(PairedCounts(5, 5, 0, 0))
    )


def test_the_correlation_is_pearsons():
    first = [1] * 65 + [0] * 96
    second = [1] * 59 + [0] * 6 + [1] * 16 + [0] * 80
    assert compute_correlation(CAVO) == pytest.approx(np.corrcoef(first, second)[0, 1])


def test_holm_is_the_closed_test_of_bonferroni():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = dict(enumerate(rng.random(5) ** 3))
        corrected = correct_by_holm(p)
        for i in p:
            subsets = [s for k in range(1, 6) for s in combinations(p, k) if i in s]
            assert corrected[i] == pytest.approx(
                max(min(1, len(s) * min(p[j] for j in s)) for s in subsets)
            )
    assert correct_by_holm({}) == {}


def test_letters_are_shared_exactly_by_what_is_not_told_apart():
    pairs = list(combinations(range(5), 2))
    for chosen in product((False, True), repeat=len(pairs)):
        different = {pair for pair, is_chosen in zip(pairs, chosen, strict=True) if is_chosen}
        letters = find_letters(5, different)
        assert all(letters)
        for i, j in pairs:
            assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in different)
        for letter in set("".join(letters)):
            group = {i for i in range(5) if letter in letters[i]}
            outside = set(range(5)) - group
            assert not any(
                all((min(i, j), max(i, j)) not in different for j in group) for i in outside
            ), "not largest"


def test_letters_begin_with_the_first():
    assert find_letters(
        4,
        {
            (0, 2),
            (0, 3),
            (1, 3),
        },
    ) == ["a", "ab", "bc", "c"]
    assert find_letters(1, set()) == ["a"]
