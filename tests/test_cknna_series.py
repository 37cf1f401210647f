"""Tests scores against recorded series, on a run folder that is written by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_array_equal

from cknna.bank import open_bank
from cknna.bank_description import EMBEDDING, AuditRow, BankDescription, save_description
from cknna.config import ScoreConfig
from cknna.episode_features import EpisodeFeatures, episode_features_path, save_episode_features
from cknna.report import pairs_of, score_pair
from cknna.series import lift, load_reference
from sim.errors import UnknownNameError, WhiskerError
from sim.goals.pick_and_place import PICK_AND_PLACE
from tests import cknna_oracle as oracle

TASK = "pick"
DIM = 512
EVERY = 5
N_EPISODES = 20
CONFIG = ScoreConfig(topk=(10,), permutations=99)


def arrays_of(index):
    """Return the arrays of one episode, with an object, a distance and an action.

    The object begins at another place in every episode and then moves. The distance is a scalar.
    """
    rng = default_rng([7, index])
    n_steps = 60 + index % 3
    moved = np.cumsum(rng.normal(0, 0.004, (n_steps + 1, 3)), axis=0)
    position = np.array([0.3, 0, 0.1]) + rng.uniform(-0.15, 0.15, 3) + moved
    prediction_step = np.arange(0, n_steps, EVERY)
    return {
        "state": oracle.walks(rng, [n_steps + 1], 6).astype(np.float32),
        "action": rng.normal(size=(n_steps, 6)).astype(np.float32),
        "object_pos_world": position,
        "goal_distance_m": np.linalg.norm(position, axis=1),
        "joint_progress": np.full(n_steps + 1, np.nan),
        "is_at_rest": np.zeros(n_steps + 1, bool),
        "prediction_step": prediction_step,
        "chunk": np.zeros((len(prediction_step), 10, 6), np.float32),
    }


def random_waves(x):
    """Return random Fourier features of rows (Rahimi and Recht 2007).

    Their cosines are a function of distance alone.
    """
    rng = default_rng(3)
    wave = rng.normal(0, 5, (x.shape[1], DIM))
    return np.cos(x @ wave + rng.uniform(0, 2 * np.pi, DIM))


def write_run(folder, feature):
    """Write a run with the features `feature(arrays at the predictions)`."""
    row = AuditRow(
        EMBEDDING,
        ("model",),
        "Linear",
        (1, DIM),
        1,
        1,
        DIM,
        "none",
        "",
        "",
        "",
    )
    description = BankDescription(
        "rollout",
        "act",
        "here",
        {},
        False,
        (row,),
        "so101",
    )
    (folder / "episodes" / TASK).mkdir(parents=True)
    save_description(folder / "features.json", description)
    (folder / "run.json").write_text("{}")
    for index in range(N_EPISODES):
        arrays = arrays_of(index)
        at = arrays["prediction_step"]
        length = len(arrays["action"])
        np.savez(
            folder / "episodes" / TASK / f"{index}.npz",
            **arrays,
        )
        seen = {name: array[at] for name, array in arrays.items() if len(array) >= length}
        episode = EpisodeFeatures(
            {EMBEDDING: feature(seen).astype(np.float32)},
            seen["state"],
            at,
            np.zeros((len(at), 6), bool),
            tuple(PICK_AND_PLACE.stages),
            length,
            "success",
            True,
        )
        save_episode_features(folder / episode_features_path(TASK, index), episode)
    return folder


def of_object(seen):
    return random_waves(seen["object_pos_world"])


def of_distance(seen):
    return random_waves(seen["goal_distance_m"][:, None])


def of_nothing(seen):
    """Return an unrelated random walk, which is as smooth in time as the series."""
    seed = np.frombuffer(seen["state"].tobytes(), np.uint8)[:8].tolist()
    return oracle.walks(default_rng(seed), [len(seen["state"])], DIM)


@pytest.fixture(scope="module")
def run_of_object(tmp_path_factory):
    """Return a run whose features are a function of the object's position; no test changes it."""
    return write_run(tmp_path_factory.mktemp("of_object"), of_object)


