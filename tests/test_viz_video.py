from contextlib import closing
from unittest.mock import Mock, call

import imageio.v3 as iio
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from eval.run_folder import video_path
from policies.baselines import ScriptedPolicy
from sim.errors import WhiskerError
from sim.registry import make_env
from sim.so101.scene_config import VIEWER_CAMERA
from tests.recordings import record_episode, save_episode
from tests.runs import describe_run
from tests.test_viz_whiskers import record_chunks
from viz.episode_film import MAIN_SIZE, EpisodeFilm, open_camera_film
from viz.overlay_style import LINES
from viz.video import VideoConfig, draw_step, film_run, film_whiskers

PLAN, TAKEN, GHOST = (LINES[kind].colour for kind in ("plan", "taken", "ghost"))


def record_expert(env, max_steps, folder):
    """Return a run of one episode of the scripted expert, which plans at every step."""
    record = record_episode(env, ScriptedPolicy(env), max_steps=max_steps)
    return save_episode(record, folder, describe_run(env, "scripted"))


def record_in(env_name, folder):
    with closing(make_env(env_name, image_sizes={})) as env:
        return record_chunks(env, folder)


@pytest.fixture(scope="module")
def run(blind_env, tmp_path_factory):
    """Return a run whose only episode is cut short, so that it fails."""
    return record_expert(
        blind_env,
        9,
        tmp_path_factory.mktemp("runs"),
    )


@pytest.fixture(scope="module")
def row(run):
    return run.rows[0]


def test_a_film_is_h264_with_a_frame_a_moment_at_the_control_rate(run, row):
    (path,) = film_run(VideoConfig(run.path, "failures", quiet=True))
    assert path == run.path / video_path(row)
    assert path.name == "0-never_picked_up.mp4"
    meta = iio.immeta(path, plugin="pyav")
    assert meta["codec"] == "h264"
    assert meta["fps"] == 30
    n_frames, _, width, _ = iio.imread(path, plugin="pyav").shape
    assert n_frames == 10
    assert width == MAIN_SIZE[1] + MAIN_SIZE[1] // 2
    assert list(path.parent.iterdir()) == [path]
    # What is filmed already is left alone.
    assert film_run(VideoConfig(run.path, quiet=True)) == []


@pytest.mark.slow
def test_two_workers_film_what_one_does(six_failures):
    one = read_films(six_failures, workers=1)
    assert len(one) == 6
    two = read_films(six_failures, workers=2)
    assert list(two) == list(one)
    # The encoder gives now and then other bytes for the same frames, but not those of another film.
    for path, film in one.items():
        distances = {other: np.abs(film.astype(int) - two[other]).mean() for other in two}
        own = distances.pop(path)
        assert own < min(distances.values()) / 2, (own, distances)


def read_films(run, workers):
    """Film a run, and return the frames of its films by their paths. The films are removed."""
    paths = film_run(VideoConfig(run.path, workers=workers, quiet=True))
    films = {path: iio.imread(path, plugin="pyav") for path in paths}
    for path in paths:
        path.unlink()
    return films


def test_frames_show_the_recorded_states(run, row):
    """A state that is rendered twice gives the same frame.

    The arm moves between the first and the last frame.
    """
    with closing(EpisodeFilm(run, "pick_place")) as film:
        first, *_, last = film.frames(row)
        again, *_ = film.frames(row)
    assert_array_equal(first, again)
    picture = slice(0, MAIN_SIZE[0])
    assert np.abs(first[picture].astype(int) - last[picture]).mean() > 1


def test_the_rate_can_be_chosen(run, row):
    with closing(EpisodeFilm(run, "pick_place", fps=10)) as film:
        assert len(list(film.frames(row))) == 4


@pytest.fixture(scope="module")
def chunked_run(blind_env, tmp_path_factory):
    """Return a run of twelve steps, with six actions a plan, four of them executed."""
    return record_chunks(
        blind_env,
        tmp_path_factory.mktemp("runs"),
    )


@pytest.fixture(scope="module")
def chunked_row(chunked_run):
    return chunked_run.rows[0]


def n_pixels(image, colour):
    return int((np.abs(image.astype(int) - colour).max(axis=-1) <= 12).sum())


