import numpy as np
import pytest

from cknna.jackknife import compute_interval, compute_paired_test
from cknna.null import EpisodeBlocks, Permutations, compute_null
from cknna.score import VARIANTS, compute_score, score, search
from sim.errors import WhiskerError
from tests.cknna_oracle import walks

N_EPISODES = 20


def unrelated(seed, lengths):
    """Return the neighbours in two walks that have nothing in common, and the episode of a row."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(lengths)), lengths)
    a, b = search(walks(rng, lengths, 16), walks(rng, lengths, 8), depth=2)
    return a, b, groups


def noisy_view(rng, hidden, noise):
    projection = np.random.default_rng(5).standard_normal((hidden.shape[1], 12))
    return hidden @ projection + noise * rng.standard_normal((len(hidden), 12))


def permute_episodes(a, b, groups, *, n, k=10, variant="unbiased", **options):
    """Return the null of permuted episodes."""
    permutations = Permutations(n=n, **options)
    return compute_null(
        a,
        b,
        k,
        variant,
        groups,
        permutations,
    )


@pytest.mark.parametrize(
    ("shortest", "longest"),
    [
        (25, 25),
        (15, 35),
    ],
)
def test_unrelated_random_walks_are_not_significant(shortest, longest):
    p_values = []
    for seed in range(20):
        lengths = np.random.default_rng(seed).integers(shortest, longest + 1, N_EPISODES)
        p_values.append(permute_episodes(*unrelated(seed, lengths), n=39).p_value)
    assert np.mean(np.array(p_values) > 0.05) >= 0.8
    assert 0.2 < np.mean(p_values) < 0.8


def test_permuting_rows_calls_unrelated_random_walks_significant():
    a, b, groups = unrelated(0, [50] * N_EPISODES)
    score = compute_score(a, b, 10).cknna
    by_rows = compute_null(
        a,
        b,
        10,
        permutations=Permutations("rows", n=99),
    )
    by_episodes = permute_episodes(
        a,
        b,
        groups,
        n=99,
    )
    assert score > 0.6
    assert by_rows.null_mean < 0.02 and by_rows.p_value == 0.01
    assert by_episodes.null_mean == pytest.approx(score, abs=0.05)
    assert by_episodes.n_rows == 1000


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_noisy_linear_map_is_significant(variant):
    rng = np.random.default_rng(0)
    lengths = rng.integers(30, 71, N_EPISODES)
    hidden = walks(rng, lengths, 8)
    a, b = search(noisy_view(rng, hidden, 3), hidden, depth=2)
    groups = np.repeat(np.arange(N_EPISODES), lengths)
    test = permute_episodes(
        a,
        b,
        groups,
        n=99,
        variant=variant,
    )
    assert test.p_value == 0.01
    assert test.observed > test.null_high > test.null_mean


def test_null_is_the_score_of_permuted_features():
    """Relabelling the neighbours of B gives the score of B's permuted rows after a new search."""
    rng = np.random.default_rng(3)
    lengths = [12] * 6
    features_a = walks(rng, lengths, 5)
    features_b = walks(rng, lengths, 4)
    groups = np.repeat(np.arange(6), lengths)
    a, b = search(features_a, features_b, [4])
    order = EpisodeBlocks(groups, 72).permute(np.random.default_rng(9))
    for variant in VARIANTS:
        relabelled = compute_score(
            a,
            b.reorder(order),
            4,
            variant,
        ).cknna
        (permuted,) = score(
            features_a,
            features_b[order],
            [4],
            variant,
        )
        assert relabelled == pytest.approx(permuted.cknna, abs=1e-12)


def test_blocks_exchange_whole_episodes_of_like_length_within_a_stratum():
    lengths = np.array([10, 9, 8, 7, 10, 10])
    groups = np.repeat(np.arange(6), lengths)
    strata = np.repeat([0, 0, 0, 0, 1, 1], lengths)
    blocks = EpisodeBlocks(groups, len(groups), strata)
    assert [rows.shape for rows in blocks.bins] == [
        (3, 8),
        (1, 7),
        (2, 10),
    ]
    assert blocks.n_arrangements == 12
    kept = np.delete(groups, blocks.dropped)
    order = blocks.permute(np.random.default_rng(1))
    assert sorted(order) == list(range(len(kept)))
    for episode in range(6):
        source = order[kept == episode]
        assert (np.diff(source) == 1).all(), "in the order of time, and in one piece"
        assert len(set(kept[source])) == 1
    assert set(kept[order[kept >= 4]]) == {4, 5}
    assert kept[order[kept == 3]].tolist() == [3] * 7, "alone in its bin"


