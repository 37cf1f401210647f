"""Tests of checkpoints whose arm was calibrated in lerobot's old way.

The doctor names such a checkpoint, and `--calibration` restores its behaviour.
"""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from eval.config import EvalConfig
from eval.doctor.calibration import find_other_calibration
from eval.doctor.finding import Level
from eval.episode_loop import evaluate
from eval.evaluation import set_up
from eval.provenance import check_same, describe, refuse_changed_flags
from eval.run import Run
from eval.run_folder import RunFolder
from eval.subject import name_policy
from policies.action_chunk import ActionChunk
from policies.normalisation import FeatureStats, Normalisation
from policies.relative_actions import RelativeActions
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from sim.registry import make_env
from tests.bug_plants import in_old_calibration
from tests.check_contexts import make_check_context
from tests.test_eval_doctor import ACT, act, checkpoint, examine_copy, findings_of, named, wrapped

__all__ = ["act", "checkpoint"]

OLD = "so100-old"
SAID = "the arm was calibrated in lerobot's old way (shoulder_lift = 90 - x, elbow_flex = x + 90)"
ALREADY = "in the environment's own calibration already"


@pytest.fixture
def old_act(checkpoint):
    """Return the shipped ACT as lerobot's old calibration would have made it."""
    in_old_calibration(checkpoint)
    return checkpoint


def in_old(values):
    values = np.array(values)
    values[..., 1] = 90 - values[..., 1]
    values[..., 2] += 90
    return values


def plans_of(config, episode_index=0):
    with closing((setup := set_up(config)).env):
        memory = setup.policy.reset()
        setup.env.reset(episode_index)
        memory.observations.append(setup.env.observe())
        return setup.policy.predict(
            [memory],
            [episode_rng("pick_place", episode_index, 0)],
        ).actions


@pytest.mark.slow
def test_it_is_named_by_its_statistics_and_by_undoing_it(old_act):
    found = examine_copy(old_act)
    assert {check for check, _ in found} == {"calibration"}
    hit = named(found, "calibration", SAID)
    assert hit.level is Level.ERROR and hit.hint == f"Give --calibration {OLD}."


def test_the_remedy_makes_it_the_policy_that_it_is(old_act):
    config = replace_flags(ACT, checkpoint=str(old_act))
    expected = plans_of(ACT)
    np.testing.assert_allclose(
        plans_of(replace_flags(config, calibration=OLD)), expected, atol=1e-3
    )
    assert np.abs(plans_of(config) - expected).max() > 30
    assert examine_copy(old_act, calibration=OLD) == {}


def test_without_the_remedy_it_fails_and_with_it_it_succeeds(old_act, tmp_path):
    """The episode is one in which `act` succeeds."""
    success = {}
    for calibration in (None, OLD):
        config = make_config(
            EvalConfig,
            policy="act",
            checkpoint=str(old_act),
            first_episode=7,
            episodes=1,
            calibration=calibration,
        )
        with closing((setup := set_up(config)).env):
            run = RunFolder.create(tmp_path / str(calibration), describe(config, setup))
            with closing(run):
                (row,) = evaluate(config, setup, run)
        success[calibration] = row.success
    assert success == {None: False, OLD: True}


def test_it_is_recorded_and_a_run_is_resumed_with_no_other(small_act, tmp_path):
    asked = make_config(
        EvalConfig,
        policy="act",
        checkpoint=str(small_act),
        calibration=OLD,
    )
    config = name_policy(asked)
    with closing((setup := set_up(config)).env):
        run = RunFolder.create(tmp_path, describe(config, setup))
        run.close()
        resumed = refuse_changed_flags(replace_flags(config, resume=run.path))
        assert resumed.adapters.calibration == OLD
        with pytest.raises(
            WhiskerError, match=f"--calibration with --resume: expected '{OLD}', as the run has it"
        ):
            refuse_changed_flags(
                replace_flags(
                    config,
                    resume=run.path,
                    calibration=None,
                )
            )
        check_same(Run.open(run.path), describe(config, setup))
    other = replace_flags(config, calibration=None)
    with (
        closing((setup := set_up(other)).env),
        pytest.raises(
            WhiskerError, match=rf"config\.adapters\.calibration: expected {OLD}, got None"
        ),
    ):
        check_same(Run.open(run.path), describe(other, setup))


@pytest.mark.slow
def test_a_checkpoint_whose_statistics_say_nothing_is_named_by_undoing_it(act):
    """The policy reads and plans values in the old calibration, but its statistics are healthy."""

    def predict(memories, rngs):
        shown = [in_environment(m) for m in memories]
        return ActionChunk(in_old(act.policy.predict(shown, rngs).actions).astype(np.float32))

    def in_environment(memory):
        """Return the memory with its old-calibration state in the environment's calibration."""
        state = memory.present.state.copy()
        state[1] = 90 - state[1]
        state[2] -= 90
        observation = replace(memory.present, state=state)
        return replace(
            memory,
            observations=type(memory.observations)([observation], memory.observations.maxlen),
        )

    found = findings_of(ACT, wrapped(act, predict=predict))
    hit = named(found, "calibration", SAID)
    assert "once that is undone" in hit.evidence and hit.hint == f"Give --calibration {OLD}."


