from contextlib import closing

import imageio.v3 as iio
import numpy as np
import pytest

from eval.drivers import run_episode
from eval.episode_row import load_rows, make_row
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_folder import RunFolder, video_path
from policies.baselines import BASELINES
from sim.errors import WhiskerError
from sim.registry import make_env
from sim.so101.scene_config import VIEWER_CAMERA
from tests.runs import describe_run
from tests.test_viz_whiskers import record
from viz.episode_film import MAIN_SIZE, EpisodeFilm, open_camera_film
from viz.overlay_style import LINES
from viz.video import VideoConfig, draw_step, film_run, film_whiskers

PLAN, TAKEN, GHOST = (LINES[kind].colour for kind in ("plan", "taken", "ghost"))


@pytest.fixture(scope="module")
def run(blind_env, tmp_path_factory):
    """Return a run whose only episode is cut short, so that it fails."""
    folder = tmp_path_factory.mktemp("runs")
    run = RunFolder.create(folder, describe_run(blind_env, "scripted"))
    record = run_episode(
        blind_env,
        BASELINES["scripted"](blind_env),
        0,
        EpisodeRecorder(),
        RolloutSettings(1, max_steps=9),
    )
    run.append(record, make_row(record))
    run.close()
    return run.path


def test_a_film_says_how_far_it_is_by_frames(run, tmp_path):
    said = []
    row = load_rows(run)[0]
    film_whiskers(
        Run.open(run), row, tmp_path / "film.mp4", report=lambda *progress: said.append(progress)
    )
    assert [progress for progress in said if progress[0] == "drawing frame"] == [
        ("drawing frame", nth, 10) for nth in range(1, 11)
    ]


def test_a_film_is_h264_with_a_frame_a_moment_at_the_control_rate(run):
    (path,) = film_run(VideoConfig(run, "failures", quiet=True))
    assert path == run / video_path(load_rows(run)[0]) and path.name == "0-never_picked_up.mp4"
    meta = iio.immeta(path, plugin="pyav")
    assert meta["codec"] == "h264" and meta["fps"] == 30
    frames = iio.imread(path, plugin="pyav")
    assert frames.shape[0] == 10 and frames.shape[2] == MAIN_SIZE[1] + MAIN_SIZE[1] // 2
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_is_filmed_already_is_left_alone(run):
    film_run(VideoConfig(run, quiet=True))
    assert film_run(VideoConfig(run, quiet=True)) == []


def test_frames_show_the_recorded_states(run):
    """A state that is rendered twice gives the same frame.

    The arm moves between the first and the last frame.
    """
    film, (row,) = EpisodeFilm(Run.open(run), "pick_place"), load_rows(run)
    first, *_, last = film.frames(row)
    again, *_ = film.frames(row)
    film.close()
    np.testing.assert_array_equal(first, again)
    picture = slice(0, MAIN_SIZE[0])
    assert np.abs(first[picture].astype(int) - last[picture]).mean() > 1


def test_the_rate_can_be_chosen(run):
    film, (row,) = EpisodeFilm(Run.open(run), "pick_place", fps=10), load_rows(run)
    assert len(list(film.frames(row))) == 4
    film.close()


@pytest.fixture(scope="module")
def chunked_run(blind_env, tmp_path_factory):
    """Return a run of twelve steps, with six actions a plan, four of them executed."""
    _, run = record(
        blind_env,
        4,
        tmp_path_factory.mktemp("runs"),
    )
    return run


@pytest.fixture(scope="module")
def small_film_run(blind_env, tmp_path_factory):
    """Return a run of forty-eight steps of the scripted expert, which plans at every step."""
    run = RunFolder.create(
        tmp_path_factory.mktemp("runs"),
        describe_run(blind_env, "scripted"),
    )
    record = run_episode(
        blind_env,
        BASELINES["scripted"](blind_env),
        0,
        EpisodeRecorder(),
        RolloutSettings(1, max_steps=48),
    )
    run.append(record, make_row(record))
    run.close()
    return run.path


def n_pixels(image, colour):
    return int((np.abs(image.astype(int) - colour).max(axis=-1) <= 12).sum())


