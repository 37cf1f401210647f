"""The scripted expert succeeds, and outcomes describe its episodes and its planted mistakes."""

import numpy as np
import pytest

from eval.drivers import run_episode
from eval.episode_row import make_row
from eval.outcome import Event, Outcome
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from policies.baselines import ScriptedPolicy
from sim.errors import UnknownNameError, WhiskerError
from sim.robosuite_tasks.env import RobosuiteTaskEnv
from sim.robosuite_tasks.tasks import TASKS

WITH_EXPERT = ("Lift", "Stack", "PickPlaceCan", "Door", "Wipe", "TwoArmLift")


class Scripted(ScriptedPolicy):
    """A policy that runs the scripted expert, with or without a failure mode."""

    def __init__(self, env, failure_mode=None):
        super().__init__(env)
        self._expert = env.make_expert(failure_mode)


@pytest.fixture(scope="module")
def world():
    """Yield a function that makes environments without cameras, each of them once."""
    envs = {}

    def make(name, **options):
        key = (name, *options.items())
        if key not in envs:
            envs[key] = RobosuiteTaskEnv(TASKS[name], {}, **options)
        return envs[key]

    yield make
    for env in envs.values():
        env.close()


def run(env, episode_index, failure_mode=None, max_steps=None):
    """Return the recorded episode and its row, from the loop that evaluates policies."""
    settings = RolloutSettings(1, max_steps or env.spec.max_steps)
    policy = Scripted(env, failure_mode)
    record = run_episode(env, policy, episode_index, EpisodeRecorder(), settings)
    assert not record.error, record.error
    return record.arrays, make_row(record)


@pytest.mark.parametrize("name", WITH_EXPERT)
def test_success_and_its_stages_in_order(world, name):
    """Success is robosuite's own, and no stage but `released` holds at the start."""
    env = world(name)
    arrays, row = run(env, 1)
    assert row.outcome == Outcome.SUCCESS
    assert env.task_env._check_success()
    stages = dict(zip(row.recorded_stages, arrays.progress.T, strict=True))
    stages.pop("released", None)
    first = [int(np.argmax(holds)) for holds in stages.values()]
    assert first == sorted(first) and first[0] > 0 and first[-1] == row.n_steps


@pytest.mark.slow
@pytest.mark.parametrize("control", ["absolute"])
def test_success_under_absolute_control(world, control):
    assert run(world("Lift", control=control), 0)[1].outcome == Outcome.SUCCESS


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_EXPERT)
def test_nine_of_ten_episodes(world, name):
    outcomes = [run(world(name), index)[1].outcome for index in range(10)]
    assert outcomes.count(Outcome.SUCCESS) >= 9, outcomes


MISTAKES = [
    ("Lift", "never_close", Outcome.NEVER_PICKED_UP, "grasped", Event.CLOSEST_APPROACH),
    pytest.param(
        "Lift",
        "never_lift",
        Outcome.NEVER_PICKED_UP,
        "lifted",
        Event.NOT_LIFTED,
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "Stack",
        "never_close",
        Outcome.NEVER_PICKED_UP,
        "grasped",
        Event.CLOSEST_APPROACH,
        marks=pytest.mark.slow,
    ),
    ("Stack", "release_beside", Outcome.MISSED_GOAL, "over_goal", Event.LET_GO),
    pytest.param(
        "Stack",
        "stop_over_goal",
        Outcome.TIMEOUT,
        "released",
        Event.NOT_RELEASED,
        marks=pytest.mark.slow,
    ),
    ("PickPlaceCan", "open_half_way", Outcome.DROPPED_DURING_TRANSPORT, "over_goal", Event.LET_GO),
    ("Door", "never_turn", Outcome.TIMEOUT, "unlatched", Event.STALLED),
    pytest.param(
        "Door", "stop_half_way", Outcome.TIMEOUT, "opened", Event.STALLED, marks=pytest.mark.slow
    ),
    ("Wipe", "never_press", Outcome.TIMEOUT, "begun", Event.NOT_PRESSED),
    ("Wipe", "lift_half_way", Outcome.TIMEOUT, "cleaned", Event.LEFT_SURFACE),
    pytest.param(
        "Wipe", "stop_half_way", Outcome.TIMEOUT, "cleaned", Event.STALLED, marks=pytest.mark.slow
    ),
    pytest.param(
        "TwoArmLift",
        "never_close",
        Outcome.NEVER_PICKED_UP,
        "grasped",
        Event.CLOSEST_APPROACH,
        marks=pytest.mark.slow,
    ),
    pytest.param(
        "TwoArmLift",
        "never_lift",
        Outcome.NEVER_PICKED_UP,
        "lifted",
        Event.NOT_LIFTED,
        marks=pytest.mark.slow,
    ),
    ("TwoArmLift", "open_half_way", Outcome.DROPPED_DURING_TRANSPORT, "raised", Event.LET_GO),
    pytest.param(
        "TwoArmLift",
        "stop_half_way",
        Outcome.TIMEOUT,
        "raised",
        Event.STALLED,
        marks=pytest.mark.slow,
    ),
]
GOAL_KINDS = ("lift", "stack", "door", "wipe", "two_handed_lift", None)


@pytest.mark.parametrize(("name", "failure_mode", "outcome", "failed_stage", "event"), MISTAKES)
def test_a_planted_mistake_gets_its_outcome(
    world, name, failure_mode, outcome, failed_stage, event
):
    _, row = run(world(name), 2, failure_mode, max_steps=160)
    assert (row.outcome, row.failed_stage, row.decisive_event) == (outcome, failed_stage, event)
    assert not row.success and row.goal_kind in GOAL_KINDS


def test_a_failure_mode_that_does_not_exist_or_does_not_apply_is_named(world):
    env = world("Lift")
    with pytest.raises(UnknownNameError, match="Did you mean 'never_close'"):
        env.make_expert("never_closes")
    with pytest.raises(
        WhiskerError, match="one that 'robosuite/Lift' can have: never_close, never"
    ):
        env.make_expert("stop_half_way")
