"""Tests of grasps and closings, on contacts that are written by hand."""

import numpy as np
import pytest

from eval.grasps import Grasp, find_closings, find_grasps, find_stretches


def grasps(contact, height_m=0.0, held_steps=4, raised_m=0.02, lifted=None):
    contact = np.array([char == "#" for char in contact])
    height_m = np.broadcast_to(height_m, contact.shape)
    lifted = contact & (height_m > 0.03) if lifted is None else np.array(lifted)
    return find_grasps(contact, lifted, height_m, held_steps, raised_m)


def test_a_contact_is_a_grasp_when_it_lasts():
    assert grasps(".###..####.") == [Grasp(6, 10, lifted=False)]


def test_a_grasp_that_lasts_to_the_end_ends_after_it():
    assert grasps("..####") == [Grasp(2, 6, lifted=False)]


def test_a_moment_without_contact_does_not_end_a_grasp_and_two_do():
    assert grasps("##.##") == [Grasp(0, 5, lifted=False)]
    assert grasps("##..##") == []


@pytest.mark.parametrize(
    ("raised_m", "n"),
    [(0.019, 0), (0.021, 1)],
)
def test_a_short_contact_that_raises_the_object_is_a_grasp(raised_m, n):
    """Only the rise during the contact counts, not the height before it."""
    heights = 0.1 + np.array([0, 0, raised_m, 0])
    assert len(grasps(".##.", heights)) == n


def test_a_grasp_knows_whether_it_lifted():
    assert grasps(
        "####..####",
        [0.0] * 6 + [0.02, 0.02, 0.04, 0.02],
    ) == [
        Grasp(0, 4, lifted=False),
        Grasp(6, 10, lifted=True),
    ]


def test_a_closing_is_a_command_that_stays():
    closes = np.array([0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1], dtype=bool)
    assert find_closings(closes, 3) == [4, 8]


def test_stretches_are_those_that_a_loop_finds():
    rng = np.random.default_rng(0)
    for _ in range(50):
        holds = rng.random(12) < 0.5
        found = [i for begin, end in find_stretches(holds) for i in range(begin, end)]
        assert found == [i for i in range(12) if holds[i]]
        assert all(end == 12 or not holds[end] for _, end in find_stretches(holds))
