"""The measures of any kind of goal are available as series."""

from dataclasses import replace

import numpy as np
from numpy.testing import assert_array_equal

from tests.test_eval_goals import Reaching, make_run  # noqa: F401  a fixture
from tests.test_viz_plan_quality import episode, line
from tests.test_viz_report import make_row
from viz.goal_measures import add_measures, select_measures


def test_a_new_kind_has_its_measures_as_series(make_run):  # noqa: F811
    run = make_run(Reaching, 0, 3)
    row = run.rows[-1]
    arrays = run.load_arrays(row)
    shown = add_measures(arrays, row)
    recorded = shown.series["distance_m"]
    assert recorded.series.title == "distance"
    assert recorded.series.unit == "m"
    assert recorded.series.axis == "moment"
    assert_array_equal(recorded.values, arrays.measures[:, 0])
    assert recorded.values[-1] == row.final_measures["distance_m"]
    assert shown.series.keys() - {"distance_m"} == arrays.series.keys()


def test_an_articulated_goal_has_its_joint_and_pick_and_place_has_graphs_of_its_own():
    picked = episode(line((0, 0, 0), 5))
    assert add_measures(picked, make_row("task", 0)).series == {}
    opened = replace(picked, joint_progress=np.linspace(0, 1, 5))
    series = add_measures(opened, make_row("task", 0)).series
    assert_array_equal(
        series["joint_progress"].values,
        opened.joint_progress,
    )


def test_a_moment_of_a_live_episode_has_one_row():
    measures = {
        "object_height_m": 0.1,
        "goal_distance_m": 0.2,
        "distance_m": 0.3,
    }
    ((name, selected),) = select_measures(measures).items()
    assert name == "distance_m"
    assert selected.values.tolist() == [0.3]
