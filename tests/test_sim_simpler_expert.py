"""SimplerEnv's scripted expert succeeds, and outcomes describe its planted mistakes.

They need the extra and its assets, as `tests/test_sim_simpler.py` does.
"""

from contextlib import closing

import pytest

from eval.drivers import run_episode
from eval.episode_row import make_row
from eval.outcome import Event, Outcome
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from policies.baselines import ScriptedPolicy
from sim.errors import UnknownNameError
from sim.registry import make_env
from sim.simpler_bench.expert import FAILURE_MODES, SimplerExpert
from sim.simpler_bench.tasks import TASKS

DROPPED = (Outcome.DROPPED_DURING_TRANSPORT, "over_goal", Event.LET_GO)
MISSED = (Outcome.MISSED_GOAL, "over_goal", Event.LET_GO)
VERDICTS = {
    "never_close": (Outcome.NEVER_PICKED_UP, "grasped", Event.CLOSEST_APPROACH),
    "open_half_way": DROPPED,
    "release_beside": MISSED,
    "stop_over_goal": (Outcome.TIMEOUT, "released", Event.NOT_RELEASED),
}
# In episode 13 the blocks are 20 cm apart. The rim of the basket is beside its middle, and the
# eggplant rolls off it.
OTHER_VERDICTS = {("eggplant_in_basket", "release_beside"): DROPPED}
EPISODES = {"carrot_on_plate": 7, "spoon_on_towel": 1, "stack_cube": 13, "eggplant_in_basket": 0}


class Scripted(ScriptedPolicy):
    """A policy that runs the scripted expert, with or without a failure mode."""

    def __init__(self, env, failure_mode=None):
        super().__init__(env)
        self._expert = env.make_expert(failure_mode)


def run(env, episode_index, failure_mode=None, max_steps=None):
    """Return the row of an episode, from the loop that evaluates policies."""
    settings = RolloutSettings(1, max_steps or env.spec.max_steps, success="at_end")
    policy = Scripted(env, failure_mode)
    record = run_episode(env, policy, episode_index, EpisodeRecorder(), settings)
    assert not record.error, record.error
    return make_row(record)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "spoon_on_towel" else [pytest.mark.exhaustive])
        for name in TASKS
    ],
)
def test_successes_and_planted_mistakes_get_their_outcomes(simpler, name):
    index = EPISODES[name]
    with closing(make_env(TASKS[name].task_name, image_sizes={})) as env:
        assert run(env, index).outcome == Outcome.SUCCESS
        for failure_mode in FAILURE_MODES:
            row = run(env, index, failure_mode, max_steps=60)
            expected = OTHER_VERDICTS.get((name, failure_mode), VERDICTS[failure_mode])
            seen = (row.outcome, row.failed_stage, row.decisive_event)
            assert seen == expected, failure_mode


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", TASKS)
def test_nearly_every_episode_is_solved(simpler, name):
    """The spoon lies lowest: fingers that touch the table stick to it, and grasp nothing."""
    with closing(make_env(TASKS[name].task_name, image_sizes={})) as env:
        outcomes = [run(env, index, max_steps=60).outcome for index in range(24)]
    assert outcomes.count(Outcome.SUCCESS) >= 22, outcomes


def test_an_unknown_failure_mode_is_refused_with_the_closest_names():
    with pytest.raises(UnknownNameError, match="Did you mean 'never_close'"):
        SimplerExpert(None, "never_closes")
