import numpy as np
import pytest
from scipy.spatial import KDTree

from cknna import features as features_module
from cknna.features import UnitRows, check_groups, check_topk, make_pair
from cknna.neighbors import ABSENT, find_neighbors
from sim.errors import WhiskerError
from tests import cknna_oracle as oracle


def random_features(n, dim, kind, seed=0):
    """plain: no ties. grid: many rows alike. narrow: cosines above 0.999, where float32 alone loses the order."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim))
    if kind == "grid":
        return np.round(x) + 0.5
    return 0.01 * x + rng.standard_normal(dim) if kind == "narrow" else x


def nearest(features, k, groups=None):
    kernel = oracle.kernel(features)
    mask = oracle.mask(kernel, k, groups)
    return [
        sorted(np.flatnonzero(row), key=lambda j: (-cosines[j], j)) for row, cosines in zip(mask, kernel, strict=True)
    ]


@pytest.mark.parametrize("kind", ["plain", "grid", "narrow"])
@pytest.mark.parametrize(("n", "dim", "k"), [(4, 2, 3), (40, 3, 5), (150, 16, 10), (90, 130, 89)])
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_search_finds_what_sorting_all_cosines_finds(n, dim, k, kind, device):
    features = random_features(n, dim, kind)
    found = find_neighbors(UnitRows(features), k, device=device)
    assert np.array_equal(found.index, nearest(features, k))
    kernel = oracle.kernel(features)
    assert np.array_equal(found.similarity, np.take_along_axis(kernel, found.index, axis=1))
    assert found.row_mean == pytest.approx(kernel.mean(1), abs=1e-7)


@pytest.mark.parametrize("kind", ["plain", "grid", "narrow"])
def test_result_depends_on_no_block_size_no_thread_and_no_place_in_memory(kind, monkeypatch, tmp_path):
    features = random_features(300, 24, kind).astype(np.float32)
    whole = find_neighbors(UnitRows(features), 12)
    np.save(tmp_path / "bank.npy", features)
    monkeypatch.setattr(features_module, "KEPT_BYTES", 0)
    monkeypatch.setattr("cknna.centred_rows.KEPT_BYTES", 0)
    monkeypatch.setattr(features_module, "BLOCK_BYTES", 1000)
    for tile, remembered, n_threads in ((31, 32, 1), (31, 32, 4), (100, 32, 3), (299, 32, 2), (31, 0, 2)):
        monkeypatch.setattr("cknna.nomination.MAX_REMEMBERED", remembered)
        monkeypatch.setattr("cknna.nomination.N_THREADS", n_threads)
        streamed = find_neighbors(UnitRows(np.load(tmp_path / "bank.npy", mmap_mode="r")), 12, tile=tile)
        assert np.array_equal(streamed.index, whole.index)
        assert np.array_equal(streamed.similarity, whole.similarity)
        assert np.array_equal(streamed.reverse_place, whole.reverse_place)


def test_search_finds_what_a_tree_finds_among_more_rows_than_a_short_integer_squares():
    """More than 46,340: the number of a pair of rows is beyond 32 bits."""
    features = random_features(47_000, 3, "plain")
    found = find_neighbors(UnitRows(features), 4)
    rows = UnitRows(features).take(slice(None)).astype(np.float64)
    distance, index = KDTree(rows).query(rows[::97], 5)
    assert np.array_equal(found.index[::97], index[:, 1:])
    # |a - b|² = 2 - 2 a·b for unit rows, which float32 rounded.
    assert 2 - 2 * found.similarity[::97] == pytest.approx(distance[:, 1:] ** 2, abs=3e-7)


def test_neighbours_of_the_same_episode_can_be_left_out():
    features, groups = random_features(60, 4, "grid"), np.repeat(np.arange(6), [5, 10, 10, 10, 10, 15])
    for device in ("numpy", "cpu"):
        found = find_neighbors(UnitRows(features), 7, groups, exclude_same_group=True, device=device)
        assert np.array_equal(found.index, nearest(features, 7, groups))
    assert found.n_candidates.tolist() == (60 - np.bincount(groups)[groups]).tolist()
    everyone_else = find_neighbors(UnitRows(features), 45, groups, exclude_same_group=True)
    assert np.isinf(everyone_else.next_similarity[groups == 5]).all()
    with pytest.raises(WhiskerError, match="1 <= k <= 45"):
        find_neighbors(UnitRows(features), 46, groups, exclude_same_group=True)


def test_ties_at_the_last_place_are_counted():
    corners = np.repeat(np.eye(3), 4, axis=0)
    found = find_neighbors(UnitRows(corners), 3)
    assert found.n_ties == 0, "each has three copies of itself"
    assert found.first(2).n_ties == 12
    assert found.index[0].tolist() == [1, 2, 3]
    assert found.index[7].tolist() == [4, 5, 6]


def test_smaller_k_is_the_beginning_of_a_larger():
    rows = UnitRows(random_features(80, 5, "grid"))
    large = find_neighbors(rows, 30)
    for k in (2, 9, 30):
        small = find_neighbors(rows, k)
        for name in ("index", "similarity", "next_similarity", "reverse_place"):
            assert np.array_equal(getattr(large.first(k), name), getattr(small, name)), name
    with pytest.raises(WhiskerError, match="at most the 30 searched for"):
        large.first(31)


def test_reverse_place_is_where_one_stands_in_the_others_list():
    found = find_neighbors(UnitRows(random_features(50, 3, "plain")), 6)
    for i in range(50):
        for place, j in enumerate(found.index[i]):
            theirs = found.index[j].tolist()
            assert found.reverse_place[i, place] == (theirs.index(i) if i in theirs else 6)


def test_reordering_is_a_search_among_reordered_rows():
    features = random_features(70, 6, "plain")
    order = np.random.default_rng(1).permutation(70)
    reordered = find_neighbors(UnitRows(features), 8).reorder(order)
    searched = find_neighbors(UnitRows(features[order]), 8)
    for name in ("index", "similarity", "next_similarity", "reverse_place"):
        assert np.array_equal(getattr(reordered, name), getattr(searched, name)), name
    assert reordered.row_mean == pytest.approx(searched.row_mean)


def test_deleting_is_a_search_among_the_rest():
    features = random_features(90, 6, "plain")
    deleted = np.array([0, 7, 8, 30, 89])
    rest = find_neighbors(UnitRows(features), 16).delete(deleted, 8)
    searched = find_neighbors(UnitRows(np.delete(features, deleted, axis=0)), 8)
    for name in ("index", "similarity", "next_similarity", "reverse_place", "n_candidates"):
        assert np.array_equal(getattr(rest, name), getattr(searched, name)), name


def test_a_list_that_is_too_short_for_a_deletion_says_so():
    clusters = np.repeat(np.eye(10), 10, axis=0) + 0.1 * random_features(100, 10, "plain")
    rest = find_neighbors(UnitRows(clusters), 12).delete(np.arange(1, 10), 6)
    assert (rest.index[0] != ABSENT).sum() == 3, "nine of its twelve are gone"
    assert rest.n_absent == 3


def test_rows_have_unit_length_whatever_the_dtype():
    integers = np.array([[3, 4], [0, 2], [-1, 0], [5, 12]])
    rows = UnitRows(integers)
    assert rows.take(slice(4)).dtype == np.float32
    assert rows.take(slice(4)) == pytest.approx(np.array([[0.6, 0.8], [0, 1], [-1, 0], [5 / 13, 12 / 13]]))
    assert rows.mean == pytest.approx(rows.take(slice(4)).mean(0))
    assert np.array_equal(UnitRows(1e-30 * integers).take(np.array([2, 0])), rows.take(np.array([2, 0])))


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
        UnitRows(features, "features_a")


def test_pairs_topk_and_groups_are_checked():
    with pytest.raises(WhiskerError, match=r"as many rows in both .* got 20 and 19"):
        make_pair(random_features(20, 3, "plain"), random_features(19, 5, "plain"))
    for k in (1, 20, -3):
        with pytest.raises(WhiskerError, match="2 <= k < n = 20"):
            check_topk([5, k], 20)
    with pytest.raises(WhiskerError, match="at least one k"):
        check_topk([], 20)
    with pytest.raises(WhiskerError, match="one label for each of the 20 rows"):
        check_groups(np.zeros(3), 20)
    with pytest.raises(WhiskerError, match="Pass the episode of each row"):
        find_neighbors(UnitRows(random_features(20, 3, "plain")), 3, exclude_same_group=True)
