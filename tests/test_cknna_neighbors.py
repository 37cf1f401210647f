import numpy as np
import pytest
from scipy.spatial import KDTree

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
    spread = {"plain": None, "narrow": 1e-2, "parallel": 1e-4}[kind]
    return spread * x + rng.standard_normal(dim) if spread else x


def search(features, k, groups=None, **options):
    return find_neighbors(
        NormalizedFeatures(features),
        k,
        groups,
        **options,
    )


def nearest(features, k, groups=None):
    """Return the k nearest rows of each row, which is not its own neighbour."""
    kernel = oracle.kernel(features)
    groups = np.arange(len(kernel)) if groups is None else groups
    kernel[groups[:, None] == groups] = -np.inf
    return np.argsort(
        -kernel,
        axis=1,
        stable=True,
    )[:, :k]


def membership(found):
    """Return the n x n matrix w of `cknna.neighbors`, built from the lists."""
    dense = np.zeros((found.n, found.n))
    row, place = np.nonzero(found.index != ABSENT)
    dense[row, found.index[row, place]] = found.weigh(row, found.similarity[row, place])
    dense[found.tied_row, found.tied_index] = found.weigh(
        found.tied_row, found.threshold[found.tied_row]
    )
    return dense


def assert_same(found, other):
    assert np.array_equal(membership(found), membership(other))
    for name in ("similarity", "threshold", "n_candidates", "tied_share", "n_tied"):
        assert np.array_equal(getattr(found, name), getattr(other, name))


each_kind = pytest.mark.parametrize(
    "kind",
    ["plain", "grid", "narrow", "parallel"],
)
with_and_without_ties = pytest.mark.parametrize(
    "kind",
    ["plain", "grid"],
)
each_device = pytest.mark.parametrize(
    "device",
    ["numpy", "cpu"],
)


@each_kind
@pytest.mark.parametrize(
    ("n", "dim", "k"),
    [
        (4, 2, 3),
        (40, 3, 5),
        (150, 16, 10),
        (90, 130, 89),
    ],
)
@each_device
def test_search_finds_what_sorting_all_cosines_finds(n, dim, k, kind, device):
    features = random_features(n, dim, kind)
    found = search(features, k, device=device)
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
@each_device
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
    wanted = first_ten((unit - mean) @ (unit - mean).T + offset[:, None] + offset)
    rounded = unit.astype(np.float32).astype(np.float64)
    assert count_lost(wanted, first_ten(rounded @ rounded.T)) > 1000, "a quarter of all"
    assert (
        count_lost(
            wanted,
            search(features, 10, device=device).index,
        )
        == 0
    )


def first_ten(ranks):
    np.fill_diagonal(ranks, -np.inf)
    return np.argsort(-ranks)[:, :10]


def count_lost(wanted, found):
    return sum(len(np.setdiff1d(w, f)) for w, f in zip(wanted, found, strict=True))


@pytest.mark.parametrize(
    "kind",
    ["plain", "parallel"],
)
def test_columns_that_stand_side_by_side_in_memory_change_no_bit(kind):
    features = random_features(120, 30, kind)
    assert_same(
        search(features, 7),
        search(np.asfortranarray(features), 7),
    )


@each_kind
def test_result_depends_on_no_block_size_no_thread_and_no_place_in_memory(
    kind, monkeypatch, tmp_path
):
    features = random_features(300, 24, kind).astype(np.float32)
    whole = search(features, 12)
    np.save(tmp_path / "bank.npy", features)
    monkeypatch.setattr("cknna.features.KEPT_BYTES", 0)
    monkeypatch.setattr("cknna.centered_factors.KEPT_BYTES", 0)
    monkeypatch.setattr("cknna.features.BLOCK_BYTES", 1000)
    for tile, remembered, n_threads in (
        (31, 32, 1),
        (31, 32, 4),
        (100, 32, 3),
        (299, 32, 2),
        (31, 0, 2),
    ):
        monkeypatch.setattr("cknna.candidates.MAX_REMEMBERED", remembered)
        monkeypatch.setattr("cknna.candidates.N_THREADS", n_threads)
        streamed = search(
            np.load(tmp_path / "bank.npy", mmap_mode="r"),
            12,
            tile=tile,
        )
        assert np.array_equal(streamed.index, whole.index)
        assert_same(streamed, whole)