def test_a_still_shows_the_plan_the_way_taken_and_the_plans_before(chunked_run, tmp_path):
    (row,) = load_rows(chunked_run)
    counts = []
    for step in (0, 10):
        draw_step(
            Run.open(chunked_run),
            row,
            step,
            tmp_path / f"{step}.png",
        )
        # The legend begins below these rows.
        image = iio.imread(tmp_path / f"{step}.png")[:780]
        assert iio.imread(tmp_path / f"{step}.png").shape == (960, 1280, 3)
        counts.append([n_pixels(image, colour) for colour in (PLAN, TAKEN, GHOST)])
    assert counts[0][0] > 100 and counts[0][1:] == [0, 0]
    assert min(counts[1][:2]) > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "10.png"]


def test_a_still_does_not_depend_on_what_was_drawn_before(chunked_run):
    (row,) = load_rows(chunked_run)
    film = EpisodeFilm(Run.open(chunked_run), row.task, views={"wrist_cam": (120, 160)})
    first = film.still(row, 5)
    list(film.frames(row))
    np.testing.assert_array_equal(film.still(row, 5), first)
    film.close()


@pytest.mark.parametrize("camera", [VIEWER_CAMERA, "wrist_cam_depth"])
def test_one_cameras_film_of_the_whiskers(chunked_run, tmp_path, camera):
    path = tmp_path / "new folder" / "whiskers.mp4"
    film_whiskers(
        Run.open(chunked_run),
        load_rows(chunked_run)[0],
        path,
        camera,
    )
    frames = iio.imread(path, plugin="pyav")
    assert iio.immeta(path, plugin="pyav")["codec"] == "h264"
    assert frames.shape == (13, 536, 640, 3)


def test_a_film_draws_the_way_taken_since_the_last_two_plans(small_film_run):
    """The expert plans at every step, so the trail is half a second of its 1.6 s."""
    (row,) = load_rows(small_film_run)
    counts = []
    for trail in (2, 0):
        with closing(
            EpisodeFilm(
                Run.open(small_film_run), row.task, views={"overhead_cam": (240, 320)}, trail=trail
            )
        ) as film:
            counts.append(n_pixels(film.still(row, 48)[:190], TAKEN))
    assert 0 < counts[0] < counts[1]
    with pytest.raises(WhiskerError, match="--trail -1"):
        film_run(VideoConfig(small_film_run, trail=-1))


def test_every_frame_is_reported(chunked_run, tmp_path):
    reports = []
    film_whiskers(
        Run.open(chunked_run),
        load_rows(chunked_run)[0],
        tmp_path / "a.mp4",
        report=lambda *report: reports.append(report),
    )
    assert [report for report in reports if report[0] == "drawing frame"] == [
        ("drawing frame", n, 13) for n in range(1, 14)
    ]


@pytest.mark.slow
def test_a_film_in_libero_is_square(tmp_path):
    env = make_env("libero_goal/7", image_sizes={})
    _, run = record(env, 4, tmp_path)
    env.close()
    (row,) = load_rows(run)
    with closing(open_camera_film(Run.open(run), row.task, size=(480, 640))) as film:
        image = film.still(row, 6)
    assert (
        image.shape == (480, 480, 3) and min(n_pixels(image[:380], c) for c in (PLAN, TAKEN)) > 10
    )


def test_an_unknown_camera_names_those_there_are(chunked_run, tmp_path):
    (row,) = load_rows(chunked_run)
    with pytest.raises(WhiskerError, match=r"one of viewer_cam, overhead_cam, wrist_cam"):
        film_whiskers(
            Run.open(chunked_run),
            row,
            tmp_path / "film.mp4",
            "front",
        )
    with pytest.raises(WhiskerError, match="0 to 12"):
        draw_step(
            Run.open(chunked_run),
            row,
            13,
            tmp_path / "still.png",
        )
    assert not list(tmp_path.iterdir())


def test_a_users_own_scene_has_no_camera_for_people(own_scene, tmp_path):
    env = make_env(f"so101/pick_place@{own_scene}", image_sizes={})
    _, run = record(env, 4, tmp_path)
    env.close()
    (row,) = load_rows(run)
    with closing(open_camera_film(Run.open(run), row.task, size=(240, 320))) as film:
        assert film.still(row, 6).shape == (240, 320, 3)
    with pytest.raises(WhiskerError, match=r"one of overhead_cam, wrist_cam"):
        draw_step(
            Run.open(run),
            row,
            6,
            tmp_path / "still.png",
            VIEWER_CAMERA,
        )
