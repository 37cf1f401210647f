"""Both tasks with two blocks work: the instruction names one block, or either counts."""

import json
from collections import Counter
from dataclasses import asdict
from itertools import batched

import numpy as np
import pytest
from numpy.testing import assert_array_equal, assert_equal

from eval.episode_row import EpisodeRow, make_row
from eval.outcome import Event, Outcome
from policies.baselines import ScriptedPolicy
from sim.errors import UnknownNameError, WhiskerError
from sim.registry import make_env
from sim.so101.pick_place_words import INSTRUCTIONS, instruction_index
from tests.recordings import record_episode

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
        record_episode(
            env,
            policy,
            max_steps=150,
            episode_index=episode_index,
        )
    )


def positions(env):
    """Return body name → (x, y) of all objects of the task."""
    return {
        name: env.data.body(name).xpos[:2].copy()
        for name in (*env.config.blocks, *env.config.receptacles)
    }


def test_forty_episodes_in_a_row_have_each_instruction_ten_times():
    told = [instruction_index("pick_place_words", 1_000_000 + k) for k in range(N_EPISODES)]
    for k in range(41):
        assert Counter(told[k : k + 40]) == dict.fromkeys(range(4), 10)
    blocks = list(batched(told, 4))
    for block in blocks:
        assert sorted(block) == [0, 1, 2, 3]
    # Their order varies.
    assert len(set(blocks[:10])) > 4


def test_the_place_does_not_tell_what_is_named(words_env):
    """The named block and the named receptacle are as often on the left as on the right."""
    sides = Counter()
    for k in range(N_EPISODES):
        words_env.reset(k)
        at = positions(words_env)
        assert np.linalg.norm(at["red_block"] - at["blue_block"]) > 0.07
        assert np.linalg.norm(at["bowl"] - at["plate"]) > 0.07
        block = words_env.blocks[0]
        receptacle = words_env.receptacles[0]
        sides[block, receptacle, at[block][1] > 0, at[receptacle][1] > 0] += 1
        told = words_env.instruction
        assert told == INSTRUCTIONS[instruction_index("pick_place_words", k)]
        assert told == words_env.observe().instruction
        assert block.replace("_", " ") in told
        assert receptacle in told
        assert_array_equal(
            words_env.progress()[0].object_pos_world[:2],
            at[block],
        )
        assert_array_equal(words_env.goal_pos_world()[:2], at[receptacle])
    # There are 16 kinds, and each occurs 5 times on average.
    assert len(sides) == 16
    assert max(sides.values()) < 16


def test_the_expert_follows_the_words_and_fails_with_others(words_env):
    row = run_expert(words_env, 0)
    words_env.reset(0)
    assert row.success
    assert row.instruction == words_env.instruction
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
    words_env.reset(1)
    assert words_env.instruction != told
    words_env.restore(snapshot)
    assert words_env.instruction == told
    assert_equal(positions(words_env), at)
    assert_array_equal(words_env.snapshot(), snapshot)


def test_the_opposite_instruction_names_nothing_of_the_other(words_env):
    spec = words_env.spec
    for told in spec.instructions:
        other = spec.opposite_instruction(told)
        assert spec.opposite_instruction(other) == told
        assert ("red" in told) != ("red" in other)
        assert ("bowl" in told) != ("bowl" in other)
    assert spec.opposite_instruction("Dance.") == "Dance."


def test_a_task_of_one_instruction_has_no_column_for_it(blind_env):
    row = make_row(record_episode(blind_env, ScriptedPolicy(blind_env), max_steps=3))
    assert row.instruction is None
    assert "instruction" not in row.to_json()
    assert asdict(blind_env.spec)["instructions"] == ()
    with pytest.raises(UnknownNameError, match="wrong_block"):
        blind_env.make_expert("wrong_block")


def test_the_expert_takes_either_block_and_either_counts(either_env):
    chosen_left = []
    for k in range(N_EPISODES):
        either_env.reset(k)
        assert either_env.instruction == "Pick up a red block and place it in the bowl."
        sides = {name: pos[1] for name, pos in positions(either_env).items()}
        assert np.ptp(list(sides.values())) > 0.17
        chosen_left.append(sides[either_env.blocks[0]] > 0)
    assert 0.3 < np.mean(chosen_left) < 0.7
    # The same scene allows both outcomes.
    assert run_expert(either_env, 0).success
    assert run_expert(either_env, 0, "wrong_block").success


def test_progress_follows_the_block_that_the_gripper_is_at(either_env):
    either_env.reset(0)
    expert = either_env.make_expert("wrong_block")
    expert.reset()
    other, taken = (either_env.data.body(name) for name in either_env.blocks)
    followed = []
    for _ in range(75):
        (progress,) = either_env.step(expert.action()).progress
        followed.append(np.array_equal(progress.object_pos_world, taken.xpos))
    assert progress.stages["lifted"]
    assert all(followed[20:])
    held = either_env.snapshot()
    # The block that was held stays the tracked one, even if the gripper is at the other block.
    either_env.reset(0)
    above_other = either_env.make_expert().pose_above_block(np.array([0.0, 0.0, 0.05]))
    for snapshot, body in ((either_env.snapshot(), other), (held, taken)):
        either_env.restore(snapshot)
        either_env.place_arm(above_other)
        assert np.linalg.norm(either_env.ee_pos_world() - other.xpos) < 0.07
        assert_array_equal(
            either_env.progress()[0].object_pos_world,
            body.xpos,
        )


@pytest.mark.parametrize(
    "name",
    ["so101/pick_place_words", "so101/pick_place_either"],
)
def test_a_scene_of_the_users_own_is_refused(name):
    with pytest.raises(WhiskerError, match=r"expected no scene of your own, got my\.xml"):
        make_env(f"{name}@my.xml", image_sizes={})