def test_search_finds_what_a_tree_finds_among_more_rows_than_a_short_integer_squares():
    """The search is right for more than 46,340 rows, where the number of a pair exceeds 32 bits."""
    rows = NormalizedFeatures(random_features(47_000, 3, "plain"))
    found = find_neighbors(rows, 4)
    points = rows.take_exact(slice(None))
    distance, index = KDTree(points).query(points[::97], 5)
    assert np.array_equal(found.index[::97], index[:, 1:])
    # Unit rows satisfy |a - b|² = 2 - 2 a·b.
    assert 2 - 2 * found.similarity[::97] == pytest.approx(distance[:, 1:] ** 2, abs=1e-14)


def test_neighbours_of_the_same_episode_can_be_left_out():
    features = random_features(60, 4, "grid")
    groups = np.repeat(np.arange(6), [5, 10, 10, 10, 10, 15])
    for device in ("numpy", "cpu"):
        found = search(
            features,
            7,
            groups,
            exclude_same_group=True,
            device=device,
        )
        assert np.array_equal(found.index, nearest(features, 7, groups))
    assert np.array_equal(
        found.n_candidates,
        60 - np.bincount(groups)[groups],
    )
    everyone_else = search(
        features,
        45,
        groups,
        exclude_same_group=True,
    )
    assert (membership(everyone_else)[groups == 5] == (groups != 5)).all()
    with pytest.raises(WhiskerError, match="1 <= k <= 45"):
        search(
            features,
            46,
            groups,
            exclude_same_group=True,
        )


def test_ties_at_the_last_place_share_it():
    corners = np.repeat(np.eye(3), 4, axis=0)
    found = search(corners, 3)
    assert found.n_tied == 0, "each has three copies of itself"
    assert found.index[7].tolist() == [4, 5, 6]
    assert found.first(2).n_tied == 12
    assert membership(found.first(2))[0].tolist() == [0, 2 / 3, 2 / 3, 2 / 3] + [0] * 8
    beyond = membership(search(corners, 5))[0]
    # The eight at right angles share two places.
    assert beyond == pytest.approx([0, 1, 1, 1] + [2 / 8] * 8)


@with_and_without_ties
@pytest.mark.parametrize(
    "k",
    [2, 9, 30],
)
@pytest.mark.parametrize(
    "grouped",
    [False, True],
)
def test_membership_is_the_expectation_over_draws_and_sums_to_k(kind, k, grouped):
    features = random_features(80, 3, kind)
    groups = np.arange(80) % 8 if grouped else None
    found = search(
        features,
        k,
        groups,
        exclude_same_group=grouped,
    )
    expected = oracle.mask(oracle.kernel(features), k, groups)
    assert membership(found) == pytest.approx(expected, abs=1e-12)
    assert membership(found).sum(1) == pytest.approx(k)
    assert (found.n_tied > 20) == (kind == "grid")


@each_kind
def test_reordering_is_a_search_among_reordered_rows(kind):
    features = random_features(200, 3, kind)
    found = search(features, 6)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(200)
        reordered = found.reorder(order)
        for options in ({"tile": 37}, {"device": "cpu"}):
            searched = search(features[order], 6, **options)
            assert_same(reordered, searched)
            assert reordered.row_mean == pytest.approx(searched.row_mean)


