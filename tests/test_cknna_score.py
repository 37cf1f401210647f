import numpy as np
import pytest
from numpy.random import default_rng
from pytest import approx

from cknna.features import NormalizedFeatures
from cknna.jackknife import compute_interval, compute_paired_test
from cknna.null import Permutations, compute_null
from cknna.score import VARIANTS, compute_cka, compute_score, score, search
from sim.errors import UnknownNameError, WhiskerError
from tests import cknna_oracle as oracle


def pair(n, dim_a, dim_b, kind="plain", seed=0):
    """Return two views of the same hidden rows; the kind "ties" has many equal rows."""
    rng = default_rng([seed, n])
    hidden = rng.standard_normal((n, dim_b))
    a = hidden @ rng.standard_normal((dim_b, dim_a)) + 0.5 * rng.standard_normal((n, dim_a))
    return (np.round(a) + 0.25, np.round(hidden) + 0.25) if kind == "ties" else (a, hidden)


def score_one(a, b, k, variant="unbiased", **options):
    (row,) = score(a, b, [k], variant, **options)
    return row


@pytest.mark.parametrize(
    "kind",
    ["plain", "ties"],
)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("shape", "ks"),
    [
        ((4, 3, 2), [2, 3]),
        ((30, 5, 3), [2, 29]),
        ((160, 40, 7), [3, 10, 60]),
    ],
)
def test_score_is_the_formula_with_matrices(shape, ks, variant, kind):
    a, b = pair(*shape, kind)
    n = len(a)
    for row in score(a, b, ks, variant):
        expected = oracle.cknna(a, b, row.k, variant)
        assert row.cknna == approx(expected, rel=1e-9, nan_ok=True)
        assert row.mutual_knn == approx(
            oracle.mutual_knn(a, b, row.k),
            abs=1e-12,
        )
        assert row.mutual_knn_chance == approx(row.k / (n - 1))
        assert row.n == n
        assert row.variant == variant


