import numpy as np
import pytest
from scipy.spatial import KDTree

from cknna import features as features_module
from cknna.features import NormalizedFeatures, check_groups, check_topk, make_pair
from cknna.neighbors import ABSENT, find_neighbors
from sim.errors import WhiskerError
from tests import cknna_oracle as oracle


def random_features(n, dim, kind, seed=0):
    """Return n random rows of the given kind.

    Args:
        kind: "plain" has no ties, and "grid" has many equal rows. "narrow" has cosines above 0.999,
            whose order float32 alone loses. "parallel" has cosines above 1 - 1e-7, whose order is
            already lost when unit rows are rounded to float32.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim))
    if kind == "grid":
        return np.round(x) + 0.5
    spread = {
        "plain": None,
        "narrow": 1e-2,
        "parallel": 1e-4,
    }[kind]
    return spread * x + rng.standard_normal(dim) if spread else x


def nearest(features, k, groups=None):
    kernel = oracle.kernel(features)
    return [
        sorted(
            (j for j in range(len(row)) if j != i and (groups is None or groups[i] != groups[j])),
            key=lambda j, row=row: (-row[j], j),
        )[:k]
        for i, row in enumerate(kernel)
    ]


def membership(found):
    """Return the n x n matrix w of `cknna.neighbors`, built from the lists."""
    dense = np.zeros((found.n, found.n))
    row, place = np.nonzero(found.index != ABSENT)
    dense[row, found.index[row, place]] = found.weigh(row, found.similarity[row, place])
    dense[found.tied_row, found.tied_index] = found.weigh(
        found.tied_row, found.threshold[found.tied_row]
    )
    return dense


def is_same(found, searched):
    same = [np.array_equal(membership(found), membership(searched))]
    for name in ("similarity", "threshold", "n_candidates", "tied_share"):
        same.append(np.array_equal(getattr(found, name), getattr(searched, name)))
    return all(same) and found.n_tied == searched.n_tied


@pytest.mark.parametrize(
    "kind",
    ["plain", "grid", "narrow", "parallel"],
)
@pytest.mark.parametrize(
    ("n", "dim", "k"),
    [
        (4, 2, 3),
        (40, 3, 5),
        (150, 16, 10),
        (90, 130, 89),
    ],
)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_search_finds_what_sorting_all_cosines_finds(n, dim, k, kind, device):
    features = random_features(n, dim, kind)
    found = find_neighbors(NormalizedFeatures(features), k, device=device)
    assert np.array_equal(found.index, nearest(features, k))
    kernel = oracle.kernel(features)
    assert np.array_equal(
        found.similarity,
        np.take_along_axis(kernel, found.index, axis=1),
    )
    assert found.row_mean == pytest.approx(kernel.mean(1), abs=1e-14)


@pytest.mark.parametrize(
    "dtype",
    [np.float32, np.float64],
)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_rows_that_are_parallel_to_float32_lose_no_neighbour(dtype, device):
    """The search finds every neighbour of rows that are parallel in float32.

    With d_i = a_i - mean, a_i·a_j ranks as d_i·d_j + mean·d_i + mean·d_j. This sum loses no digits
    to the mean.
    """
    features = random_features(400, 40, "parallel").astype(dtype)
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(
        unit,
        axis=1,
        keepdims=True,
    )
    mean = unit.mean(0)
    offset = (unit - mean) @ mean
    ranks = (unit - mean) @ (unit - mean).T + offset[:, None] + offset
    rounded = unit.astype(np.float32).astype(np.float64)
    wanted, by_rounded = (
        np.argsort(-np.where(np.eye(400), -np.inf, each))[:, :10]
        for each in (ranks, rounded @ rounded.T)
    )
    assert count_lost(wanted, by_rounded) > 1000, "a quarter of all"
    assert (
        count_lost(
            wanted,
            find_neighbors(NormalizedFeatures(features), 10, device=device).index,
        )
        == 0
    )


def count_lost(wanted, found):
    return sum(len(set(w) - set(f)) for w, f in zip(wanted.tolist(), found.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["plain", "parallel"])
def test_columns_that_stand_side_by_side_in_memory_change_no_bit(kind):
    features = random_features(120, 30, kind)
    by_rows, by_columns = (
        find_neighbors(
            NormalizedFeatures(np.array(features, order=order)),
            7,
        )
        for order in "CF"
    )
    assert is_same(by_rows, by_columns)


@pytest.mark.parametrize(
    "kind",
    ["plain", "grid", "narrow", "parallel"],
)
def test_result_depends_on_no_block_size_no_thread_and_no_place_in_memory(
    kind, monkeypatch, tmp_path
):
    features = random_features(300, 24, kind).astype(np.float32)
    whole = find_neighbors(NormalizedFeatures(features), 12)
    np.save(tmp_path / "bank.npy", features)
    monkeypatch.setattr(features_module, "KEPT_BYTES", 0)
    monkeypatch.setattr("cknna.centered_factors.KEPT_BYTES", 0)
    monkeypatch.setattr(features_module, "BLOCK_BYTES", 1000)
    for tile, remembered, n_threads in (
        (31, 32, 1),
        (31, 32, 4),
        (100, 32, 3),
        (299, 32, 2),
        (31, 0, 2),
    ):
        monkeypatch.setattr("cknna.candidates.MAX_REMEMBERED", remembered)
        monkeypatch.setattr("cknna.candidates.N_THREADS", n_threads)
        streamed = find_neighbors(
            NormalizedFeatures(np.load(tmp_path / "bank.npy", mmap_mode="r")), 12, tile=tile
        )
        assert np.array_equal(streamed.index, whole.index)
        assert np.array_equal(streamed.similarity, whole.similarity)
        assert is_same(streamed, whole)


def test_search_finds_what_a_tree_finds_among_more_rows_than_a_short_integer_squares():
    """The search is right for more than 46,340 rows, where the number of a pair exceeds 32 bits."""
    features = random_features(47_000, 3, "plain")
    found = find_neighbors(NormalizedFeatures(features), 4)
    rows = NormalizedFeatures(features).take_exact(slice(None))
    distance, index = KDTree(rows).query(rows[::97], 5)
    assert np.array_equal(found.index[::97], index[:, 1:])
    # Unit rows satisfy |a - b|² = 2 - 2 a·b.
    assert 2 - 2 * found.similarity[::97] == pytest.approx(distance[:, 1:] ** 2, abs=1e-14)


def test_neighbours_of_the_same_episode_can_be_left_out():
    features = random_features(60, 4, "grid")
    groups = np.repeat(np.arange(6), [5, 10, 10, 10, 10, 15])
    for device in ("numpy", "cpu"):
        found = find_neighbors(
            NormalizedFeatures(features), 7, groups, exclude_same_group=True, device=device
        )
        assert np.array_equal(found.index, nearest(features, 7, groups))
    assert found.n_candidates.tolist() == (60 - np.bincount(groups)[groups]).tolist()
    everyone_else = find_neighbors(
        NormalizedFeatures(features), 45, groups, exclude_same_group=True
    )
    assert (membership(everyone_else)[groups == 5] == (groups != 5)).all()
    with pytest.raises(WhiskerError, match="1 <= k <= 45"):
        find_neighbors(NormalizedFeatures(features), 46, groups, exclude_same_group=True)


def test_ties_at_the_last_place_share_it():
    corners = np.repeat(np.eye(3), 4, axis=0)
    found = find_neighbors(NormalizedFeatures(corners), 3)
    assert found.n_tied == 0, "each has three copies of itself"
    assert found.index[7].tolist() == [4, 5, 6]
    assert found.first(2).n_tied == 12
    assert membership(found.first(2))[0].tolist() == [0, 2 / 3, 2 / 3, 2 / 3] + [0] * 8
    beyond = membership(find_neighbors(NormalizedFeatures(corners), 5))
    assert beyond[0] == pytest.approx([0, 1, 1, 1] + [2 / 8] * 8), (
        "two places for the eight at right angles"
    )


@pytest.mark.parametrize("kind", ["plain", "grid"])
@pytest.mark.parametrize(
    "k",
    [2, 9, 30],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_membership_is_the_expectation_over_draws_and_sums_to_k(kind, k, grouped):
    features = random_features(80, 3, kind)
    groups = np.arange(80) % 8 if grouped else None
    found = find_neighbors(
        NormalizedFeatures(features),
        k,
        groups,
        exclude_same_group=grouped,
    )
    assert membership(found) == pytest.approx(
        oracle.mask(oracle.kernel(features), k, groups), abs=1e-12
    )
    assert membership(found).sum(1) == pytest.approx(k)
    assert (found.n_tied > 20) == (kind == "grid")


@pytest.mark.parametrize(
    "kind",
    ["plain", "grid", "narrow", "parallel"],
)
def test_shuffled_rows_have_the_same_neighbours(kind):
    features = random_features(200, 3, kind)
    found = find_neighbors(NormalizedFeatures(features), 6)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(200)
        for device, tile in (("numpy", 37), ("cpu", None)):
            shuffled = find_neighbors(
                NormalizedFeatures(features[order]), 6, tile=tile, device=device
            )
            assert is_same(found.reorder(order), shuffled)


def test_features_of_so_few_values_that_all_tie_are_refused_where_the_ties_do_not_fit(monkeypatch):
    rows = NormalizedFeatures(np.repeat(np.eye(3), 100, axis=0))
    assert len(find_neighbors(rows, 5).tied_row) == 300 * (99 - 5)
    monkeypatch.setattr("cknna.neighbors.MAX_TIED", 10_000)
    with pytest.raises(
        WhiskerError, match=r"at most 10,000 pairs of rows that tie .* few distinct values"
    ):
        find_neighbors(rows, 5)


@pytest.mark.parametrize("kind", ["plain", "grid"])
def test_smaller_k_is_the_beginning_of_a_larger(kind):
    rows = NormalizedFeatures(random_features(80, 3, kind))
    large = find_neighbors(rows, 30)
    for k in (2, 9, 30):
        assert is_same(large.first(k), find_neighbors(rows, k))
        assert is_same(
            large.first(30).first(k),
            large.first(max(k, 12)).first(k),
        )
    with pytest.raises(WhiskerError, match="at most the 30 searched for"):
        large.first(31)


def test_membership_seen_from_the_other_row_is_the_transposed():
    found = find_neighbors(
        NormalizedFeatures(random_features(50, 3, "grid")),
        6,
    )
    dense = membership(found)
    for i in range(50):
        there = np.flatnonzero(dense[i])
        cosine = oracle.kernel(random_features(50, 3, "grid"))[i, there]
        assert np.array_equal(found.weigh(there, cosine), dense[there, i])


@pytest.mark.parametrize("kind", ["plain", "grid"])
def test_reordering_is_a_search_among_reordered_rows(kind):
    features = random_features(70, 3, kind)
    order = np.random.default_rng(1).permutation(70)
    reordered = find_neighbors(NormalizedFeatures(features), 8).reorder(order)
    searched = find_neighbors(NormalizedFeatures(features[order]), 8)
    assert is_same(reordered, searched)
    assert reordered.row_mean == pytest.approx(searched.row_mean)


@pytest.mark.parametrize("kind", ["plain", "grid"])
def test_deleting_is_a_search_among_the_rest(kind):
    for seed in range(10):
        features = random_features(90, 3, kind, seed)
        deleted = np.array([0, 7, 8, 30, 89])
        rest = find_neighbors(NormalizedFeatures(features), 16).delete(deleted, 8)
        assert rest.n_absent == 0
        assert is_same(
            rest,
            find_neighbors(
                NormalizedFeatures(np.delete(features, deleted, axis=0)),
                8,
            ),
        )


def test_deleting_those_in_the_list_leaves_their_places_to_those_who_tied():
    corners = np.repeat(np.eye(3), 8, axis=0)
    rest = find_neighbors(NormalizedFeatures(corners), 4).delete(np.arange(1, 5), 4)
    assert rest.n_absent == 4, (
        "each of the four left has three copies, and nobody searched beyond the copies"
    )
    assert membership(rest)[0, :4].tolist() == [0, 1, 1, 1]
    rest = find_neighbors(NormalizedFeatures(corners), 4).delete(np.arange(1, 3), 4)
    assert is_same(
        rest,
        find_neighbors(
            NormalizedFeatures(np.delete(corners, [1, 2], axis=0)),
            4,
        ),
    )


def test_a_list_that_is_too_short_for_a_deletion_says_so():
    clusters = np.repeat(np.eye(10), 10, axis=0) + 0.1 * random_features(100, 10, "plain")
    rest = find_neighbors(NormalizedFeatures(clusters), 12).delete(np.arange(1, 10), 6)
    assert (rest.index[0] != ABSENT).sum() == 3, "nine of its twelve are gone"
    assert rest.n_absent == 3


def test_rows_have_unit_length_whatever_the_dtype():
    integers = np.array([[3, 4], [0, 2], [-1, 0], [5, 12]])
    rows = NormalizedFeatures(integers)
    assert rows.take(slice(4)).dtype == np.float32
    assert rows.take(slice(4)) == pytest.approx(
        np.array([[0.6, 0.8], [0, 1], [-1, 0], [5 / 13, 12 / 13]])
    )
    assert rows.mean == pytest.approx(
        rows.take_exact(slice(4)).mean(0),
        abs=1e-15,
    )
    assert np.array_equal(
        rows.take(slice(4)),
        rows.take_exact(slice(4)).astype(np.float32),
    )
    assert np.array_equal(
        NormalizedFeatures(1e-30 * integers).take(np.array([2, 0])), rows.take(np.array([2, 0]))
    )


def changed(row, value):
    features = random_features(20, 3, "plain")
    features[row] = value
    return features


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones(5), r"expected a matrix \(n, dim\), got shape \(5,\)"),
        (np.ones((5, 2, 2)), r"shape \(5, 2, 2\)"),
        (np.ones((5, 0)), r"shape \(5, 0\)"),
        (np.array([["a"]] * 5), "expected real numbers"),
        (np.eye(3), "at least 4 rows, got 3"),
        (np.empty((0, 8)), "at least 4 rows, got 0"),
        (changed(3, np.nan), "expected finite numbers, got NaN, infinity or an overflow in row 3"),
        (changed([4, 11], -np.inf), "in rows 4, 11"),
        (changed(slice(2, 18), 0), r"only zeros in rows 2, 3, 4, 5, 6 and 11 more"),
        (np.ones((9, 3)), "the same direction in all 9 rows"),
        (np.arange(1.0, 10.0)[:, None] * np.ones(3), "the same direction in all 9 rows"),
    ],
)
def test_features_without_a_meaning_are_refused(features, message):
    with pytest.raises(WhiskerError, match=message):
        NormalizedFeatures(features, "features_a")


def test_pairs_topk_and_groups_are_checked():
    with pytest.raises(WhiskerError, match=r"as many rows in both .* got 20 and 19"):
        make_pair(
            random_features(20, 3, "plain"),
            random_features(19, 5, "plain"),
        )
    for k in (1, 20, -3):
        with pytest.raises(WhiskerError, match="2 <= k < n = 20"):
            check_topk([5, k], 20)
    with pytest.raises(WhiskerError, match="at least one k"):
        check_topk([], 20)
    with pytest.raises(WhiskerError, match="one label for each of the 20 rows"):
        check_groups(np.zeros(3), 20)
    with pytest.raises(WhiskerError, match="Pass the episode of each row"):
        find_neighbors(
            NormalizedFeatures(random_features(20, 3, "plain")), 3, exclude_same_group=True
        )