def score(run, against):
    (pair,) = pairs_of(
        open_bank(run),
        "run",
        with_parts=False,
        against=against,
    )
    (row,) = score_pair(pair, CONFIG)
    return row


@pytest.mark.parametrize(
    ("feature", "against", "series"),
    [
        (of_object, "privileged", "object_pos_world"),
        (of_object, "object_pos_world", "object_pos_world"),
        (of_distance, "goal_distance_m", "goal_distance_m"),
    ],
)
def test_features_that_are_a_function_of_a_series_score_near_one_against_it_alone(
    tmp_path, feature, against, series
):
    run = write_run(tmp_path, feature)
    row = score(run, against)
    assert row.cknna > 0.9
    assert row.p_value < 0.05
    assert row.against == against
    assert score(run, "state").cknna < 0.5
    for note in row.notes:
        if "repeat" in note or "ties" in note:
            assert f"rows of the series {series}" in note


@pytest.mark.parametrize(
    "against",
    ["privileged", "goal_distance_m"],
)
def test_features_of_nothing_score_as_their_null(tmp_path, against):
    row = score(write_run(tmp_path, of_nothing), against)
    assert row.cknna < row.null_high
    assert row.p_value > 0.05


def test_the_nearest_rows_of_a_lifted_series_are_the_nearest_by_distance():
    series = default_rng(0).normal((3, -40, 0.5), 2, (300, 3))
    rows = lift(series).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    distance = np.linalg.norm(series[:, None] - series, axis=2)
    nearest, expected = (np.argsort(d, axis=1)[:, 1:11] for d in (-rows @ rows.T, distance))
    shared = [np.isin(*both).mean() for both in zip(nearest, expected, strict=True)]
    assert np.mean(shared) > 0.95


def test_rows_are_those_of_the_predictions_steps(run_of_object):
    bank = open_bank(run_of_object)
    found = load_reference(bank, "action")[:, :-1].ravel()
    in_order = bank.episode_index[bank.step == 0]
    expected = np.concatenate([arrays_of(index)["action"][::EVERY] for index in in_order])
    centred = (expected - expected.mean(0)).ravel()
    assert np.corrcoef(found, centred)[0, 1] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("against", "says"),
    [
        ("object_pos_wrld", "Did you mean 'object_pos_world'"),
        ("privilged", "Did you mean 'privileged'"),
        ("prediction_step", "expected a known name"),
        ("chunk", "expected a known name"),
        (
            "joint_progress",
            "expected finite numbers at every prediction, got NaN or infinity at 253 of 253",
        ),
        ("is_at_rest", "expected rows that differ, got the same in all 253 rows"),
    ],
)
def test_a_series_that_says_nothing_is_refused(run_of_object, against, says):
    with pytest.raises(WhiskerError, match=says):
        score(run_of_object, against)


def test_a_file_without_series_is_damaged(tmp_path):
    run = write_run(tmp_path, of_object)
    (run / "episodes" / TASK / "3.npz").write_bytes(b"PK")
    with pytest.raises(WhiskerError, match=r"3.npz': expected the recorded arrays"):
        score(run, "privileged")


def test_an_extracted_bank_is_scored_against_the_run_that_it_was_shown(run_of_object, tmp_path):
    bank = open_bank(run_of_object)

    def extracted_from(run):
        description = replace(
            bank.description,
            kind="extracted",
            source=str(run),
        )
        return replace(bank, description=description, path=tmp_path)

    shown = extracted_from(run_of_object)
    assert_array_equal(
        load_reference(shown, "privileged"),
        load_reference(bank, "privileged"),
    )
    with pytest.raises(UnknownNameError, match="'ee_pos_world'"):
        load_reference(shown, "ee_pos_world")
    gone = extracted_from(tmp_path / "gone")
    with pytest.raises(WhiskerError, match="gone', which is not there"):
        load_reference(gone, "privileged")
    assert_array_equal(load_reference(gone, "state"), bank.state)
