"""Film strips match the films of the same episodes, and stay within their budget of bytes."""

from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest

from eval.outcome import Event, Outcome, rank_outcome
from eval.run import Run
from sim.errors import WhiskerError
from tests.test_viz_report_start_map import make_rows
from viz.overlay import compute_overlay, draw_overlay, find_trail_begin
from viz.report import film_strips
from viz.report.film_strips import StripArtist, choose_view, make_film_strips, sort_by_outcome
from viz.report.strip_budget import count_url_bytes
from viz.report.strip_moments import choose_moments
from viz.whiskers import compute_whiskers, load_planned_arrays


@pytest.fixture(scope="module")
def run(failed_run):
    return Run.open(failed_run)


@pytest.fixture(scope="module")
def failed(run):
    return next(row for row in run.rows if not row.success)


@pytest.fixture(scope="module")
def strips(run):
    return make_film_strips(run)


def decode(frame):
    return cv2.imdecode(
        np.frombuffer(frame.jpeg, np.uint8),
        cv2.IMREAD_COLOR,
    )[..., ::-1]


def test_only_failures_have_a_strip_and_it_shows_the_decisive_step(strips, failed):
    (strip,) = strips.strips
    assert strip.row == failed and strips.remarks == []
    moments = [frame.moment for frame in strip.frames]
    assert 4 <= len(moments) <= 5 and [m.step for m in moments] == sorted({m.step for m in moments})
    (decisive,) = (moment for moment in moments if moment.is_decisive)
    words = failed.decisive_event.replace("_", " ")
    assert (
        decisive.step == failed.shown_step
        and decisive.caption == f"step {failed.shown_step} · {words}"
    )


def test_a_frame_is_what_a_film_shows_of_the_step(run, failed):
    """A film simulates whole plans; a strip takes the executed part from the recording."""
    arrays = load_planned_arrays(run, failed)
    camera, (height, width), rendered_size = choose_view(run, failed.task, 120)
    with closing(StripArtist(run, failed.task, 120)) as artist:
        drawn = artist.draw_strip(failed)
    with closing(run.open_env(failed.task, {camera: rendered_size})) as env:
        whiskers = compute_whiskers(env, arrays)
        corners = set()
        for moment, image in drawn:
            begin = find_trail_begin(arrays.prediction_step, moment.step, env.spec.control_dt_s)
            overlay = compute_overlay(whiskers, arrays, moment.step, begin)
            env.restore(arrays.step_snapshot[moment.step])
            whole = draw_overlay(
                env.observe().images[camera], env.projection(camera), replace(overlay, ghosts=())
            )
            assert image.shape == (height, width, 3)
            rows, columns = (
                range(n - m + 1) for n, m in zip(rendered_size, (height, width), strict=True)
            )
            corners |= {
                (row, column)
                for row in rows
                for column in columns
                if np.array_equal(
                    whole[row : row + height, column : column + width],
                    image,
                )
            }
    # Every frame is found in its film's frame, always at the same position.
    assert len(corners) == 1


def test_the_files_are_pictures_of_the_frames(strips, run, failed):
    (strip,) = strips.strips
    with closing(StripArtist(run, failed.task, strip.height_px)) as artist:
        drawn = artist.draw_strip(failed)
    for frame, (moment, image) in zip(strip.frames, drawn, strict=True):
        assert frame.moment == moment and frame.url.startswith("data:image/jpeg;base64,")
        assert len(frame.url) == count_url_bytes(frame.jpeg)
        assert np.abs(decode(frame).astype(int) - image).mean() < 4


