"""Tests of grasps and closings, on contacts that are written by hand."""

import numpy as np
import pytest

from eval.grasps import Grasp, find_closings, find_grasps, find_stretches


def grasps(contact, height_m=0.0):
    contact = np.array(list(contact)) == "#"
    height_m = np.broadcast_to(
        height_m,
        contact.shape,
    )
    lifted = contact & (height_m > 0.03)
    return find_grasps(
        contact,
        lifted,
        height_m,
        held_steps=4,
        raised_m=0.02,
    )


@pytest.mark.parametrize(
    ("contact", "spans"),
    [
        (".###..####.", [(6, 10)]),
        ("..####", [(2, 6)]),
        ("##.##", [(0, 5)]),
        ("##..##", []),
    ],
)
def test_a_contact_is_a_grasp_when_it_lasts(contact, spans):
    assert grasps(contact) == [Grasp(*span, lifted=False) for span in spans]


@pytest.mark.parametrize(
    ("raised_m", "n"),
    [(0.019, 0), (0.021, 1)],
)
def test_a_short_contact_that_raises_the_object_is_a_grasp(raised_m, n):
    """Only the rise during the contact counts, not the height before it."""
    heights = 0.1 + np.array([0, 0, raised_m, 0])
    assert len(grasps(".##.", heights)) == n


def test_a_grasp_knows_whether_it_lifted():
    heights = [0, 0, 0, 0, 0, 0, 0.02, 0.02, 0.04, 0.02]
    put_down, lifted = grasps("####..####", heights)
    assert put_down == Grasp(0, 4, lifted=False)
    assert lifted == Grasp(6, 10, lifted=True)


def test_a_closing_is_a_command_that_stays():
    closes = np.array(list(".##.###.####")) == "#"
    assert find_closings(closes, 3) == [4, 8]


def test_stretches_are_those_that_a_loop_finds():
    rng = np.random.default_rng(0)
    for _ in range(50):
        holds = rng.random(12) < 0.5
        found = np.zeros(12, bool)
        for begin, end in find_stretches(holds):
            assert not found[begin:end].any()
            found[begin:end] = True
            assert end == 12 or not holds[end]
        np.testing.assert_array_equal(
            found,
            holds,
        )
