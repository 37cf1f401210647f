"""Tests of goals of kinds that the project does not know.

They follow such a goal from the rollout to the run folder and the report.
"""

import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from eval.doctor.early_success import check_early_success
from eval.doctor.row_checks import check_outcomes
from eval.drivers import run_episode
from eval.episode_row import EpisodeRow, make_row
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_folder import RunFolder
from eval.statistics import count_stages, summarise
from policies.baselines import BASELINES
from sim.env import Progress, StepResult
from sim.goals.goal import SUCCESS_ONLY
from tests.point_env import Point
from tests.runs import describe_run
from viz.report.content import ReportContent, compute_run_content
from viz.report.html_page import render_html
from viz.report.markdown import render_markdown


class Reaching(Point):
    """A point that moves towards its goal by itself and stops `stops_before` steps short."""

    def __init__(self, stops_before):
        self._stops_before = stops_before
        super().__init__()

    def reset(self, episode_index):
        super().reset(episode_index)
        self._pos = np.array([8.0, 0.0])

    def step(self, action):
        self._pos[0] = max(self._pos[0] - 1, self._stops_before)
        return StepResult(self.progress(), self._is_there, False)

    @property
    def _is_there(self):
        return bool(self._pos[0] == 0)

    def progress(self):
        (progress,) = super().progress()
        return (
            replace(
                progress,
                met=self._is_there,
                object_pos_world=None,
            ),
        )


class Winning(Reaching):
    """A `Reaching` environment that reports only success."""

    spec = replace(
        Point.spec,
        goals=(SUCCESS_ONLY.goal("win"),),
    )

    def progress(self):
        return (Progress(met=self._is_there),)


class Aimless(Reaching):
    """A `Reaching` environment that declares no goal."""

    spec = replace(Point.spec, goals=())

    def progress(self):
        return ()


def roll_out(env, index=100):
    policy = BASELINES["zero"](env)
    record = run_episode(
        env,
        policy,
        index,
        EpisodeRecorder(),
        RolloutSettings(1, 14),
    )
    return record, make_row(record)


def blame(row):
    return row.outcome, row.failed_stage, row.decisive_event


@pytest.fixture
def make_run(tmp_path):
    """Return a function that runs episodes of a class of environments and opens the run."""

    def make(kind, *stops_before):
        with closing(
            RunFolder.create(
                tmp_path,
                describe_run(kind(0), "zero"),
            )
        ) as folder:
            for index, stop in enumerate(stops_before, start=100):
                record, row = roll_out(kind(stop), index)
                assert row.error == ""
                folder.append(record, row)
        return Run.open(folder.path)

    return make


def test_an_episode_of_a_new_kind_is_recorded_as_what_it_is(make_run):
    run = make_run(Reaching, 0, 3)
    success, failure = run.rows
    assert success.success
    assert (success.outcome, success.n_steps) == ("success", 8)
    assert blame(failure) == ("timeout", "near", "stalled")
    assert failure.decisive_step == 5
    assert failure.goal_kind == failure.kind_of_goal == "reach"
    assert failure.stages == failure.goal_stages == ("near",)
    assert failure.final_measures == {"distance_m": 3.0}
    for name in ("max_object_height_m", "final_goal_distance_m", "final_joint_progress"):
        assert getattr(failure, name) is None
    assert EpisodeRow.from_json(json.dumps(failure.to_json())) == failure
    arrays = run.load_arrays(failure)
    for name in ("object_height_m", "goal_distance_m", "joint_progress", "object_pos_world"):
        assert getattr(arrays, name) is None
    np.testing.assert_array_equal(
        arrays.measures[:, 0],
        [8, 7, 6, 5, 4, *[3] * 10],
    )
    np.testing.assert_array_equal(
        arrays.progress,
        np.zeros((15, 1)),
    )
    assert not arrays.is_of_pick_and_place
    assert run.description.env.goals == Point.spec.goals


def test_a_new_kind_is_counted_by_its_own_stages_and_in_no_pick_rate(make_run):
    rows = make_run(Reaching, 0, 3, 2).rows
    summary = summarise(rows)
    assert (summary.n_judged, summary.n_success, summary.n_unknown) == (3, 1, 0)
    assert np.isnan([summary.pick_rate, summary.drop_rate]).all()
    (near,) = count_stages(rows)
    assert (near.kind, near.stage) == ("reach", "near")
    assert (near.n_through, near.n_lost, near.n_episodes) == (1, 2, 3)
    assert "of 3, came through near 1; first stage not met: near 2" in check_outcomes(rows).evidence


def test_a_success_of_a_new_kind_is_not_suspected_because_no_object_moved(make_run):
    run = make_run(Reaching, 0, 0)
    arrays = [run.load_arrays(row) for row in run.rows]
    assert not check_early_success(run.rows, arrays, 1.0).is_problem


@pytest.mark.parametrize(
    "kind",
    [Winning, Aimless],
)
def test_where_only_success_is_known_episodes_succeed_or_run_out_of_time(make_run, kind):
    run = make_run(kind, 0, 3)
    success, failure = run.rows
    assert success.outcome == "success"
    assert blame(failure) == ("timeout", None, "end")
    assert run.load_arrays(success).goals_met[:, 0].tolist() == [False] * 8 + [True]
    assert count_stages(run.rows) == ()
    assert np.isnan(summarise(run.rows).pick_rate)
    finding = check_outcomes(run.rows)
    assert finding.finding == "1 of 2 episodes fail, at goals without stages"
    assert "; no stages" in finding.evidence
    report = ReportContent((compute_run_content(run, is_quick=True),))
    for render in (render_html, render_markdown):
        assert "The goals have no stages." in render(report)


def test_progress_of_another_kind_than_declared_is_an_error_that_says_so():
    class Wrong(Reaching):
        def progress(self):
            return (Progress(met=False),)

    record, row = roll_out(Wrong(0))
    assert row.outcome == "error"
    assert record.arrays is None
    assert "expected the stages of its kind 'reach': near, got none" in row.error
