"""Whiskers against the paths that were really taken."""

from collections.abc import Sequence

import numpy as np
import pytest

from eval.outcome import DEFAULT_THRESHOLDS
from eval.recorder import EpisodeRecorder
from eval.rollout import run_episode
from eval.run_folder import RunFolder, load_rows, make_row
from policies.action_chunk import ActionChunk
from policies.baselines import RandomPolicy
from sim.errors import WhiskerError
from sim.forward_simulation import simulate_chunk
from sim.registry import make_env
from viz.whiskers import compute_whiskers, load_whiskers

HORIZON = 12


class RandomChunks(RandomPolicy):
    """Plans of several random actions each, slow enough for the arm to follow a little."""

    def predict(self, memories: Sequence, rngs: Sequence[np.random.Generator]) -> ActionChunk:
        plans = [
            super(RandomChunks, self).predict(memories[:1], [rng] * 1).actions[0] for rng in rngs for _ in range(6)
        ]
        return ActionChunk(np.concatenate(plans)[None])


def record(env, n_action_steps, folder=None):
    """One episode, and the run folder that it was written to."""
    record = run_episode(env, RandomChunks(env), 3, EpisodeRecorder(), n_action_steps, HORIZON)
    assert not record.error
    if folder is not None:
        description = {"config": {}, "env": {"name": env.spec.name}, "tasks": {env.spec.task: env.spec.name}}
        run = RunFolder.create(folder, "random", env.spec.name, description)
        run.append(record, make_row(record, DEFAULT_THRESHOLDS))
        run.close()
        return record.arrays, run.path
    return record.arrays, None


@pytest.mark.parametrize("name", ["so101/pick_place", "so101/pick_place_ee_delta", "libero_goal/7"])
def test_an_executed_plans_whisker_is_the_path_taken(name, tmp_path):
    env = make_env(name, image_sizes={})
    arrays, run = record(env, n_action_steps=4, folder=tmp_path)
    env.close()
    whiskers = load_whiskers(run, load_rows(run)[0])
    assert whiskers.path_world.shape == (3, 1, 7, 3)
    for i, start in enumerate(arrays.prediction_step):
        taken = arrays.ee_pos_world[start : start + 5]
        np.testing.assert_allclose(whiskers.executed_path(i), taken, rtol=0, atol=1e-9)
        assert np.ptp(whiskers.path_world[i, 0], axis=0).max() > 1e-4  # and it goes somewhere


def test_what_was_not_executed_is_where_it_would_have_gone(blind_env):
    """The rest of a plan, executed after all in another copy."""
    arrays, _ = record(blind_env, n_action_steps=2)
    whiskers = compute_whiskers(blind_env, arrays)
    twin = make_env("so101/pick_place", image_sizes={})
    twin.reset(3)
    for action in arrays.chunk[0]:
        twin.step(action)
    np.testing.assert_allclose(whiskers.path_world[0, 0, -1], twin.ee_pos_world(), rtol=0, atol=1e-9)
    assert whiskers.n_executed.tolist() == [2] * 6


def test_a_plan_on_which_the_physics_diverges_ends_in_nan(blind_env, monkeypatch):
    blind_env.reset(0)
    snapshot, step = blind_env.snapshot(), type(blind_env).step
    calls = []

    def diverge_at_the_third(self, action):
        calls.append(action)
        if len(calls) == 3:
            raise RuntimeError("the physics diverged")
        return step(self, action)

    monkeypatch.setattr(type(blind_env), "step", diverge_at_the_third)
    path = simulate_chunk(blind_env, snapshot, np.zeros((5, 6)))
    assert np.isfinite(path[:3]).all() and np.isnan(path[3:]).all()


def test_a_run_that_is_not_there_is_refused(tmp_path, blind_env):
    _, run = record(blind_env, 4, tmp_path)
    (row,) = load_rows(run)
    (run / "episodes" / row.task / f"{row.episode_index}.npz").unlink()
    with pytest.raises(WhiskerError, match="episode file"):
        load_whiskers(run, row)
