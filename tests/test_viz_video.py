import imageio.v3 as iio
import numpy as np
import pytest

from eval.outcome import OutcomeThresholds
from eval.recorder import EpisodeRecorder
from eval.rollout import run_episode
from eval.run_folder import RunFolder, load_rows, make_row, video_path
from policies.baselines import BASELINES
from viz.video import INSET_SIZE, MAIN_SIZE, EpisodeFilm, VideoConfig, film_run


@pytest.fixture(scope="module")
def run(blind_env, tmp_path_factory):
    """One episode cut short, so that it fails, and one crash."""
    folder = tmp_path_factory.mktemp("runs")
    run = RunFolder.create(folder, "scripted", "so101/pick_place", {"config": {}, "env": {"name": "so101/pick_place"}})
    record = run_episode(blind_env, BASELINES["scripted"](blind_env), 0, EpisodeRecorder(), 1, horizon=9)
    run.append(record, make_row(record, OutcomeThresholds()))
    run.close()
    return run.path


def test_a_film_is_h264_with_a_frame_a_moment_at_the_control_rate(run):
    (path,) = film_run(VideoConfig(run, "failures", quiet=True))
    assert path == run / video_path(load_rows(run)[0]) and path.name == "0-never_picked_up.mp4"
    meta = iio.immeta(path, plugin="pyav")
    assert meta["codec"] == "h264" and meta["fps"] == 30
    frames = iio.imread(path, plugin="pyav")
    assert frames.shape[0] == 10 and frames.shape[2] == MAIN_SIZE[1] + INSET_SIZE[1]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_what_is_filmed_already_is_left_alone(run):
    film_run(VideoConfig(run, quiet=True))
    assert film_run(VideoConfig(run, quiet=True)) == []


def test_frames_show_the_recorded_states(run):
    """Rendering a state twice gives the same frame, and the arm moves between the first and the last."""
    film, (row,) = EpisodeFilm("so101/pick_place"), load_rows(run)
    first, *_, last = film.frames(run, row)
    again, *_ = film.frames(run, row)
    film.close()
    np.testing.assert_array_equal(first, again)
    picture = slice(0, MAIN_SIZE[0])
    assert np.abs(first[picture].astype(int) - last[picture]).mean() > 1


def test_the_rate_can_be_chosen(run):
    film, (row,) = EpisodeFilm("so101/pick_place", fps=10), load_rows(run)
    assert len(list(film.frames(run, row))) == 4
    film.close()
