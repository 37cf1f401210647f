"""Tests where lines are drawn in a picture, which part of them, and in which colour."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from skimage.color import rgb2xyz

from tests.test_viz_plan_quality import episode, line
from viz.overlay import (
    Overlay,
    compute_overlay,
    draw_legend,
    draw_overlay,
    find_trail_begin,
    project_path,
)
from viz.overlay_style import HALO_OPACITY, HALO_WIDER_PX, HALOS, IMAGE_WIDTH_PX, LINES, N_GHOSTS
from viz.whiskers import Whiskers

# The camera is at the origin and looks along z, with x to the right and y down. It has 480 rows,
# 640 columns and a focal length of 400 px.
PROJECTION = np.array(
    [
        [400.0, 0, 320, 0],
        [0, 400, 240, 0],
        [0, 0, 1, 0],
    ]
)
NOWHERE = np.array([0.0, 0.0, -1.0])
EMPTY = np.empty((0, 3))
GREY = np.full((480, 640, 3), 200, np.uint8)
ALTERNATIVE, GHOST, TAKEN, PLAN = (
    LINES[kind].colour for kind in ("alternative", "ghost", "taken", "plan")
)


def row_of(v):
    """Return a path that is a horizontal line in the picture, with points 10 px apart."""
    x = np.arange(-220, 221, 10) / 400
    return np.stack(
        np.broadcast_arrays(x, (v - 240) / 400, 1.0),
        axis=1,
    )


NOTHING = Overlay(
    NOWHERE,
    EMPTY,
    0,
    EMPTY,
)


def draw(**parts):
    """Return the colours of a grey picture with these lines."""
    return draw_overlay(GREY, PROJECTION, replace(NOTHING, **parts)).astype(int)


def assert_colour(pixel, colour):
    assert_allclose(
        pixel,
        colour,
        rtol=0,
        atol=2,
    )


def greenness(pixels):
    return pixels[..., 1] - pixels[..., 0]


def test_a_path_in_front_is_one_piece_at_its_place():
    (piece,) = project_path(
        PROJECTION,
        np.array(
            [
                [0, 0, 1],
                [0.1, 0.2, 1],
                [0.1, 0.2, 2.0],
            ]
        ),
    )
    assert_allclose(
        piece,
        [
            [320, 240],
            [360, 320],
            [340, 280],
        ],
    )


def test_a_segment_that_goes_behind_the_camera_is_cut_at_the_near_plane():
    """The line ends where it crosses the near plane.

    It goes from (0.1, 0, 1) to (0.1, 0, -1): at depth 0.01 x is still 0.1, so u = 320 + 400 · 10.
    """
    path = np.array([[0.1, 0, 1], [0.1, 0, -1]])
    ends = [[360, 240], [4320, 240]]
    assert_allclose(project_path(PROJECTION, path), [ends])
    assert_allclose(
        project_path(PROJECTION, path[::-1]),
        [ends[::-1]],
    )


def test_what_leaves_and_comes_back_is_two_pieces():
    path = np.array(
        [
            [0, 0, 1],
            [0, 0.1, 1],
            [0, 0, -1],
            [0, 0, -2],
            [0, 0.1, 1],
            [0, 0, 1.0],
        ]
    )
    pieces = project_path(PROJECTION, path)
    assert [len(piece) for piece in pieces] == [3, 3]
    assert_allclose(pieces[0][:2], pieces[1][:0:-1])


def test_a_path_behind_or_without_points_is_nothing_and_nan_ends_it():
    assert project_path(PROJECTION, -row_of(240)) == []
    assert project_path(PROJECTION, EMPTY) == []
    path = row_of(240)
    path[20:] = np.nan
    (piece,) = project_path(PROJECTION, path)
    assert len(piece) == 20


def test_colours_lie_where_the_lines_are_and_nowhere_else():
    image = draw(
        plan=row_of(100),
        n_to_execute=44,
        taken=row_of(200),
        ghosts=[row_of(300)],
        alternatives=[row_of(400)],
    )
    assert_colour(image[100, 320], PLAN)
    assert_colour(image[200, 320], TAKEN)
    # Lines that are not fully opaque mix with the colour of the picture.
    for v, colour in ((300, GHOST), (400, ALTERNATIVE)):
        distance = np.abs(image[v, 320] - colour).sum()
        assert distance < np.abs(200 - np.array(colour)).sum() / 2
    for v in (50, 150, 250, 350, 450):
        assert (image[v - 20 : v + 20] == 200).all()
    # The given picture is not modified.
    assert (GREY == 200).all()


def luminance(colour):
    """Return the relative luminance of WCAG 2.2, which is Y of CIE XYZ."""
    return rgb2xyz(np.array(colour) / 255)[1]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_plan_and_way_taken_differ_without_their_hues():
    """The contrast is at least 3:1, as WCAG 2.2 (1.4.11) requires for meaningful graphics."""
    assert contrast(PLAN, TAKEN) > 3
    assert contrast(PLAN, HALOS["light"]) > 3
    assert contrast(TAKEN, HALOS["dark"]) > 3
    yellow_arm = (250, 205, 30)
    beige_table = (178, 163, 144)
    for colours in ((PLAN, HALOS["light"]), (TAKEN, HALOS["dark"])):
        for background in (yellow_arm, beige_table):
            assert max(contrast(colour, background) for colour in colours) > 2.5


def test_a_line_is_drawn_around_its_place():
    """A line through the middle of row 100, v = 100.5, is symmetric about that row."""
    image = draw(
        plan=row_of(100.5),
        n_to_execute=44,
    )
    assert_allclose(image[96:100, 320], image[101:105, 320][::-1], atol=35)


@pytest.mark.parametrize(
    "kind", ["alternative", "intermediate_plan", "ghost", "taken", "rest", "plan"]
)
@pytest.mark.parametrize(
    "size",
    [
        (240, 320),
        (480, 640),
        (960, 1280),
    ],
)
def test_a_line_is_as_wide_and_as_opaque_as_its_kind(kind, size):
    """The width of a line, and of its halo, is the sum of the ink across it.

    Lines are drawn with a precision of an eighth of a pixel.
    """
    style = LINES[kind]
    image = np.full((*size, 3), 128, np.uint8)
    scale = np.sqrt(size[1] / IMAGE_WIDTH_PX)
    mid = size[0] // 2
    # The line goes through the middle of a pixel.
    path = row_of((mid + 0.5) / size[0] * 480)
    parts = {
        "alternative": {"alternatives": [path]},
        "intermediate_plan": {"intermediate_plans": [path]},
        "ghost": {"ghosts": [EMPTY] * 5 + [path]},
        "taken": {"taken": path},
        "rest": {"plan": path},
        "plan": {
            "plan": path,
            "n_to_execute": len(path),
        },
    }
    overlay = replace(NOTHING, **parts[kind])
    projection = np.diag([size[1] / 640, size[0] / 480, 1]) @ PROJECTION
    column = draw_overlay(image, projection, overlay)[:, size[1] // 2].astype(float)
    if kind == "ghost" and size[1] < IMAGE_WIDTH_PX:
        # A ghost would cover too much of a small image.
        assert (column == 128).all()
        return
    opacity = style.opacity * (1 - 6 / 13) ** 2 if kind == "ghost" else style.opacity
    # A line lies on the picture, or on its own halo.
    below = np.full(3, 128.0)
    if style.halo:
        below += HALO_OPACITY * opacity * (np.array(style.halo) - below)
    line = below + opacity * (np.array(style.colour) - below)
    assert_allclose(column[mid], line, atol=2.5)
    width = style.width_px * scale
    if not style.halo:
        # The channel is the one in which the line differs most from what lies below it.
        channel = np.abs(line - below).argmax()
        ink = np.abs(column - 128)[:, channel] / np.abs(line - 128)[channel]
        assert ink.sum() == pytest.approx(width, abs=0.2)
        return
    is_line = np.abs(column - line).max(axis=1) < np.abs(column - below).max(axis=1)
    assert is_line.sum() == pytest.approx(width, abs=1.3)
    is_drawn = (column != 128).any(axis=1)
    assert is_drawn.sum() == pytest.approx(width + HALO_WIDER_PX * scale, abs=2.3)


def test_what_will_not_be_executed_is_thinner_and_lighter():
    image = draw(
        plan=row_of(100),
        n_to_execute=22,
    )
    until, after = np.maximum(
        0,
        greenness(image[80:120, [220, 430]]),
    ).sum(axis=0)
    assert until > 1.5 * after > 0


def test_the_plan_lies_on_the_way_taken_on_ghosts_on_alternatives():
    path = row_of(240)
    parts = {
        "alternatives": [path],
        "ghosts": [path],
    }
    ghost = draw(**parts)[240, 320]
    assert ghost[2] > ghost[0] + 50
    parts["taken"] = path
    assert_colour(draw(**parts)[240, 320], TAKEN)
    parts["plan"] = path
    assert_colour(
        draw(**parts, n_to_execute=44)[240, 320],
        PLAN,
    )


def test_ghosts_fade_with_the_square_of_their_age():
    ages = np.arange(1, N_GHOSTS + 2)
    opacities = np.array([LINES["ghost"].opacity_at(1 - age / ages[-1]) for age in ages])
    assert_allclose(
        np.diff(np.sqrt(opacities), n=2),
        0,
        atol=1e-12,
    )
    assert (np.diff(opacities) < 0).all()
    assert opacities[-1] == 0
    young = draw(ghosts=[row_of(240)])[240, 320, 0]
    old = draw(ghosts=[EMPTY] * 9 + [row_of(240)])[240, 320, 0]
    assert 200 - young > 4 * (200 - old) > 0


def test_drafts_turn_from_grey_to_green():
    rows = [100, 200, 300]
    image = draw(intermediate_plans=[row_of(v) for v in rows])
    first, second, third = greenness(image[rows, 320])
    assert 0 == first < second < third


def test_the_tool_is_a_dot_ringed_in_white():
    image = draw(tool=np.array([0.0, 0.0, 1.0]))
    assert_colour(image[240, 320], PLAN)
    assert (image.reshape(-1, 3) > 235).all(axis=1).any()
    assert (image[230:250, 310:330] == 200).all(axis=-1).sum() > 200


def test_lines_are_wider_in_a_larger_picture():
    large = np.full((960, 1280, 3), 200, np.uint8)
    overlay = Overlay(
        NOWHERE,
        row_of(240),
        44,
        EMPTY,
    )
    n_rows = []
    for image, scale in ((GREY, 1.0), (large, 2.0)):
        drawn = draw_overlay(
            image,
            np.diag([scale, scale, 1.0]) @ PROJECTION,
            overlay,
        )
        is_line = (drawn[:, image.shape[1] // 2] != 200).any(axis=-1)
        n_rows.append(is_line.sum())
    # The ratio is the square root of two.
    assert 1.2 < n_rows[1] / n_rows[0] < 1.7


def test_the_overlay_of_a_step_is_of_the_plan_in_force():
    """The overlay shows the plan in force.

    Two steps are executed of the first two predictions, and one of the third.
    """
    bundles = [np.stack([line((0.02 * i, 0, k), 5) for k in range(3)]) for i in range(3)]
    whiskers = Whiskers(np.stack(bundles), np.array([0, 2, 4]), np.array([2, 2, 1]))
    arrays = episode(line((0, 0, 0), 6))
    at_prediction, between, end = (compute_overlay(whiskers, arrays, step) for step in (2, 3, 5))
    assert_allclose(at_prediction.plan, bundles[1][0])
    assert (at_prediction.n_to_execute, between.n_to_execute, end.n_to_execute) == (2, 1, 0)
    assert_allclose(between.plan[0], between.tool)
    assert_allclose(between.plan, bundles[1][0, 1:])
    assert len(between.taken) == 4
    assert len(between.alternatives) == 2
    assert between.intermediate_plans == ()
    # The latest plan comes first.
    assert_allclose(end.ghosts, [bundles[1][0], bundles[0][0]])


def test_the_way_taken_is_drawn_since_the_last_two_plans():
    """The trail begins at the plan before the one in force, but at least half a second ago.

    The control rate is 10 Hz. `n_plans` selects another number of plans, and 0 the whole path.
    """
    steps = np.array([0, 10, 20, 22, 24])
    begins = [find_trail_begin(steps, step, 0.1) for step in (0, 9, 10, 19, 20, 21, 22, 23, 24, 30)]
    assert begins == [0, 0, 0, 0, 10, 10, 17, 18, 19, 22]
    for n_plans, begin in ((1, 24), (5, 0), (0, 0)):
        assert (
            find_trail_begin(
                steps,
                30,
                0.1,
                n_plans,
            )
            == begin
        )
    whiskers = Whiskers(np.zeros((5, 1, 3, 3)), steps, np.full(5, 2))
    arrays = episode(line((0, 0, 0), 31))
    overlay = compute_overlay(
        whiskers,
        arrays,
        30,
        22,
    )
    assert_array_equal(overlay.taken, arrays.ee_pos_world[22:])


def test_the_legend_names_what_is_drawn():

    def top_of_legend(overlay):
        return (draw_legend(GREY, overlay) != 200).any(axis=(1, 2)).argmax()

    more = replace(NOTHING, alternatives=[row_of(9)])
    assert 480 > top_of_legend(NOTHING) > top_of_legend(more) > 300
