"""Tests that a start region is found where it exists, and rarely where it does not."""

import numpy as np
import pytest

from eval.start_region import find_start_region


def draw(n, seed):
    return np.random.default_rng(seed).uniform(
        (0.1, -0.2),
        (0.3, 0.2),
        size=(n, 2),
    )


def test_a_corner_in_which_all_succeed_is_found_and_holds():
    values = draw(60, 0)
    success = (values[:, 0] >= 0.19) & (values[:, 1] >= -0.09)
    region = find_start_region(values, success)
    assert region.p_value < 1e-4
    assert region.n_tested == 30
    by_variable = {condition.variable: condition for condition in region.conditions}
    assert all(condition.is_above for condition in region.conditions)
    assert set(by_variable) == {0, 1}
    assert by_variable[0].threshold == pytest.approx(0.19, abs=0.02)
    assert by_variable[1].threshold == pytest.approx(
        -0.09,
        abs=0.04,
    )
    (good_inside, n_inside), (good_outside, n_outside) = region.inside, region.outside
    assert (good_inside + good_outside, n_inside + n_outside) == (success.sum(), 60)
    assert good_inside / n_inside > 0.9
    assert good_outside / n_outside < 0.15


def test_one_condition_is_enough_where_one_is_true():
    values = draw(80, 1)
    region = find_start_region(
        values,
        values[:, 1] < 0.05,
    )
    assert region is not None
    assert len(region.conditions) == 1
    assert region.describe(
        ("x", "y"),
        "m",
    ).startswith("y < 0.0")


def test_a_region_that_does_not_matter_is_believed_as_rarely_as_the_test_says():
    """The outcomes are independent of the start.

    About one p-value in twenty is below 0.05, although the best region is chosen.
    """
    rng = np.random.default_rng(2)
    regions = [find_start_region(draw(40, 100 + k), rng.random(40) < 0.5) for k in range(300)]
    believed = np.mean([region is not None and region.p_value < 0.05 for region in regions])
    assert believed < 0.08  # The bound is 0.05 plus two and a half standard errors.


@pytest.mark.parametrize(
    "success",
    [
        np.ones(40, bool),
        np.zeros(40, bool),
        np.arange(40) < 3,
    ],
)
def test_too_few_of_a_kind_are_not_split(success):
    assert find_start_region(draw(40, 3), success) is None


def test_one_place_for_all_cannot_be_split():
    assert (
        find_start_region(
            np.ones((40, 2)),
            np.arange(40) % 2 == 0,
        )
        is None
    )
