"""Whiskers match the paths that were really executed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from eval.drivers import run_episode
from eval.episode_arrays import ReplayableArrays
from eval.episode_row import load_rows, make_row
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_folder import RunFolder
from policies.action_chunk import ActionChunk
from policies.baselines import RandomPolicy
from sim.errors import WhiskerError
from sim.forward_simulation import simulate_chunk
from sim.registry import make_env
from tests.runs import describe_run, load_whiskers
from viz.whiskers import compute_whiskers, find_members, simulate_plans

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


def record(env, n_action_steps, folder=None):
    """Record one episode, and return its arrays and its run folder."""
    record = run_episode(
        env, RandomChunks(env), 3, EpisodeRecorder(), RolloutSettings(n_action_steps, HORIZON)
    )
    assert not record.error
    arrays = ReplayableArrays(**vars(record.arrays))
    if folder is not None:
        run = RunFolder.create(folder, describe_run(env))
        run.append(record, make_row(record))
        run.close()
        return arrays, run.path
    return arrays, None


@pytest.mark.parametrize(
    "name",
    [
        "so101/pick_place",
        "so101/pick_place_ee_delta",
        pytest.param("libero_goal/7", marks=pytest.mark.slow),
    ],
)
def test_an_executed_plans_whisker_is_the_path_taken(name, tmp_path):
    env = make_env(name, image_sizes={})
    arrays, run = record(env, n_action_steps=4, folder=tmp_path)
    env.close()
    whiskers = load_whiskers(Run.open(run), load_rows(run)[0])
    assert whiskers.path_world.shape == (3, 1, 7, 3)
    for i, start in enumerate(arrays.prediction_step):
        taken = arrays.ee_pos_world[start : start + 5]
        np.testing.assert_allclose(
            whiskers.path_world[i, 0, : whiskers.n_executed[i] + 1],
            taken,
            rtol=0,
            atol=1e-9,
        )
        # The arm does move.
        assert np.ptp(whiskers.path_world[i, 0], axis=0).max() > 1e-4


def test_what_was_not_executed_is_where_it_would_have_gone(blind_env):
    """The rest of a plan ends where its execution in a second environment ends."""
    arrays, _ = record(blind_env, n_action_steps=2)
    whiskers = compute_whiskers(blind_env, arrays)
    twin = make_env("so101/pick_place", image_sizes={})
    twin.reset(3)
    for action in arrays.chunk[0]:
        twin.step(action)
    np.testing.assert_allclose(
        whiskers.path_world[0, 0, -1], twin.ee_pos_world(), rtol=0, atol=1e-9
    )
    assert whiskers.n_executed.tolist() == [2] * 6


def test_every_sampled_plan_and_every_draft_has_its_whisker(blind_env):
    arrays, _ = record(blind_env, n_action_steps=4)
    rng = np.random.default_rng(0)
    others = arrays.chunk + rng.normal(0, 5, arrays.chunk.shape).astype(np.float32)
    intermediate_plans = np.stack([others, others, arrays.chunk], axis=1)
    alternatives = np.stack([arrays.chunk, others], axis=1)
    plain = compute_whiskers(blind_env, arrays)
    whiskers = compute_whiskers(
        blind_env,
        replace(arrays, alternative_chunk=alternatives, intermediate_chunk=intermediate_plans),
    )
    assert plain.intermediate_path_world is None
    assert whiskers.path_world.shape == (3, 2, 7, 3) and whiskers.intermediate_path_world.shape == (
        3,
        3,
        7,
        3,
    )
    np.testing.assert_array_equal(whiskers.path_world[:, :1], plain.path_world)
    np.testing.assert_array_equal(
        whiskers.intermediate_path_world[:, -1],
        plain.path_world[:, 0],
    )
    np.testing.assert_array_equal(
        whiskers.path_world[2, 1], simulate_chunk(blind_env, arrays.snapshot[2], others[2])
    )


def test_the_prediction_in_force(blind_env):
    whiskers = compute_whiskers(
        blind_env,
        record(blind_env, n_action_steps=4)[0],
    )
    assert [whiskers.prediction_at(step) for step in (0, 3, 4, 7, 8, 11, 12)] == [
        0,
        0,
        1,
        1,
        2,
        2,
        2,
    ]


@pytest.mark.parametrize("name", ["so101/pick_place", "so101/pick_place_ee"])
def test_tracing_moves_as_stepping_does_bit_by_bit(name):
    env = make_env(name, image_sizes={})
    env.reset(5)
    snapshot = env.snapshot()
    rng = np.random.default_rng(1)
    chunk = rng.uniform(
        env.spec.action.low, env.spec.action.high, (20, env.spec.action.dim)
    ).astype(np.float32)
    path = simulate_chunk(env, snapshot, chunk)
    env.restore(snapshot)
    stepped = [env.ee_pos_world()]
    for action in chunk:
        env.step(action)
        stepped.append(env.ee_pos_world())
    np.testing.assert_array_equal(path, stepped)
    env.close()


def test_a_plan_on_which_the_physics_diverges_ends_in_nan(blind_env):
    """A gripper at an extreme speed makes MuJoCo diverge, and the path ends."""
    blind_env.reset(0)
    snapshot = blind_env.snapshot()
    blind_env.data.qvel[:] = 1e9
    moving = blind_env.snapshot()
    path = simulate_chunk(blind_env, moving, np.zeros((5, 6)))
    assert np.isfinite(path[0]).all() and np.isnan(path[1:]).all()
    assert np.isfinite(simulate_chunk(blind_env, snapshot, np.zeros((5, 6)))).all()


def test_the_members_of_an_ensemble_are_the_rests_of_the_chunks_before(blind_env):
    """An ensemble member is the rest of a chunk that was predicted earlier.

    The chunks are predicted at steps 0, 1 and 2, with four actions each.
    """
    intermediate_plans = np.array(
        [[[[t, p] for t in range(p, p + 4)]] for p in range(3)], np.float32
    )
    members = find_members(intermediate_plans, np.arange(3), 2)[::-1]
    np.testing.assert_array_equal(members[0, :, 0], [2, 3, 4, 5])
    np.testing.assert_array_equal(members[1, :, 0], [2, 3, 4, np.nan])
    np.testing.assert_array_equal(members[2, :, 0], [2, 3, np.nan, np.nan])
    assert members[:3, 0, 1].tolist() == [2, 1, 0] and np.isnan(members[3:]).all()
    blind_env.reset(0)
    ends = np.where(np.arange(5)[:, None] < 3, np.zeros(6), np.nan).astype(np.float32)
    (path,) = simulate_plans(blind_env, blind_env.snapshot(), ends[None])
    assert np.isfinite(path[:4]).all() and np.isnan(path[4:]).all()


def test_a_run_that_is_not_there_is_refused(tmp_path, blind_env):
    _, run = record(blind_env, 4, tmp_path)
    (row,) = load_rows(run)
    (run / "episodes" / row.task / f"{row.episode_index}.npz").unlink()
    with pytest.raises(WhiskerError, match="episode file"):
        load_whiskers(Run.open(run), row)
