"""Counts by the start of an episode match brute force.

The map also says when there are too few episodes to count.
"""

import re
from bisect import bisect
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from pytest import approx
from scipy.stats import binom

from eval.outcome import Outcome
from eval.proportions import compute_wilson_interval
from eval.run import Run
from eval.run_folder import arrays_path
from sim.errors import UnknownNameError
from sim.so101.scene_config import BASE_XY_M
from tests.test_viz_report import make_row
from viz.report.start_map import (
    LEAST_IN_CELL,
    StartScalar,
    compute_start_map,
    load_start_maps,
    load_start_scalars,
)
from viz.report.start_map_svg import start_map_svg

FAILURES = (
    Outcome.NEVER_PICKED_UP,
    Outcome.DROPPED_DURING_TRANSPORT,
    Outcome.MISSED_GOAL,
    Outcome.TIMEOUT,
)


def make_rows(success):
    """Return a row for each of these successes and failures."""
    rows = []
    for i, is_success in enumerate(success):
        row = make_row("task", i, decisive_step=None, decisive_event=None)
        if not is_success:
            outcome = FAILURES[i % len(FAILURES)]
            row = replace(
                row,
                outcome=outcome,
                success=False,
                failed_stage="grasped",
            )
        rows.append(row)
    return rows


def map_of(success, values):
    """Return the map of episodes whose objects begin at these (x, y)."""
    scalars = [StartScalar(f"object {name}", "m", values[:, i]) for i, name in enumerate("xy")]
    return compute_start_map(make_rows(success), *scalars)


def draw(n):
    return np.random.default_rng(0).uniform((0.16, -0.12), (0.28, -0.04), size=(n, 2))


def alternate(n):
    return np.arange(n) % 2 == 0


@pytest.mark.parametrize(
    "n",
    [12, 40, 333],
)
def test_counts_are_those_of_a_loop_over_the_episodes(n):
    places = draw(n)
    success = np.arange(n) % 3 == 0
    start_map = map_of(success, places)
    n_episodes = np.zeros_like(start_map.n_episodes)
    n_success = np.zeros_like(start_map.n_success)
    for place, is_success in zip(places, success, strict=True):
        cell = tuple(
            min(bisect(axis.edges, value), len(axis.edges) - 1) - 1
            for axis, value in zip(start_map.axes, place, strict=True)
        )
        n_episodes[cell] += 1
        n_success[cell] += is_success
    assert_array_equal(start_map.n_episodes, n_episodes)
    assert_array_equal(start_map.n_success, n_success)


def test_the_least_of_a_cell_is_where_all_of_them_succeeding_excludes_a_coin():
    for n, is_above in ((LEAST_IN_CELL, True), (LEAST_IN_CELL - 1, False)):
        low, _ = compute_wilson_interval(n, n)
        assert (low > 0.5) == is_above


@pytest.mark.parametrize(
    "n",
    [12, 40, 200],
)
def test_few_cells_of_evenly_spread_starts_are_too_thin(n):
    """No more than one cell in ten has too few episodes, which is checked by drawing.

    With one more cell it would be more.
    """
    n_cells = map_of(alternate(n), draw(n)).n_episodes.size
    assert n_cells > 1
    drawn = np.random.default_rng(1).multinomial(n, np.full(n_cells, 1 / n_cells), size=4000)
    assert (drawn < LEAST_IN_CELL).mean() < 0.105
    assert binom.cdf(LEAST_IN_CELL - 1, n, 1 / (2 * n_cells)) > 0.1


def test_too_few_episodes_are_not_judged_and_it_says_so():
    start_map = map_of([True] * 6 + [False] * 5, draw(11))
    assert start_map.sentence == (
        "11 episodes are too few for a map of success by the start; it takes 12 or more."
    )
    svg = start_map_svg(start_map)
    assert 'class="cell"' not in svg
    assert "succeed</text>" not in svg
    assert svg.count('class="mark') >= 11
    assert map_of([True] * 12, draw(12)).remark == ""


def test_a_cell_with_too_few_is_hatched_and_the_others_are_coloured():
    values = draw(60)
    # The start is alone in its corner.
    values[0] = 0.5, 0.5
    start_map = map_of(alternate(60), values)
    is_judged = [start_map.is_judged(*cell) for cell in np.ndindex(start_map.n_episodes.shape)]
    assert not is_judged[-1]
    n_judged = sum(is_judged)
    assert n_judged > 0
    svg = start_map_svg(start_map)
    # The legend adds five steps.
    assert len(re.findall(r'class="cell"[^>]*fill-opacity', svg)) == n_judged + 5
    assert svg.count("url(#hatch-") == len(is_judged) - n_judged + 1
    assert "fewer than 4 episodes" in svg


def test_one_place_for_all_is_said_and_not_drawn():
    place = np.full((20, 2), 0.2)
    start_map = map_of(alternate(20), place)
    assert start_map.sentence.startswith(
        "All 20 episodes begin at one place (object x 0.2 m, object y 0.2 m)"
    )
    assert start_map_svg(start_map) == ""
    assert start_map.table[1] == []
    assert "a single episode" in map_of([True], place[:1]).sentence
    assert "No episode" in map_of([], place[:0]).sentence


