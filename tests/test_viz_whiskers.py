"""Whiskers match the paths that were really executed."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from eval.episode_arrays import ReplayableArrays
from eval.run_folder import arrays_path
from policies.action_chunk import ActionChunk
from policies.baselines import RandomPolicy
from sim.errors import WhiskerError
from sim.forward_simulation import simulate_chunk
from sim.registry import make_env
from tests.recordings import record_episode, save_episode
from tests.runs import describe_run, load_whiskers
from viz.whiskers import Whiskers, compute_whiskers, find_members, simulate_plans

HORIZON = 12


class RandomChunks(RandomPolicy):
    """A policy that plans several random actions, slow enough for the arm to follow a little."""

    def predict(self, memories: Sequence, rngs: Sequence[np.random.Generator]) -> ActionChunk:
        plans = [
            super(RandomChunks, self).predict(memories[:1], [rng] * 1).actions[0]
            for rng in rngs
            for _ in range(6)
        ]
        return ActionChunk(np.concatenate(plans)[None])


def record(env, n_action_steps):
    record = record_episode(
        env, RandomChunks(env), max_steps=HORIZON, episode_index=3, n_action_steps=n_action_steps
    )
    assert not record.error
    return record


def record_arrays(env, n_action_steps):
    return ReplayableArrays(**vars(record(env, n_action_steps).arrays))


def record_chunks(env, folder):
    """Return a run of one episode with four actions of each plan executed."""
    return save_episode(record(env, 4), folder, describe_run(env))


@pytest.mark.parametrize(
    "name",
    [
        "so101/pick_place",
        "so101/pick_place_ee_delta",
        pytest.param("libero_goal/7", marks=pytest.mark.slow),
    ],
)
def test_an_executed_plans_whisker_is_the_path_taken(name, tmp_path):
    with closing(make_env(name, image_sizes={})) as env:
        run = record_chunks(env, tmp_path)
    (row,) = run.rows
    arrays = run.load_arrays(row)
    whiskers = load_whiskers(run, row)
    assert whiskers.path_world.shape == (3, 1, 7, 3)
    for i, start in enumerate(arrays.prediction_step):
        taken = arrays.ee_pos_world[start : start + 5]
        assert_allclose(
            whiskers.path_world[i, 0, : whiskers.n_executed[i] + 1],
            taken,
            rtol=0,
            atol=1e-9,
        )
        # The arm does move.
        assert np.ptp(whiskers.path_world[i, 0], axis=0).max() > 1e-4


def test_what_was_not_executed_is_where_it_would_have_gone(blind_env):
    """The rest of a plan ends where its execution in a second environment ends."""
    arrays = record_arrays(blind_env, 2)
    whiskers = compute_whiskers(blind_env, arrays)
    twin = make_env("so101/pick_place", image_sizes={})
    twin.reset(3)
    for action in arrays.chunk[0]:
        twin.step(action)
    assert_allclose(
        whiskers.path_world[0, 0, -1],
        twin.ee_pos_world(),
        rtol=0,
        atol=1e-9,
    )
    assert whiskers.n_executed.tolist() == [2] * 6


def test_every_sampled_plan_and_every_draft_has_its_whisker(blind_env):
    arrays = record_arrays(blind_env, 4)
    noise = np.random.default_rng(0).normal(0, 5, arrays.chunk.shape)
    others = arrays.chunk + noise.astype(np.float32)
    plain = compute_whiskers(blind_env, arrays)
    bundled = replace(
        arrays,
        alternative_chunk=np.stack([arrays.chunk, others], axis=1),
        intermediate_chunk=np.stack([others, others, arrays.chunk], axis=1),
    )
    whiskers = compute_whiskers(blind_env, bundled)
    assert plain.intermediate_path_world is None
    assert whiskers.path_world.shape == (3, 2, 7, 3)
    assert whiskers.intermediate_path_world.shape == (3, 3, 7, 3)
    assert_array_equal(whiskers.path_world[:, :1], plain.path_world)
    assert_array_equal(
        whiskers.intermediate_path_world[:, -1],
        plain.path_world[:, 0],
    )
    simulated = simulate_chunk(blind_env, arrays.snapshot[2], others[2])
    assert_array_equal(whiskers.path_world[2, 1], simulated)


def test_the_prediction_in_force():
    whiskers = Whiskers(np.zeros((3, 1, 7, 3)), np.array([0, 4, 8]), np.full(3, 4))
    predictions = [whiskers.prediction_at(step) for step in (0, 3, 4, 7, 8, 11, 12)]
    assert predictions == [0, 0, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    "name",
    ["so101/pick_place", "so101/pick_place_ee"],
)
def test_tracing_moves_as_stepping_does_bit_by_bit(name):
    env = make_env(name, image_sizes={})
    env.reset(5)
    snapshot = env.snapshot()
    spec = env.spec.action
    chunk = np.random.default_rng(1).uniform(spec.low, spec.high, (20, spec.dim))
    chunk = chunk.astype(np.float32)
    path = simulate_chunk(env, snapshot, chunk)
    env.restore(snapshot)
    assert_array_equal(path[0], env.ee_pos_world())
    for action, pos_world in zip(chunk, path[1:], strict=True):
        env.step(action)
        assert_array_equal(pos_world, env.ee_pos_world())
    env.close()


def test_a_plan_on_which_the_physics_diverges_ends_in_nan(blind_env):
    """A gripper at an extreme speed makes MuJoCo diverge, and the path ends."""
    blind_env.reset(0)
    snapshot = blind_env.snapshot()
    blind_env.data.qvel[:] = 1e9
    moving = blind_env.snapshot()
    path = simulate_chunk(blind_env, moving, np.zeros((5, 6)))
    assert np.isfinite(path[0]).all()
    assert np.isnan(path[1:]).all()
    assert np.isfinite(simulate_chunk(blind_env, snapshot, np.zeros((5, 6)))).all()


def test_the_members_of_an_ensemble_are_the_rests_of_the_chunks_before(blind_env):
    """An ensemble member is the rest of a chunk that was predicted earlier.

    The chunks are predicted at steps 0, 1 and 2, with four actions each.
    """
    # An action has its step and the step of its prediction.
    predicted_at, ahead = np.indices((3, 4), dtype=np.float32)
    chunks = np.stack(
        [predicted_at + ahead, predicted_at],
        axis=-1,
    )
    members = find_members(chunks[:, None], np.arange(3), 2)[::-1]
    assert_array_equal(
        members[:3, :, 0],
        [
            [2, 3, 4, 5],
            [2, 3, 4, np.nan],
            [2, 3, np.nan, np.nan],
        ],
    )
    assert members[:3, 0, 1].tolist() == [2, 1, 0]
    assert np.isnan(members[3:]).all()
    blind_env.reset(0)
    plan = np.zeros((5, 6), np.float32)
    plan[3:] = np.nan
    (path,) = simulate_plans(blind_env, blind_env.snapshot(), plan[None])
    assert np.isfinite(path[:4]).all()
    assert np.isnan(path[4:]).all()


def test_a_run_that_is_not_there_is_refused(tmp_path, blind_env):
    run = record_chunks(blind_env, tmp_path)
    (row,) = run.rows
    (run.path / arrays_path(row)).unlink()
    with pytest.raises(WhiskerError, match="episode file"):
        load_whiskers(run, row)
