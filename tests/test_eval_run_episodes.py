"""Tests of running episodes by several runners at once."""

import time
from dataclasses import dataclass, field
from threading import Barrier

import pytest

from eval.episode_arrays import EpisodeRecord
from eval.episode_row import make_row
from eval.episode_runner import FinishedEpisode
from eval.run_episodes import in_order, run_episodes
from eval.schedule import Schedule
from sim.errors import WhiskerError

ORDER = [("a", index) for index in range(6)]


def finish(task, episode_index):
    record = EpisodeRecord(
        task, episode_index, success=False, error="E", duration_s=0.0, arrays=None
    )
    return FinishedEpisode(record, make_row(record))


@dataclass
class Runner:
    """A runner without an environment, which does in an episode what the test says."""

    act: object = finish
    has_left: bool = False
    is_closed: bool = False
    ran: list = field(default_factory=list)

    def run(self, task, episode_index):
        self.ran.append((task, episode_index))
        return self.act(task, episode_index)

    def leave(self):
        self.has_left = True

    def close(self):
        self.is_closed = True


def keys_of(finished):
    return [(each.row.task, each.row.episode_index) for each in finished]


@pytest.mark.parametrize("n_runners", [1, 3])
def test_all_episodes_are_run_and_all_runners_closed(n_runners):
    runners = [Runner() for _ in range(n_runners)]
    finished = list(run_episodes(runners, Schedule([("a", range(6))])))
    assert sorted(keys_of(finished)) == ORDER
    assert all(runner.is_closed for runner in runners)


def test_a_runner_leaves_its_place_to_others_once_no_episode_is_left():
    """One holds its first episode until the other has left, as a worker without a node does."""
    fast = Runner()

    def wait_for_the_place(task, index):
        end = time.monotonic() + 60
        while not fast.has_left:
            assert time.monotonic() < end
            time.sleep(0.01)
        return finish(task, index)

    waiting = Runner(wait_for_the_place)
    finished = run_episodes([waiting, fast], Schedule([("a", range(6))]))
    assert sorted(keys_of(finished)) == ORDER
    assert len(waiting.ran) == 1


def test_no_runner_waits_for_another():
    """One holds its first episode until the other has run all the rest."""
    fast = Runner()

    def wait_for_the_others(task, index):
        end = time.monotonic() + 60
        while len(fast.ran) < 5:
            assert time.monotonic() < end
            time.sleep(0.01)
        return finish(task, index)

    slow = Runner(wait_for_the_others)
    finished = list(run_episodes([slow, fast], Schedule([("a", range(6))])))
    assert len(slow.ran) == 1
    assert keys_of(finished)[-1] == slow.ran[0]


def test_runners_run_at_the_same_time():
    meeting = Barrier(2, timeout=60)

    def meet(task, index):
        meeting.wait()
        return finish(task, index)

    finished = run_episodes([Runner(meet), Runner(meet)], Schedule([("a", range(2))]))
    assert len(list(finished)) == 2


@pytest.mark.parametrize("n_runners", [1, 2])
def test_a_task_that_cannot_be_begun_ends_the_run(n_runners):
    def refuse(task, index):
        raise WhiskerError(task, expected="another")

    runners = [Runner(refuse) for _ in range(n_runners)]
    with pytest.raises(WhiskerError, match="expected another"):
        list(run_episodes(runners, Schedule([("a", range(6))])))
    assert all(runner.is_closed for runner in runners)


@pytest.mark.parametrize("n_runners", [1, 2])
def test_runners_are_closed_when_nobody_wants_more(n_runners):
    runners = [Runner() for _ in range(n_runners)]
    finished = run_episodes(runners, Schedule([("a", range(6))]))
    next(finished)
    finished.close()
    assert all(runner.is_closed for runner in runners)


def test_episodes_that_end_early_wait_for_their_turn():
    ended = [3, 0, 1, 5, 2, 4]
    ordered = in_order(iter([finish("a", index) for index in ended]), ORDER)
    assert keys_of(ordered) == ORDER


def test_an_episode_is_yielded_as_soon_as_all_before_it_have_ended():
    def ending():
        for index in (1, 0):
            yield finish("a", index)
        raise AssertionError("the third was asked for before the first two were yielded")

    ordered = in_order(ending(), ORDER)
    assert keys_of([next(ordered), next(ordered)]) == ORDER[:2]
