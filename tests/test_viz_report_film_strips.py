"""Film strips match the films of the same episodes, and stay within their budget of bytes."""

from contextlib import closing
from dataclasses import replace
from unittest.mock import Mock

import imageio.v3 as iio
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from eval.outcome import Event, Outcome, rank_outcome
from sim.errors import WhiskerError
from tests.test_viz_report_start_map import make_rows
from viz.overlay import compute_overlay, draw_overlay, find_trail_begin
from viz.report import strip_artist
from viz.report.film_strips import make_film_strips, sort_by_outcome
from viz.report.strip_artist import StripArtist, choose_view
from viz.report.strip_budget import count_url_bytes
from viz.report.strip_moments import choose_moments
from viz.whiskers import compute_whiskers, load_planned_arrays


@pytest.fixture(scope="module")
def strips(opened_run):
    return make_film_strips(opened_run)


@pytest.fixture(scope="module")
def strip(strips):
    (strip,) = strips.strips
    return strip


def test_only_failures_have_a_strip_and_it_shows_the_decisive_step(strips, strip, failure):
    assert strip.row == failure
    assert strips.remarks == []
    moments = [frame.moment for frame in strip.frames]
    assert 4 <= len(moments) <= 5
    steps = [moment.step for moment in moments]
    assert steps == sorted(set(steps))
    (decisive,) = (moment for moment in moments if moment.is_decisive)
    words = failure.decisive_event.replace("_", " ")
    assert decisive.step == failure.shown_step
    assert decisive.caption == f"step {failure.shown_step} · {words}"


def test_a_frame_is_what_a_film_shows_of_the_step(opened_run, failure):
    """A film simulates whole plans; a strip takes the executed part from the recording."""
    arrays = load_planned_arrays(opened_run, failure)
    camera, size, rendered_size = choose_view(opened_run, failure.task, 120)
    with closing(StripArtist(opened_run, failure.task, 120)) as artist:
        drawn = artist.draw_strip(failure)
    corners = set()
    with closing(opened_run.open_env(failure.task, {camera: rendered_size})) as env:
        whiskers = compute_whiskers(env, arrays)
        for moment, image in drawn:
            begin = find_trail_begin(arrays.prediction_step, moment.step, env.spec.control_dt_s)
            overlay = compute_overlay(
                whiskers,
                arrays,
                moment.step,
                begin,
            )
            env.restore(arrays.step_snapshot[moment.step])
            whole = draw_overlay(
                env.observe().images[camera], env.projection(camera), replace(overlay, ghosts=())
            )
            assert image.shape == (*size, 3)
            windows = sliding_window_view(whole, image.shape)[:, :, 0]
            is_there = (windows == image).all(axis=(2, 3, 4))
            corners.update(map(tuple, np.argwhere(is_there)))
    # Every frame is found in its film's frame, always at the same position.
    assert len(corners) == 1


def test_the_files_are_pictures_of_the_frames(strip, opened_run, failure):
    with closing(StripArtist(opened_run, failure.task, strip.height_px)) as artist:
        drawn = artist.draw_strip(failure)
    for frame, (moment, image) in zip(strip.frames, drawn, strict=True):
        assert frame.moment == moment
        assert frame.url.startswith("data:image/jpeg;base64,")
        assert len(frame.url) == count_url_bytes(frame.jpeg)
        assert np.abs(iio.imread(frame.jpeg).astype(int) - image).mean() < 4


def test_the_bytes_are_held_and_what_has_no_room_is_counted(opened_run, failure, monkeypatch):
    """The one recorded failure serves as eight episodes of two outcomes, which share its file."""
    arrays = load_planned_arrays(opened_run, failure)
    monkeypatch.setattr(strip_artist, "load_planned_arrays", lambda run, row: arrays)
    rows = []
    for i in range(8):
        outcome = Outcome.NEVER_PICKED_UP if i % 2 else Outcome.TIMEOUT
        rows.append(
            replace(
                failure,
                episode_index=i,
                outcome=outcome,
            )
        )
    n_strips = []
    heights_px = []
    for n_bytes in (200_000, 60_000, 30_000):
        made = make_film_strips(opened_run, rows, n_bytes)
        urls = [frame.url for strip in made.strips for frame in strip.frames]
        assert sum(map(len, urls)) <= n_bytes
        n_strips.append(len(made.strips))
        assert n_strips[-1] + made.n_left_out == 8
        heights_px.append(made.strips[0].height_px)
        shown = [strip.row.outcome for strip in made.strips]
        assert shown == sorted(shown, key=rank_outcome)
        assert len(set(shown)) == 2
    assert n_strips[0] == 8 > n_strips[-1]
    assert heights_px[0] > heights_px[-1]
    assert made.remarks == [
        f"{made.n_left_out} of 8 failed episodes are left out, "
        "spread evenly, so that the page stays small."
    ]
    with pytest.raises(WhiskerError, match="room for at least"):
        make_film_strips(opened_run, rows, 100)