def rollouts(n_episodes=12):
    """Return features, state and episode of rollouts, as seen by a noisy camera.

    The episodes begin in the same pose and stand still at times.
    """
    rng = default_rng(0)
    steps = rng.standard_normal((n_episodes, 12, 3)) + rng.standard_normal((n_episodes, 1, 3))
    steps = np.round(steps)
    steps[:, 0] = 0
    steps[rng.random((n_episodes, 12)) < 0.3] = 0
    state = np.cumsum(steps, axis=1).reshape(-1, 3) + np.array([5.0, -3, 4])
    features = state @ rng.standard_normal((3, 16)) + 0.5 * rng.standard_normal((len(state), 16))
    return (
        features,
        state,
        np.repeat(
            np.arange(n_episodes),
            12,
        ),
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "both",
    [False, True],
)
def test_score_with_ties_is_the_mean_of_the_formula_over_random_choices(variant, both):
    features, state, _ = rollouts(n_episodes=6)
    if both:
        features = np.round(features / 4)
    row = score_one(features, state, 5, variant)
    assert row.n_tied_b >= 10
    assert (row.n_tied_a > 0) == both
    rng = default_rng(1)
    drawn = [
        oracle.cknna(
            features,
            state,
            5,
            variant,
            rng=rng,
        )
        for _ in range(120)
    ]
    assert np.std(drawn) > 1e-3, "the choice matters"
    # The tolerance is four standard errors, plus the variances of S within a row. These are of
    # O(1/n²), and the expected masks leave them out.
    tolerance = 4 * np.std(drawn) / np.sqrt(120) + 1 / 72**2
    assert row.cknna == approx(np.mean(drawn), abs=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_shuffling_the_rows_changes_nothing(variant):
    columns = rollouts()
    expected = summarise(*columns, variant)
    for seed in range(3):
        order = interleave(
            default_rng(seed),
            columns[-1],
        )
        shuffled = summarise(
            *(column[order] for column in columns),
            variant,
        )
        assert shuffled == approx(expected, abs=1e-12)


def interleave(rng, episode):
    """Return a random order of the rows that keeps each episode in the order of time.

    The null pairs rows by that order.
    """
    order = np.empty(len(episode), int)
    drawn = rng.permutation(episode)
    order[np.argsort(drawn, kind="stable")] = np.argsort(episode, kind="stable")
    return order


def summarise(features, state, episode, variant):
    a, b = search(
        features,
        state,
        [4],
        episode,
        depth=2,
    )
    other, _ = search(
        features[:, :4],
        state,
        [4],
        episode,
        depth=2,
    )
    found = compute_score(a, b, 4, variant)
    assert found.n_tied_b > 20
    null = compute_null(
        a,
        b,
        4,
        variant,
        episode,
        Permutations(n=19),
    )
    interval = compute_interval(
        a,
        b,
        4,
        episode,
        variant,
    )
    difference = compute_paired_test(a, other, b, 4, episode).difference
    numbers_of_null = [null.observed, null.null_mean, null.null_high, null.p_value]
    spread = [
        number for each in (interval, difference) for number in (each.value, each.low, each.high)
    ]
    return [
        found.cknna,
        found.mutual_knn,
        *numbers_of_null,
        *spread,
    ]


def test_features_of_few_values_that_have_nothing_to_do_with_each_other_agree_by_chance():
    """Unrelated features with few values agree as often as chance predicts.

    There are ten rows for each pair of values. A choice by row number, common to both sides, would
    make a quarter agree.
    """
    value_a, value_b = np.divmod(np.arange(160) // 10, 4)
    row = score_one(
        np.eye(4)[value_a],
        np.eye(4)[value_b],
        10,
    )
    assert (row.n_tied_a, row.n_tied_b) == (160, 160)
    assert row.mutual_knn == approx(9 * (10 / 39) ** 2 / 10)
    assert row.mutual_knn == approx(row.mutual_knn_chance, rel=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_score_without_the_own_episode_is_the_formula_too(variant):
    a, b = pair(60, 12, 5)
    lengths = [4, 8, 12, 12, 12, 12]
    groups = np.repeat(np.arange(6), lengths)
    row = score_one(
        a,
        b,
        6,
        variant,
        groups=groups,
        exclude_same_group=True,
    )
    assert row.cknna == approx(
        oracle.cknna(a, b, 6, variant, groups),
        rel=1e-9,
    )
    assert row.mutual_knn == approx(
        oracle.mutual_knn(a, b, 6, groups),
        abs=1e-12,
    )
    n_candidates = 60 - np.repeat(lengths, lengths)
    assert row.mutual_knn_chance == approx(np.mean(6 / n_candidates))


def test_unbiased_score_above_one_is_the_formula_and_no_mistake():
    """The seed is the first one with such a score."""
    a, b = pair(8, 3, 2, seed=118)
    found = score_one(a, b, 6).cknna
    assert found > 1.0001
    assert found == approx(oracle.cknna(a, b, 6), rel=1e-9)
    assert abs(score_one(a, b, 6, "row-centred").cknna) <= 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_variants_are_one_for_the_same_features(variant):
    a, _ = pair(100, 20, 5)
    assert score_one(a, 3 * a, 10, variant).cknna == approx(1, abs=1e-4)


def test_constant_of_the_authors_code_is_in_the_unbiased_score():
    """The unbiased score contains the constant of the authors' code.

    S(m_K, m_K) is near k / n = 0.005 here, so the constant of 1e-6 is visible.
    """
    a, _ = pair(2000, 20, 5)
    assert 1e-5 < 1 - score_one(a, a, 10).cknna < 1e-2


def test_one_search_serves_every_k():
    both = pair(120, 16, 6, "ties")
    a, b = search(*both, topk=[5, 20], depth=2)
    assert (a.k, b.k) == (40, 40)
    assert [compute_score(a, b, k) for k in (5, 20)] == score(*both, [5, 20])


def test_unknown_variants_and_mixed_rows_are_refused():
    a, b = search(*pair(30, 4, 3), topk=[5])
    with pytest.raises(
        UnknownNameError,
        match="Did you mean 'unbiased'",
    ):
        compute_score(a, b, 5, "unbaised")
    with pytest.raises(WhiskerError, match="k >= 2"):
        compute_score(a, b, 1)
    with pytest.raises(
        WhiskerError,
        match="expected 30 rows in both, got 29",
    ):
        compute_score(
            a,
            b.delete(np.array([3]), 5),
            5,
        )


@pytest.mark.parametrize(
    "unbiased",
    [True, False],
)
@pytest.mark.parametrize(
    "offset",
    [0, 30],
)
def test_cka_is_the_formula_with_matrices(unbiased, offset):
    a, b = pair(80, 12, 5)
    a = a + offset
    rows = NormalizedFeatures(a), NormalizedFeatures(b)
    found = compute_cka(*rows, unbiased=unbiased)
    assert found == approx(
        oracle.cka(a, b, unbiased),
        abs=1e-6,
    )
    assert found == approx(
        compute_cka(
            *rows[::-1],
            unbiased=unbiased,
        )
    )


def test_undefined_is_nan():
    """The score is NaN if all rows are equally far from each other.

    Every masked kernel is zero in that case.
    """
    walk = oracle.walks(default_rng(0), [6], 3)
    row = score_one(np.eye(6), walk, 3)
    assert np.isnan(row.cknna)
    assert row.n_tied_a == 6
    assert np.isfinite(score_one(np.eye(6), walk, 3, "row-centred").cknna)