def test_rows_of_an_episode_need_not_stand_side_by_side():
    groups = np.tile(np.arange(4), 6)
    order = EpisodeBlocks(groups, 24).permute(np.random.default_rng(0))
    assert all(len(set(groups[order[groups == episode]])) == 1 for episode in range(4))
    assert (order // 4 == np.arange(24) // 4).all(), "each row at its time"


def test_nulls_that_cannot_be_are_refused():
    a, b, groups = unrelated(0, [30, 20, 29])
    with pytest.raises(WhiskerError, match="expected groups"):
        compute_null(a, b, 10)
    with pytest.raises(WhiskerError, match="at least 2 episodes"):
        permute_episodes(
            a,
            b,
            np.zeros(79, int),
            n=9,
        )
    with pytest.raises(WhiskerError, match="searched to 20, twice k, got 10"):
        permute_episodes(
            a.first(10),
            b.first(10),
            groups,
            n=9,
        )
    with pytest.raises(WhiskerError, match="one label in each episode"):
        permute_episodes(
            a,
            b,
            groups,
            n=9,
            strata=np.arange(79),
        )
    with pytest.raises(WhiskerError, match="at least 3 episodes"):
        compute_interval(
            a,
            b,
            10,
            np.minimum(groups, 1),
        )


def test_p_value_is_uniform_to_the_seed_and_counts_itself():
    walk = unrelated(1, [20] * 8)
    tests = [
        permute_episodes(
            *walk,
            n=19,
            k=5,
            seed=seed,
        )
        for seed in (0, 0, 1)
    ]
    assert tests[0] == tests[1] != tests[2]
    assert tests[0].p_value >= 1 / 20


def dependent(seed, noise=3.0):
    lengths = [20] * 12
    rng = np.random.default_rng(seed)
    hidden = walks(rng, lengths, 6)
    a, b = search(
        noisy_view(rng, hidden, noise),
        hidden,
        [5],
        depth=2,
    )
    other, _ = search(
        noisy_view(rng, hidden, 3.0),
        hidden,
        [5],
        depth=2,
    )
    return a, other, b, np.repeat(np.arange(12), lengths)


@pytest.mark.slow
def test_interval_covers_the_mean_score_and_the_paired_test_holds_its_level():
    intervals = []
    p_values = []
    for seed in range(100):
        a, other, b, groups = dependent(seed)
        intervals.append(
            compute_interval(
                a,
                b,
                5,
                groups,
            )
        )
        p_values.append(
            compute_paired_test(
                a,
                other,
                b,
                5,
                groups,
            ).p_value
        )
    values = [interval.value for interval in intervals]
    mean = np.mean(values)
    assert np.mean([interval.low <= mean <= interval.high for interval in intervals]) >= 0.88
    assert np.mean(np.array(p_values) <= 0.05) <= 0.12
    # The intervals are not wide for nothing either.
    assert np.mean([interval.standard_error for interval in intervals]) < 2 * np.std(values)


def test_a_clearer_view_wins_the_paired_test():
    a, other, b, groups = dependent(0, noise=1.0)
    test = compute_paired_test(
        a,
        other,
        b,
        5,
        groups,
    )
    assert test.difference.low > 0
    assert test.p_value < 0.01
    assert (
        compute_paired_test(
            a,
            a,
            b,
            5,
            groups,
        ).p_value
        == 1
    )


@pytest.mark.parametrize(
    "n_groups",
    [5, 3],
)
def test_jackknife_deletes_and_scores_the_rest(n_groups, monkeypatch):
    """The jackknife deletes one episode at a time.

    If there are too many episodes, it deletes groups of them, here a third at a time.
    """
    monkeypatch.setattr("cknna.jackknife.MAX_DELETIONS", n_groups)
    rng = np.random.default_rng(0)
    hidden = walks(rng, [15] * 5, 4)
    view = noisy_view(rng, hidden, 2.0)
    groups = np.repeat(np.arange(5), 15)
    interval = compute_interval(
        *search(
            view,
            hidden,
            [4],
            depth=10,
        ),
        4,
        groups,
    )
    left_out = []
    for group in range(n_groups):
        rest = groups % n_groups != group
        left_out.append(score(view[rest], hidden[rest], [4])[0].cknna)
    variance = (n_groups - 1) * np.var(left_out)
    assert (interval.n_episodes, interval.n_deletions, interval.n_short) == (5, n_groups, 0)
    assert interval.standard_error == pytest.approx(np.sqrt(variance))