def test_a_lost_file_costs_its_own_strip_alone(opened_run, failure):
    lost = replace(failure, episode_index=77)
    crashed = replace(
        failure, episode_index=78, outcome=Outcome.ERROR, n_predictions=0, error="Crash: it did"
    )
    advance = Mock()
    made = make_film_strips(opened_run, [lost, failure, crashed], advance=advance)
    assert [strip.row for strip in made.strips] == [failure]
    assert advance.call_count == 3
    assert made.n_left_out == 0
    assert "Episode 77 of 'pick_place' cannot be shown" in made.remarks[0]
    assert "Crash: it did" in made.remarks[1]
    assert make_film_strips(opened_run, []).strips == ()


def test_a_task_that_cannot_be_opened_is_named(opened_run, failure):
    of_gone = [
        replace(
            failure,
            task="gone",
            episode_index=i,
        )
        for i in range(3)
    ]
    made = make_film_strips(opened_run, [failure, *of_gone])
    assert len(made.strips) == len(made.remarks) == 1
    assert made.remarks[0].startswith("The failed episodes of 'gone' cannot be shown")


def test_workers_make_the_same_strips_to_the_last_bit(six_failures):
    advance = Mock()
    one = make_film_strips(six_failures)
    assert len(one.strips) == 6
    assert make_film_strips(six_failures, advance=advance, workers=2) == one
    assert advance.call_count == 6


def test_strips_are_sorted_by_outcome_then_by_episode():
    rows = make_rows(np.zeros(12, bool))
    in_order = sort_by_outcome(rows[::-1])
    ranks = [rank_outcome(row.outcome) for row in in_order]
    assert ranks == sorted(ranks)
    assert [row.episode_index for row in in_order[:3]] == [0, 4, 8]


def choose(decisive_step, event, n_steps=300):
    """Return the moments of a failure with a plan at every twentieth step."""
    (row,) = make_rows([False])
    row = replace(
        row,
        n_steps=n_steps,
        decisive_step=decisive_step,
        decisive_event=event,
    )
    moments = choose_moments(
        row,
        np.arange(0, max(1, n_steps), 20),
        1 / 30,
    )
    assert sum(moment.is_decisive for moment in moments) == 1
    return moments


def test_moments_are_start_plan_decision_after_and_end():
    assert [moment.caption for moment in choose(66, Event.LOST_GRASP)] == [
        "step 0 · start",
        "step 40 · plan before",
        "step 66 · lost grasp",
        "step 96 · 1 s later",
        "step 300 · end",
    ]


@pytest.mark.parametrize(
    ("decisive_step", "event", "n_steps", "expected"),
    [
        (66, Event.LOST_GRASP, 300, [0, 40, 66, 96, 300]),
        # The moments are the middles of the longest gaps.
        (300, Event.END, 300, [0, 70, 140, 280, 300]),
        (0, Event.CLOSEST_APPROACH, 300, [0, 30, 97, 165, 300]),
        (9, Event.CLOSED_ON_NOTHING, 9, [0, 4, 9]),
        (0, Event.ERROR, 0, [0]),
        (299, Event.LET_GO, 300, [0, 70, 140, 280, 299]),
    ],
)
def test_moments_are_distinct_whatever_was_decisive(decisive_step, event, n_steps, expected):
    assert [moment.step for moment in choose(decisive_step, event, n_steps)] == expected


def test_an_older_row_says_its_outcome():
    captions = [moment.caption for moment in choose(None, None, 10)]
    assert "step 10 · never picked up" in captions