def test_a_still_shows_the_plan_the_way_taken_and_the_plans_before(
    chunked_run, chunked_row, tmp_path
):
    counts = []
    for step in (0, 10):
        path = tmp_path / f"{step}.png"
        draw_step(
            chunked_run,
            chunked_row,
            step,
            path,
        )
        image = iio.imread(path)
        assert image.shape == (960, 1280, 3)
        # The legend begins below these rows.
        counts.append([n_pixels(image[:780], colour) for colour in (PLAN, TAKEN, GHOST)])
    assert counts[0][0] > 100
    assert counts[0][1:] == [0, 0]
    assert min(counts[1][:2]) > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "10.png"]


def test_a_still_does_not_depend_on_what_was_drawn_before(chunked_run, chunked_row):
    views = {"wrist_cam": (120, 160)}
    with closing(EpisodeFilm(chunked_run, "pick_place", views=views)) as film:
        first = film.still(chunked_row, 5)
        list(film.frames(chunked_row))
        assert_array_equal(film.still(chunked_row, 5), first)


@pytest.mark.parametrize(
    "camera",
    [VIEWER_CAMERA, pytest.param("wrist_cam_depth", marks=pytest.mark.slow)],
)
def test_one_cameras_film_of_the_whiskers(chunked_run, chunked_row, tmp_path, camera):
    """The film says how far it is by frames."""
    path = tmp_path / "new folder" / "whiskers.mp4"
    report = Mock()
    film_whiskers(
        chunked_run,
        chunked_row,
        path,
        camera,
        report=report,
    )
    assert iio.immeta(path, plugin="pyav")["codec"] == "h264"
    assert iio.imread(path, plugin="pyav").shape == (13, 536, 640, 3)
    drawn = [each for each in report.call_args_list if each.args[0] == "drawing frame"]
    assert drawn == [call("drawing frame", nth, 13) for nth in range(1, 14)]


def test_a_film_draws_the_way_taken_since_the_last_two_plans(blind_env, tmp_path):
    """The expert plans at every step, so the trail is half a second of its 1.6 s."""
    run = record_expert(blind_env, 48, tmp_path)
    views = {"overhead_cam": (240, 320)}
    counts = []
    for trail in (2, 0):
        with closing(
            EpisodeFilm(
                run,
                "pick_place",
                views=views,
                trail=trail,
            )
        ) as film:
            counts.append(
                n_pixels(
                    film.still(run.rows[0], 48)[:190],
                    TAKEN,
                )
            )
    assert 0 < counts[0] < counts[1]
    with pytest.raises(WhiskerError, match="--trail -1"):
        film_run(VideoConfig(run.path, trail=-1))


@pytest.mark.slow
def test_a_film_in_libero_is_square(tmp_path):
    run = record_in("libero_goal/7", tmp_path)
    (row,) = run.rows
    with closing(open_camera_film(run, row.task, size=(480, 640))) as film:
        image = film.still(row, 6)
    assert image.shape == (480, 480, 3)
    for colour in (PLAN, TAKEN):
        assert n_pixels(image[:380], colour) > 10


def test_an_unknown_camera_names_those_there_are(chunked_run, chunked_row, tmp_path):
    with pytest.raises(WhiskerError, match=r"one of viewer_cam, overhead_cam, wrist_cam"):
        film_whiskers(
            chunked_run,
            chunked_row,
            tmp_path / "film.mp4",
            "front",
        )
    with pytest.raises(WhiskerError, match="0 to 12"):
        draw_step(
            chunked_run,
            chunked_row,
            13,
            tmp_path / "still.png",
        )
    assert not list(tmp_path.iterdir())


def test_a_users_own_scene_has_no_camera_for_people(own_scene, tmp_path):
    run = record_in(
        f"so101/pick_place@{own_scene}",
        tmp_path,
    )
    (row,) = run.rows
    with closing(open_camera_film(run, row.task, size=(240, 320))) as film:
        assert film.still(row, 6).shape == (240, 320, 3)
    with pytest.raises(WhiskerError, match=r"one of overhead_cam, wrist_cam"):
        draw_step(
            run,
            row,
            6,
            tmp_path / "still.png",
            VIEWER_CAMERA,
        )