def test_starts_along_one_axis_are_bars():
    values = draw(60)
    values[:, 1] = -0.08
    start_map = map_of(values[:, 0] > 0.22, values)
    assert start_map.y is None
    assert start_map.n_episodes.shape[1] == 1
    assert start_map.n_episodes.sum() == 60
    assert "object x ≥ 0.2" in start_map.sentence
    assert start_map.is_region_shown
    n_judged = (start_map.n_episodes >= LEAST_IN_CELL).sum()
    assert start_map_svg(start_map).count('class="interval"') == n_judged + 1


def test_absent_starts_and_crashes_are_counted_apart():
    x, y = draw(40).T
    x[3] = y[3] = np.nan
    rows = make_rows(alternate(40))
    rows[5] = replace(
        rows[5],
        outcome=Outcome.ERROR,
        success=False,
        error="Crash: it did",
    )
    scalars = StartScalar("object x", "m", x), StartScalar("object y", "m", y)
    start_map = compute_start_map(rows, *scalars)
    assert (start_map.n_episodes.sum(), start_map.n_unplaced, start_map.n_errors) == (38, 1, 1)
    assert {point.row.episode_index for point in start_map.points} == set(range(40)) - {3, 5}


def test_a_region_is_outlined_where_it_is():
    values = draw(80)
    start_map = map_of(
        (values > (0.22, -0.08)).all(axis=1),
        values,
    )
    assert start_map.is_region_shown
    assert "Success depends on the start" in start_map.sentence
    root = ElementTree.fromstring(start_map_svg(start_map))

    def rect(name):
        attributes = root.find(f"rect[@class='{name}']").attrib
        return [float(attributes[each]) for each in ("x", "y", "width", "height")]

    x, y, width, height = rect("region")
    frame_x, frame_y, frame_width, frame_height = rect("frame")
    assert x + width == approx(frame_x + frame_width, abs=0.2)
    assert y == approx(frame_y, abs=0.2)
    assert width / frame_width == approx(0.5, abs=0.1)
    assert height / frame_height == approx(0.5, abs=0.1)
    assert not replace(start_map, n_tests=10**9).is_region_shown


def test_marks_of_outcomes_differ_in_shape_and_lead_to_their_episodes():
    def link_to(point):
        index = point.row.episode_index
        return f"#{index}&x" if index else None

    root = ElementTree.fromstring(
        start_map_svg(
            map_of(alternate(40), draw(40)),
            link_to,
        )
    )
    links = {a.get("href") for a in root.iter("a")}
    assert links == {f"#{index}&x" for index in range(1, 40)}
    shapes = {}
    for mark in root.iterfind("a/path"):
        _, _, outcome = mark.findtext("title").partition(": ")
        shapes[outcome] = mark.get("d")
    # Even episodes succeed, and the odd ones alternate between two failures.
    assert len(set(shapes.values())) == len(shapes) == 3


def test_the_maps_of_a_run_are_of_its_recorded_arrays(opened_run):
    (start_map,) = load_start_maps(opened_run).values()
    arrays = [opened_run.load_arrays(row) for row in opened_run.rows]
    starts = np.array([each.object_pos_world[0] for each in arrays])
    assert_array_equal(
        [[point.x, point.y] for point in start_map.points],
        starts[:, :2],
    )
    assert start_map.base_xy_m == BASE_XY_M
    assert "robot's base" in start_map_svg(start_map)
    z, gripper = load_start_scalars(opened_run, opened_run.rows, ("object z", "gripper.pos"))
    assert_array_equal(z.values, starts[:, 2])
    assert_array_equal(
        gripper.values,
        [each.state[0, 5] for each in arrays],
    )
    with pytest.raises(UnknownNameError, match="object x"):
        load_start_scalars(opened_run, opened_run.rows, ("objekt x",))


def test_objects_of_different_goals_are_not_put_into_one_map(opened_run, monkeypatch):
    rows = [
        replace(
            row,
            goal=f"in block {row.episode_index}",
        )
        for row in opened_run.rows
    ]
    monkeypatch.setattr(Run, "rows", rows)
    (start_map,) = load_start_maps(opened_run).values()
    assert "rest on 2 goals" in start_map.sentence
    assert start_map_svg(start_map) == ""
    (of_joints,) = load_start_maps(opened_run, ("gripper.pos",)).values()
    assert "begin at one place" in of_joints.sentence


def test_a_column_of_the_rows_is_a_scalar_and_a_lost_file_has_no_start(opened_run):
    first, second = opened_run.rows
    first = replace(first, extra={"lamp_lux": 0})
    lost = replace(
        second,
        extra={"lamp_lux": 100},
        episode_index=99,
    )
    assert not (opened_run.path / arrays_path(lost)).exists()
    lamp, x = load_start_scalars(opened_run, [first, lost], ("lamp_lux", "object x"))
    assert lamp.values.tolist() == [0.0, 100.0]
    assert np.isnan(x.values).tolist() == [False, True]


def test_the_base_is_where_the_model_has_it(blind_env):
    assert tuple(blind_env.data.body("base").xpos[:2]) == BASE_XY_M
