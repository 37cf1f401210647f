"""Tests of how episodes are handed out."""

import random

import pytest

from eval.schedule import Schedule

BLOCKS = [("a", [0, 1, 2]), ("b", [0, 1]), ("none", []), ("c", [5])]
EPISODES = [(task, index) for task, indices in BLOCKS for index in indices]


def test_a_single_runner_gets_the_episodes_in_order():
    schedule = Schedule(BLOCKS)
    taken = [schedule.take(0) for _ in EPISODES]
    assert taken == EPISODES
    assert schedule.take(0) is None


def test_runners_stay_with_their_task_and_help_with_others_when_it_is_done():
    schedule = Schedule(BLOCKS)
    assert [schedule.take(runner) for runner in (0, 1, 0, 1)] == [
        ("a", 0),
        ("b", 0),
        ("a", 1),
        ("b", 1),
    ]
    # The second one takes what nobody has begun, and then shares the first one's task.
    assert [schedule.take(1), schedule.take(1)] == [("c", 5), ("a", 2)]
    assert schedule.take(0) is None


@pytest.mark.parametrize("seed", range(20))
def test_every_episode_is_handed_out_once_whoever_asks_when(seed):
    rng = random.Random(seed)
    schedule = Schedule(BLOCKS)
    taken = []
    while (episode := schedule.take(rng.randrange(4))) is not None:
        taken.append(episode)
    assert sorted(taken) == sorted(EPISODES)
    assert all(schedule.take(runner) is None for runner in range(4))
