"""Counts by the start of an episode match brute force.

The map also says when there are too few episodes to count.
"""

import re
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import binom

from eval.episode_row import EpisodeRow
from eval.outcome import Outcome
from eval.proportions import compute_wilson_interval
from eval.run import Run
from eval.run_folder import arrays_path
from sim.so101.scene_config import BASE_XY_M
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
    return [
        EpisodeRow(
            task="task",
            episode_index=i,
            outcome=Outcome.SUCCESS if good else FAILURES[i % len(FAILURES)],
            success=bool(good),
            n_steps=10,
            decided_at_step=10,
            failed_stage=None if good else "grasped",
            max_object_height_m=0.0,
            final_goal_distance_m=0.1,
            n_predictions=1,
            n_clipped_steps=0,
            error="",
            duration_s=1.0,
        )
        for i, good in enumerate(success)
    ]


def xy(values):
    return [StartScalar(f"object {name}", "m", values[:, i]) for i, name in enumerate("xy")]


def draw(n, seed=0):
    return np.random.default_rng(seed).uniform((0.16, -0.12), (0.28, -0.04), size=(n, 2))


@pytest.mark.parametrize(
    "n",
    [12, 40, 333],
)
def test_counts_are_those_of_a_loop_over_the_episodes(n):
    values = draw(n)
    success = np.arange(n) % 3 == 0
    start_map = compute_start_map(make_rows(success), *xy(values))
    bins = [
        np.minimum(
            np.searchsorted(axis.edges, column, side="right") - 1,
            len(axis.edges) - 2,
        )
        for axis, column in zip(start_map.axes, values.T, strict=False)
    ]
    assert len(start_map.axes) == 2 and start_map.n_episodes.sum() == n
    for counts, chosen in (
        (start_map.n_episodes, np.ones(n, bool)),
        (start_map.n_success, success),
    ):
        brute = Counter(zip(*(column[chosen].tolist() for column in bins), strict=True))
        assert {cell: int(counts[cell]) for cell in np.ndindex(counts.shape)} == {
            cell: brute[cell] for cell in np.ndindex(counts.shape)
        }
    edges = [axis.edges for axis in start_map.axes]
    np.testing.assert_array_equal(
        start_map.n_episodes,
        np.histogram2d(*values.T, edges)[0],
    )


def test_the_least_of_a_cell_is_where_all_of_them_succeeding_excludes_a_coin():
    assert compute_wilson_interval(LEAST_IN_CELL, LEAST_IN_CELL)[0] > 0.5
    assert compute_wilson_interval(LEAST_IN_CELL - 1, LEAST_IN_CELL - 1)[0] < 0.5


@pytest.mark.parametrize(
    "n",
    [12, 40, 200],
)
def test_few_cells_of_evenly_spread_starts_are_too_thin(n):
    """No more than one cell in ten has too few episodes, which is checked by drawing.

    With one more cell it would be more.
    """
    start_map = compute_start_map(make_rows(np.arange(n) % 2 == 0), *xy(draw(n)))
    n_cells = start_map.n_episodes.size
    drawn = np.random.default_rng(1).multinomial(n, np.full(n_cells, 1 / n_cells), size=4000)
    assert (drawn < LEAST_IN_CELL).mean() < 0.105
    assert n_cells > 1 and binom.cdf(LEAST_IN_CELL - 1, n, 1 / (2 * n_cells)) > 0.1


def test_too_few_episodes_are_not_judged_and_it_says_so():
    start_map = compute_start_map(make_rows([True] * 6 + [False] * 5), *xy(draw(11)))
    assert start_map.sentence == (
        "11 episodes are too few for a map of success by the start; it takes 12 or more."
    )
    svg = start_map_svg(start_map)
    assert (
        'class="cell"' not in svg and "succeed</text>" not in svg and svg.count('class="mark') >= 11
    )
    assert compute_start_map(make_rows([True] * 12), *xy(draw(12))).remark == ""


def test_a_cell_with_too_few_is_hatched_and_the_others_are_coloured():
    values = draw(60)
    # The start is alone in its corner.
    values[0] = 0.5, 0.5
    start_map = compute_start_map(make_rows(np.arange(60) % 2 == 0), *xy(values))
    judged = [start_map.is_judged(*cell) for cell in np.ndindex(start_map.n_episodes.shape)]
    assert not start_map.is_judged(*(n - 1 for n in start_map.n_episodes.shape)) and any(judged)
    svg = start_map_svg(start_map)
    # The legend adds five steps.
    assert len(re.findall(r'class="cell"[^>]*fill-opacity', svg)) == sum(judged) + 5
    assert svg.count("url(#hatch-") == len(judged) - sum(judged) + 1
    assert "fewer than 4 episodes" in svg


