"""Both tasks with two blocks work: the instruction names one block, or either counts."""

import json
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest

from eval.drivers import run_episode
from eval.episode_row import EpisodeRow, make_row
from eval.outcome import Event, Outcome
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from policies.baselines import ScriptedPolicy
from sim.errors import UnknownNameError, WhiskerError
from sim.registry import make_env
from sim.so101.pick_place_words import INSTRUCTIONS, instruction_index

N_EPISODES = 80


@pytest.fixture(scope="module")
def words_env():
    return make_env("so101/pick_place_words", image_sizes={})


@pytest.fixture(scope="module")
def either_env():
    return make_env("so101/pick_place_either", image_sizes={})


def run_expert(env, episode_index, failure_mode=None):
    """Return the row of an episode of the scripted expert."""
    policy = ScriptedPolicy(env)
    policy._expert = env.make_expert(failure_mode)
    return make_row(
        run_episode(
            env,
            policy,
            episode_index,
            EpisodeRecorder(),
            RolloutSettings(1, 150),
        )
    )


def positions(env):
    """Return body name → (x, y) of all objects of the task."""
    return {
        name: env.data.body(name).xpos[:2].copy()
        for name in (*env.config.blocks, *env.config.receptacles)
    }


def test_forty_episodes_in_a_row_have_each_instruction_ten_times():
    told = [
        instruction_index("pick_place_words", k) for k in range(1_000_000, 1_000_000 + N_EPISODES)
    ]
    assert all(Counter(told[k : k + 40]) == dict.fromkeys(range(4), 10) for k in range(41))
    assert all(sorted(told[k : k + 4]) == [0, 1, 2, 3] for k in range(0, N_EPISODES, 4))
    assert len({tuple(told[k : k + 4]) for k in range(0, 40, 4)}) > 4  # their order varies


def test_the_place_does_not_tell_what_is_named(words_env):
    """The named block and the named receptacle are as often on the left as on the right."""
    sides = Counter()
    for k in range(N_EPISODES):
        words_env.reset(k)
        at = positions(words_env)
        apart_m = {
            pair: np.linalg.norm(at[pair[0]] - at[pair[1]])
            for pair in (("red_block", "blue_block"), ("bowl", "plate"))
        }
        assert min(apart_m.values()) > 0.07
        named = words_env.blocks[0], words_env.receptacles[0]
        sides[(*named, *(at[name][1] > 0 for name in named))] += 1
        assert words_env.instruction == INSTRUCTIONS[instruction_index("pick_place_words", k)]
        assert words_env.observe().instruction == words_env.instruction
        assert (
            named[0].replace("_", " ") in words_env.instruction
            and named[1] in words_env.instruction
        )
        np.testing.assert_array_equal(
            words_env.progress()[0].object_pos_world[:2],
            at[named[0]],
        )
        np.testing.assert_array_equal(words_env.goal_pos_world()[:2], at[named[1]])
    # There are 16 kinds, and each occurs 5 times on average.
    assert len(sides) == 16 and max(sides.values()) < 16


def test_the_expert_follows_the_words_and_fails_with_others(words_env):
    row = run_expert(words_env, 0)
    words_env.reset(0)
    assert row.success and row.instruction == words_env.instruction
    assert EpisodeRow.from_json(json.dumps(row.to_json())) == row
    row = run_expert(words_env, 1, "wrong_block")
    assert (row.outcome, row.failed_stage) == (Outcome.NEVER_PICKED_UP, "reached")
    row = run_expert(words_env, 2, "wrong_receptacle")
    assert (row.outcome, row.failed_stage) == (Outcome.DROPPED_DURING_TRANSPORT, "over_goal")
    assert row.decisive_event == Event.LET_GO


def test_a_snapshot_brings_the_words_and_the_places_back(words_env):
    words_env.reset(0)
    told = words_env.instruction
    at = positions(words_env)
    snapshot = words_env.snapshot()
    words_env.reset(next(k for k in range(1, 9) if instruction_index("pick_place_words", k) != 0))
    words_env.reset(1)
    assert words_env.instruction != told
    words_env.restore(snapshot)
    assert words_env.instruction == told
    assert {name: pos.tolist() for name, pos in positions(words_env).items()} == {
        k: v.tolist() for k, v in at.items()
    }
    np.testing.assert_array_equal(words_env.snapshot(), snapshot)


def test_the_opposite_instruction_names_nothing_of_the_other(words_env):
    spec = words_env.spec
    for told in spec.instructions:
        other = spec.opposite_instruction(told)
        assert spec.opposite_instruction(other) == told
        assert ("red" in told) != ("red" in other) and ("bowl" in told) != ("bowl" in other)
    assert spec.opposite_instruction("Dance.") == "Dance."


def test_a_task_of_one_instruction_has_no_column_for_it(blind_env):
    record = run_episode(
        blind_env, ScriptedPolicy(blind_env), 0, EpisodeRecorder(), RolloutSettings(1, 3)
    )
    row = make_row(record)
    assert row.instruction is None and "instruction" not in row.to_json()
    assert asdict(blind_env.spec)["instructions"] == ()
    with pytest.raises(UnknownNameError, match="wrong_block"):
        blind_env.make_expert("wrong_block")


def test_the_expert_takes_either_block_and_either_counts(either_env):
    chosen_left = []
    for k in range(N_EPISODES):
        either_env.reset(k)
        assert either_env.instruction == "Pick up a red block and place it in the bowl."
        at = positions(either_env)
        assert np.ptp([pos[1] for pos in at.values()]) > 0.17
        chosen_left.append(at[either_env.blocks[0]][1] > 0)
    assert 0.3 < np.mean(chosen_left) < 0.7
    # The same scene allows both outcomes.
    assert run_expert(either_env, 0).success and run_expert(either_env, 0, "wrong_block").success


def test_progress_follows_the_block_that_the_gripper_is_at(either_env):
    either_env.reset(0)
    expert = either_env.make_expert("wrong_block")
    expert.reset()
    other, taken = (either_env.data.body(name) for name in either_env.blocks)
    followed = []
    for _ in range(75):
        (progress,) = either_env.step(expert.action()).progress
        followed.append(np.array_equal(progress.object_pos_world, taken.xpos))
    assert progress.stages["lifted"] and all(followed[20:])
    held = either_env.snapshot()
    # The block that was held stays the tracked one, even if the gripper is at the other block.
    either_env.reset(0)
    above_other = either_env.make_expert().pose_above_block(np.array([0.0, 0.0, 0.05]))
    for snapshot, body in ((either_env.snapshot(), other), (held, taken)):
        either_env.restore(snapshot)
        either_env.place_arm(above_other)
        assert np.linalg.norm(either_env.ee_pos_world() - other.xpos) < 0.07
        np.testing.assert_array_equal(
            either_env.progress()[0].object_pos_world,
            body.xpos,
        )


@pytest.mark.parametrize("name", ["so101/pick_place_words", "so101/pick_place_either"])
def test_a_scene_of_the_users_own_is_refused(name):
    with pytest.raises(WhiskerError, match=r"expected no scene of your own, got my\.xml"):
        make_env(f"{name}@my.xml", image_sizes={})