def test_features_of_so_few_values_that_all_tie_are_refused_where_the_ties_do_not_fit(monkeypatch):
    corners = np.repeat(np.eye(3), 100, axis=0)
    assert len(search(corners, 5).tied_row) == 300 * (99 - 5)
    monkeypatch.setattr("cknna.neighbors.MAX_TIED", 10_000)
    said = r"at most 10,000 pairs of rows that tie .* few distinct values"
    with pytest.raises(WhiskerError, match=said):
        search(corners, 5)


@with_and_without_ties
def test_smaller_k_is_the_beginning_of_a_larger(kind):
    features = random_features(80, 3, kind)
    large = search(features, 30)
    for k in (2, 9, 30):
        assert_same(large.first(k), search(features, k))
        assert_same(
            large.first(k),
            large.first(max(k, 12)).first(k),
        )
    with pytest.raises(WhiskerError, match="at most the 30 searched for"):
        large.first(31)


def test_membership_seen_from_the_other_row_is_the_transposed():
    features = random_features(50, 3, "grid")
    found = search(features, 6)
    dense = membership(found)
    for i, cosines in enumerate(oracle.kernel(features)):
        there = np.flatnonzero(dense[i])
        assert np.array_equal(
            found.weigh(there, cosines[there]),
            dense[there, i],
        )


@with_and_without_ties
def test_deleting_is_a_search_among_the_rest(kind):
    deleted = np.array([0, 7, 8, 30, 89])
    for seed in range(10):
        features = random_features(
            90,
            3,
            kind,
            seed,
        )
        rest = search(features, 16).delete(deleted, 8)
        assert rest.n_absent == 0
        assert_same(
            rest,
            search(
                np.delete(features, deleted, axis=0),
                8,
            ),
        )


def test_deleting_those_in_the_list_leaves_their_places_to_those_who_tied():
    corners = np.repeat(np.eye(3), 8, axis=0)
    rest = search(corners, 4).delete(np.arange(1, 5), 4)
    # Each of the four left has three copies, and the search did not go beyond the copies.
    assert rest.n_absent == 4
    assert membership(rest)[0, :4].tolist() == [0, 1, 1, 1]
    rest = search(corners, 4).delete(np.arange(1, 3), 4)
    assert_same(rest, search(corners[2:], 4))


def test_a_list_that_is_too_short_for_a_deletion_says_so():
    clusters = np.repeat(np.eye(10), 10, axis=0) + 0.1 * random_features(100, 10, "plain")
    rest = search(clusters, 12).delete(np.arange(1, 10), 6)
    assert (rest.index[0] != ABSENT).sum() == 3, "nine of its twelve are gone"
    assert rest.n_absent == 3


def test_rows_have_unit_length_whatever_the_dtype():
    integers = np.array([[3, 4], [0, 2], [-1, 0], [5, 12]])
    rows = NormalizedFeatures(integers)
    whole = slice(None)
    exact = rows.take_exact(whole)
    assert rows.take(whole).dtype == np.float32
    assert exact == pytest.approx(np.array([[0.6, 0.8], [0, 1], [-1, 0], [5 / 13, 12 / 13]]))
    assert rows.mean == pytest.approx(exact.mean(0), abs=1e-15)
    assert np.array_equal(rows.take(whole), exact.astype(np.float32))
    some = np.array([2, 0])
    assert np.array_equal(
        NormalizedFeatures(1e-30 * integers).take(some),
        rows.take(some),
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
    features = random_features(20, 3, "plain")
    with pytest.raises(WhiskerError, match=r"as many rows in both .* got 20 and 19"):
        make_pair(features, features[1:])
    for k in (1, 20, -3):
        with pytest.raises(WhiskerError, match="2 <= k < n = 20"):
            check_topk([5, k], 20)
    with pytest.raises(WhiskerError, match="at least one k"):
        check_topk([], 20)
    with pytest.raises(WhiskerError, match="one label for each of the 20 rows"):
        check_groups(np.zeros(3), 20)
    with pytest.raises(WhiskerError, match="Pass the episode of each row"):
        search(features, 3, exclude_same_group=True)