def test_the_bytes_are_held_and_what_has_no_room_is_counted(run, failed, monkeypatch):
    """The one recorded failure serves as eight episodes of two outcomes, which share its file."""
    arrays = load_planned_arrays(run, failed)
    monkeypatch.setattr(film_strips, "load_planned_arrays", lambda run, row: arrays)
    outcomes = (Outcome.TIMEOUT, Outcome.NEVER_PICKED_UP) * 4
    rows = [
        replace(
            failed,
            episode_index=i,
            outcome=outcome,
        )
        for i, outcome in enumerate(outcomes)
    ]
    sizes = []
    for n_bytes in (200_000, 60_000, 30_000):
        made = make_film_strips(run, rows, n_bytes)
        assert sum(len(f.url) for s in made.strips for f in s.frames) <= n_bytes
        assert len(made.strips) + made.n_left_out == 8
        sizes.append((len(made.strips), made.strips[0].height_px))
        shown = [strip.row.outcome for strip in made.strips]
        assert shown == sorted(shown, key=rank_outcome) and len(set(shown)) == 2
    assert sizes[0][0] == 8 > sizes[-1][0] and sizes[0][1] > sizes[-1][1]
    assert made.remarks == [
        f"{made.n_left_out} of 8 failed episodes are left out, "
        "spread evenly, so that the page stays small."
    ]
    with pytest.raises(WhiskerError, match="room for at least"):
        make_film_strips(run, rows, 100)


def test_a_lost_file_costs_its_own_strip_alone(run, failed, monkeypatch):
    lost = replace(failed, episode_index=77)
    crashed = replace(
        failed, episode_index=78, outcome=Outcome.ERROR, n_predictions=0, error="Crash: it did"
    )
    n_done = []
    made = make_film_strips(run, [lost, failed, crashed], advance=lambda: n_done.append(1))
    assert (
        [strip.row for strip in made.strips] == [failed]
        and len(n_done) == 3
        and made.n_left_out == 0
    )
    assert (
        "Episode 77 of 'pick_place' cannot be shown" in made.remarks[0]
        and "Crash: it did" in made.remarks[1]
    )
    assert make_film_strips(run, []).strips == ()


def test_a_task_that_cannot_be_opened_is_named(run, failed):
    of_gone = [
        replace(
            failed,
            task="gone",
            episode_index=i,
        )
        for i in range(3)
    ]
    made = make_film_strips(run, [failed, *of_gone])
    assert len(made.strips) == len(made.remarks) == 1
    assert made.remarks[0].startswith("The failed episodes of 'gone' cannot be shown")


def test_strips_are_sorted_by_outcome_then_by_episode():
    rows = make_rows(np.zeros(12, bool))
    ranks = [rank_outcome(row.outcome) for row in sort_by_outcome(rows[::-1])]
    assert ranks == sorted(ranks)
    assert [row.episode_index for row in sort_by_outcome(rows[::-1])][:3] == [0, 4, 8]


def choose(decisive_step, event, n_steps=300, every=20):
    (row,) = make_rows([False])
    row = replace(
        row,
        n_steps=n_steps,
        decisive_step=decisive_step,
        decisive_event=event,
    )
    moments = choose_moments(
        row,
        np.arange(0, max(1, n_steps), every),
        1 / 30,
    )
    assert sum(moment.is_decisive for moment in moments) == 1
    return [moment.step for moment in moments], [moment.caption for moment in moments]


def test_moments_are_start_plan_decision_after_and_end():
    steps, captions = choose(66, Event.LOST_GRASP)
    assert steps == [0, 40, 66, 96, 300]
    assert captions == [
        "step 0 · start",
        "step 40 · plan before",
        "step 66 · lost grasp",
        "step 96 · 1 s later",
        "step 300 · end",
    ]


@pytest.mark.parametrize(
    ("decisive_step", "event", "n_steps", "expected"),
    [
        # The moments are the middles of the longest gaps.
        (300, Event.END, 300, [0, 70, 140, 280, 300]),
        (0, Event.CLOSEST_APPROACH, 300, [0, 30, 97, 165, 300]),
        (9, Event.CLOSED_ON_NOTHING, 9, [0, 4, 9]),
        (0, Event.ERROR, 0, [0]),
        (299, Event.LET_GO, 300, [0, 70, 140, 280, 299]),
    ],
)
def test_moments_are_distinct_whatever_was_decisive(decisive_step, event, n_steps, expected):
    assert choose(decisive_step, event, n_steps)[0] == expected


def test_an_older_row_says_its_outcome():
    assert "step 10 · never picked up" in choose(None, None, 10)[1]