@pytest.mark.slow
def test_a_checkpoint_that_needs_no_remedy_is_told_so():
    found = findings_of(replace_flags(ACT, calibration=OLD))
    assert named(found, "calibration", ALREADY).hint == "Leave --calibration out."
    assert {check for check, _ in found} == {"calibration"}


# These are means and standard deviations in degrees; the gripper's are in 0..100. The first is
# typical of human demonstrations, which go from the folded arm over the table and back.
OF_PEOPLE = ((2, 120, 110, 57, -27, 12), (26, 52, 50, 37, 59, 19))
RECORDINGS = {
    "of people": OF_PEOPLE,
    "never far from the start": ((0, 136, 116, 89, 0, 25), (20, 15, 12, 10, 5, 20)),
    "above the table": ((0, 90, 95, 83, -11, 27), (31, 16, 20, 12, 23, 15)),
}
# These are in the environment's own calibration. None of them may be taken for the old one.
HEALTHY = {
    "of people": ((2, -30, 20, 57, -27, 12), (26, 52, 50, 37, 59, 19)),
    "folded most of the time": ((0, -95, 90, 60, 0, 5), (10, 8, 9, 10, 5, 5)),
    "leaning forward": ((0, 60, 40, 20, 0, 20), (20, 20, 20, 20, 20, 20)),
    "everywhere": ((0, 0, 0, 0, 0, 50), (60, 60, 60, 60, 60, 30)),
    "zeros": ((0, 0, 0, 0, 0, 0), (1, 1, 1, 1, 1, 1)),
    "radians": ((0, -0.5, 0.35, 1, -0.5, 12), (0.5, 0.9, 0.9, 0.6, 1, 19)),
    "the range of a joint": ((2, -33, 21, 60, -17, 12), (24, 52, 52, 39, 37, 19)),
}


def stats(key, mean, std, with_span=False):
    values = {
        "mean": np.float64(mean),
        "std": np.float64(std),
    }
    if with_span:
        values |= {
            "min": values["mean"] - 1.5 * values["std"],
            "max": values["mean"] + 1.5 * values["std"],
        }
    return FeatureStats(
        key,
        "ACTION" if key == "action" else "STATE",
        "MEAN_STD",
        values,
    )


def look(env, mean, std, with_span=False, relative=None, key="action", **flags):
    features = stats(key, mean, std, with_span)
    inputs, action = ({}, features) if key == "action" else ({key: features}, None)
    return find_other_calibration(
        make_check_context(
            env,
            Normalisation(
                inputs,
                action,
                action,
                {},
                relative or RelativeActions(),
            ),
            **flags,
        )
    )


@pytest.mark.parametrize(
    "with_span",
    [False, True],
    ids=["mean and std", "with min and max"],
)
@pytest.mark.parametrize("name", RECORDINGS)
def test_recordings_in_the_old_calibration_are_told_from_the_same_in_todays(
    blind_env, name, with_span
):
    mean, std = RECORDINGS[name]
    assert look(blind_env, mean, std, with_span).finding == SAID
    assert (
        look(
            blind_env,
            mean,
            std,
            with_span,
            calibration=OLD,
        )
        is None
    )
    new = (mean[0], 90 - mean[1], mean[2] - 90, *mean[3:])
    assert look(blind_env, new, std, with_span) is None
    assert (
        ALREADY
        in look(
            blind_env,
            new,
            std,
            with_span,
            calibration=OLD,
        ).finding
    )


@pytest.mark.parametrize(
    "with_span",
    [False, True],
    ids=["mean and std", "with min and max"],
)
@pytest.mark.parametrize("name", HEALTHY)
def test_recordings_in_todays_calibration_are_left_alone(blind_env, name, with_span):
    assert look(blind_env, *HEALTHY[name], with_span) is None


def test_differences_say_nothing_of_the_calibration(blind_env):
    assert look(blind_env, *OF_PEOPLE, policy_actions="delta") is None
    assert look(blind_env, *OF_PEOPLE, relative=RelativeActions(True, True)) is None


def test_in_another_unit_the_environment_in_degrees_is_named_too():
    finding = look(make_env("so101/pick_place_range", {}), *OF_PEOPLE)
    assert finding.hint == f"Give --calibration {OLD}, with --env so101/pick_place."


def test_an_arm_without_these_joints_is_left_alone():
    assert look(make_env("so101/pick_place_ee", {}), *((*part, 0) for part in OF_PEOPLE)) is None