def test_one_place_for_all_is_said_and_not_drawn():
    start_map = compute_start_map(make_rows([True, False] * 10), *xy(np.full((20, 2), 0.2)))
    assert start_map.sentence.startswith(
        "All 20 episodes begin at one place (object x 0.2 m, object y 0.2 m)"
    )
    assert start_map_svg(start_map) == "" and start_map.table[1] == []
    single = compute_start_map(make_rows([True]), *xy(np.full((1, 2), 0.2)))
    assert "a single episode" in single.sentence
    assert "No episode" in compute_start_map([], *xy(np.empty((0, 2)))).sentence


def test_starts_along_one_axis_are_bars():
    values = draw(60)
    values[:, 1] = -0.08
    start_map = compute_start_map(make_rows(values[:, 0] > 0.22), *xy(values))
    assert (
        len(start_map.axes) == 1
        and start_map.n_episodes.shape[1] == 1
        and start_map.n_episodes.sum() == 60
    )
    assert "object x ≥ 0.2" in start_map.sentence and start_map.is_region_shown
    assert (
        start_map_svg(start_map).count('class="interval"')
        == (start_map.n_episodes >= LEAST_IN_CELL).sum() + 1
    )


def test_absent_starts_and_crashes_are_not_counted():
    values = draw(40)
    rows = make_rows(np.arange(40) % 2 == 0)
    values[3] = np.nan
    rows[5] = replace(
        rows[5],
        outcome=Outcome.ERROR,
        success=False,
        error="Crash: it did",
    )
    start_map = compute_start_map(rows, *xy(values))
    assert start_map.n_episodes.sum() == 38
    assert {point.row.episode_index for point in start_map.points} == set(range(40)) - {3, 5}


def test_a_region_is_outlined_where_it_is():
    values = draw(80)
    start_map = compute_start_map(
        make_rows((values[:, 0] > 0.22) & (values[:, 1] > -0.08)), *xy(values)
    )
    assert start_map.is_region_shown and "Success depends on the start" in start_map.sentence
    root = ElementTree.fromstring(start_map_svg(start_map))
    outline = root.find("rect[@class='region']")
    frame = root.find("rect[@class='frame']")
    right, top = (
        float(frame.get(a)) + float(frame.get(b)) for a, b in (("x", "width"), ("y", "y"))
    )
    assert float(outline.get("x")) + float(outline.get("width")) == pytest.approx(right, abs=0.2)
    assert float(outline.get("y")) == pytest.approx(top / 2, abs=0.2)
    shares = [float(outline.get(size)) / float(frame.get(size)) for size in ("width", "height")]
    np.testing.assert_allclose(shares, 0.5, atol=0.1)
    assert not replace(start_map, n_tests=10**9).is_region_shown


def test_marks_of_outcomes_differ_in_shape_and_lead_to_their_episodes():
    start_map = compute_start_map(make_rows(np.arange(40) % 2 == 0), *xy(draw(40)))
    svg = start_map_svg(
        start_map,
        lambda point: f"#{point.row.episode_index}&x" if point.row.episode_index else None,
    )
    root = ElementTree.fromstring(svg)
    assert sorted(int(a.get("href")[1:-2]) for a in root.findall("a")) == list(range(1, 40))
    shapes = {
        mark.find("title").text.partition(": ")[2]: mark.get("d") for mark in root.findall("a/path")
    }
    # Even episodes succeed, and the odd ones alternate between two failures.
    assert len(set(shapes.values())) == len(shapes) == 3


def test_the_maps_of_a_run_are_of_its_recorded_arrays(failed_run, tmp_path):
    run = Run.open(failed_run)
    (start_map,) = load_start_maps(run).values()
    starts = np.array([run.load_arrays(row).object_pos_world[0] for row in run.rows])
    np.testing.assert_array_equal(
        [[point.x, point.y] for point in start_map.points],
        starts[:, :2],
    )
    assert start_map.base_xy_m == BASE_XY_M and "robot's base" in start_map_svg(start_map)


def test_objects_of_different_goals_are_not_put_into_one_map(failed_run, monkeypatch):
    run = Run.open(failed_run)
    rows = [replace(row, goal=f"in block {i}") for i, row in enumerate(run.rows)]
    monkeypatch.setattr(Run, "rows", rows)
    (start_map,) = load_start_maps(run).values()
    assert "rest on 2 goals" in start_map.sentence and start_map_svg(start_map) == ""


def test_a_lost_file_has_no_start(failed_run):
    run = Run.open(failed_run)
    lost = replace(run.rows[1], episode_index=99)
    assert not (run.path / arrays_path(lost)).exists()
    x, _ = load_start_scalars(run, [run.rows[0], lost])
    assert np.isnan(x.values).tolist() == [False, True]


def test_the_base_is_where_the_model_has_it(blind_env):
    assert tuple(blind_env.data.body("base").xpos[:2]) == BASE_XY_M
