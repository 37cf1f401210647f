"""Tests scores against recorded series, on a run folder that is written by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

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
N_STEPS = 60
CONFIG = ScoreConfig(topk=(10,), permutations=99)


def arrays_of(index):
    """Return the arrays of one episode, with an object, a distance and an action.

    The object begins at another place in every episode and then moves. The distance is a scalar.
    """
    rng = np.random.default_rng([7, index])
    n_steps = N_STEPS + index % 3
    moved = np.cumsum(
        rng.normal(0, 0.004, (n_steps + 1, 3)),
        axis=0,
    )
    position = np.array([0.3, 0, 0.1]) + rng.uniform(-0.15, 0.15, 3) + moved
    return {
        "state": oracle.walks(rng, [n_steps + 1], 6).astype(np.float32),
        "action": rng.normal(size=(n_steps, 6)).astype(np.float32),
        "object_pos_world": position,
        "goal_distance_m": np.linalg.norm(position, axis=1),
        "joint_progress": np.full(n_steps + 1, np.nan),
        "is_at_rest": np.zeros(n_steps + 1, bool),
        "prediction_step": np.arange(0, n_steps, EVERY),
        "chunk": np.zeros(
            (len(range(0, n_steps, EVERY)), 10, 6),
            np.float32,
        ),
    }


def random_waves(rng, x, width):
    """Return random Fourier features of rows (Rahimi and Recht 2007).

    Their cosines are a function of distance alone.
    """
    wave = rng.normal(0, 1 / width, (x.shape[1], DIM))
    return np.cos(x @ wave + rng.uniform(0, 2 * np.pi, DIM)).astype(np.float32)


def write_run(folder, feature):
    """Write a run with the features `feature(arrays at the predictions, generator)`."""
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
    folder.mkdir(exist_ok=True)
    save_description(
        folder / "features.json",
        BankDescription(
            "rollout",
            "act",
            "here",
            {},
            False,
            (row,),
            "so101",
        ),
    )
    (folder / "run.json").write_text(json.dumps({}))
    for index in range(N_EPISODES):
        arrays = arrays_of(index)
        at = arrays["prediction_step"]
        (folder / "episodes" / TASK).mkdir(
            parents=True,
            exist_ok=True,
        )
        np.savez(
            folder / "episodes" / TASK / f"{index}.npz",
            **arrays,
        )
        seen = {
            name: array[at] for name, array in arrays.items() if len(array) >= len(arrays["action"])
        }
        features = {EMBEDDING: feature(seen, np.random.default_rng(3)).astype(np.float32)}
        length = len(arrays["action"])
        episode = EpisodeFeatures(
            features,
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


def of_object(seen, rng):
    return random_waves(rng, seen["object_pos_world"], width=0.2)


def of_distance(seen, rng):
    return random_waves(
        rng,
        seen["goal_distance_m"][:, None],
        width=0.2,
    )


def of_nothing(seen, rng):
    """Return an unrelated random walk, which is as smooth in time as the series."""
    noise = np.random.default_rng(np.frombuffer(seen["state"].tobytes(), np.uint8)[:8].tolist())
    return oracle.walks(noise, [len(seen["state"])], DIM)


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
    assert row.cknna > 0.9 and row.p_value < 0.05 and row.against == against
    assert score(run, "state").cknna < 0.5
    assert all(
        f"rows of the series {series}" in note
        for note in row.notes
        if "repeat" in note or "ties" in note
    )


@pytest.mark.parametrize("against", ["privileged", "goal_distance_m"])
def test_features_of_nothing_score_as_their_null(tmp_path, against):
    row = score(write_run(tmp_path, of_nothing), against)
    assert row.cknna < row.null_high and row.p_value > 0.05


def test_the_nearest_rows_of_a_lifted_series_are_the_nearest_by_distance():
    series = np.random.default_rng(0).normal((3, -40, 0.5), 2, (300, 3))
    rows = lift(series).astype(np.float64)
    k = 10
    rows /= np.linalg.norm(
        rows,
        axis=1,
        keepdims=True,
    )
    cosine = rows @ rows.T
    far = np.linalg.norm(series[:, None] - series, axis=2)
    by_cosine, by_distance = (np.argsort(order, axis=1)[:, 1 : k + 1] for order in (-cosine, far))
    shared = [
        len(set(a) & set(b)) / k
        for a, b in zip(by_cosine.tolist(), by_distance.tolist(), strict=True)
    ]
    assert np.mean(shared) > 0.95


def test_rows_are_those_of_the_predictions_steps(tmp_path):
    bank = open_bank(write_run(tmp_path, of_object))
    found = load_reference(bank, "action")[:, :-1]
    in_order = bank.episode_index[bank.step == 0]
    expected = np.concatenate([arrays_of(index)["action"][::EVERY] for index in in_order])
    assert np.corrcoef(
        found.ravel(),
        (expected - expected.mean(0)).ravel(),
    )[0, 1] == pytest.approx(1, abs=1e-5)


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
def test_a_series_that_says_nothing_is_refused(tmp_path, against, says):
    with pytest.raises(WhiskerError, match=says):
        score(write_run(tmp_path, of_object), against)


def test_a_file_without_series_is_damaged(tmp_path):
    run = write_run(tmp_path, of_object)
    (run / "episodes" / TASK / "3.npz").write_bytes(b"PK")
    with pytest.raises(WhiskerError, match=r"3.npz': expected the recorded arrays"):
        score(run, "privileged")


def test_an_extracted_bank_is_scored_against_the_run_that_it_was_shown(tmp_path):
    run = write_run(tmp_path / "run", of_object)
    bank = open_bank(run)
    shown = replace(
        bank,
        description=replace(
            bank.description,
            kind="extracted",
            source=str(run),
        ),
        path=tmp_path,
    )
    np.testing.assert_array_equal(
        load_reference(shown, "privileged"), load_reference(bank, "privileged")
    )
    with pytest.raises(UnknownNameError, match="'ee_pos_world'"):
        load_reference(shown, "ee_pos_world")
    gone = replace(
        shown,
        description=replace(shown.description, source=str(tmp_path / "gone")),
    )
    with pytest.raises(WhiskerError, match="gone', which is not there"):
        load_reference(gone, "privileged")
    np.testing.assert_array_equal(load_reference(gone, "state"), bank.state)
