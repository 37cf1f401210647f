"""Tests of checkpoints whose arm was calibrated in lerobot's old way.

The doctor names such a checkpoint, and `--calibration` restores its behaviour.
"""

from collections import deque
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from eval.config import EvalConfig
from eval.doctor.calibration import find_other_calibration
from eval.episode_row import load_rows
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
from tests.bug_plants import in_old_calibration, state
from tests.check_contexts import make_check_context
from tests.processes import only_run
from tests.test_eval_doctor import ACT, act, checkpoint, examine_copy, findings_of, named, wrapped

__all__ = ["act", "checkpoint"]

OLD = "so100-old"
SAID = "the arm was calibrated in lerobot's old way (shoulder_lift = 90 - x, elbow_flex = x + 90)"
ALREADY = "in the environment's own calibration already"
ABSOLUTE = RelativeActions()


@pytest.fixture
def old_act(checkpoint):
    """Return the shipped ACT as lerobot's old calibration would have made it."""
    in_old_calibration(checkpoint)
    return checkpoint


def in_old(values):
    """Return joint angles of the environment in lerobot's old calibration."""
    return values * [1, -1, 1, 1, 1, 1] + [0, 90, 90, 0, 0, 0]


def of_old(values):
    """Return joint angles in lerobot's old calibration in the environment's own."""
    return np.subtract(values, [0, 90, 90, 0, 0, 0]) * [1, -1, 1, 1, 1, 1]


def plans_of(config):
    with closing((setup := set_up(config)).env):
        memory = setup.policy.reset()
        setup.env.reset(0)
        memory.observations.append(setup.env.observe())
        return setup.policy.predict([memory], [episode_rng("pick_place", 0, 0)]).actions


@pytest.mark.slow
def test_it_is_named_by_its_statistics_and_by_undoing_it(old_act):
    found = examine_copy(old_act)
    assert {check for check, _ in found} == {"calibration"}
    hit = named(found, "calibration", SAID)
    assert hit.level == "error"
    assert hit.hint == f"Give --calibration {OLD}."


def test_the_remedy_makes_it_the_policy_that_it_is(old_act):
    config = replace_flags(ACT, checkpoint=str(old_act))
    expected = plans_of(ACT)
    assert_allclose(
        plans_of(replace_flags(config, calibration=OLD)),
        expected,
        atol=1e-3,
    )
    assert np.abs(plans_of(config) - expected).max() > 30
    assert examine_copy(old_act, calibration=OLD) == {}


@pytest.mark.parametrize(
    ("flag", "succeeds"),
    [pytest.param("", False, marks=pytest.mark.slow), (f"--calibration {OLD}", True)],
)
def test_without_the_remedy_it_fails_and_with_it_it_succeeds(
    eval_succeeds, old_act, tmp_path, flag, succeeds
):
    """The episode is one in which `act` succeeds."""
    command = f"--checkpoint {old_act} --first-episode 7 --episodes 1 --no-doctor --quiet {flag}"
    eval_succeeds(
        f"{command} --run-dir",
        tmp_path / "runs",
    )
    (row,) = load_rows(only_run(tmp_path / "runs"))
    assert row.success == succeeds


def test_it_is_recorded_and_a_run_is_resumed_with_no_other(small_act, tmp_path):
    flags = {
        "checkpoint": str(small_act),
        "calibration": OLD,
    }
    config = name_policy(make_config(EvalConfig, policy="act", **flags))
    with closing((setup := set_up(config)).env):
        description = describe(config, setup)
        RunFolder.create(tmp_path, description).close()
    resumed = replace_flags(
        config,
        resume=only_run(tmp_path),
    )
    assert refuse_changed_flags(resumed).adapters.calibration == OLD
    said = f"--calibration with --resume: expected '{OLD}', as the run has it"
    with pytest.raises(WhiskerError, match=said):
        refuse_changed_flags(replace_flags(resumed, calibration=None))
    run = Run.open(resumed.resume)
    check_same(run, description)
    other = replace(
        description,
        config=replace_flags(config, calibration=None),
    )
    said = rf"config\.adapters\.calibration: expected {OLD}, got None"
    with pytest.raises(WhiskerError, match=said):
        check_same(run, other)


@pytest.mark.slow
def test_a_checkpoint_whose_statistics_say_nothing_is_named_by_undoing_it(act):
    """The policy reads and plans values in the old calibration, but its statistics are healthy."""

    def predict(memories, rngs):
        read = state(of_old)
        shown = [
            replace(
                m,
                observations=deque(map(read, m.observations)),
            )
            for m in memories
        ]
        return ActionChunk(in_old(act.policy.predict(shown, rngs).actions).astype(np.float32))

    found = findings_of(wrapped(act, predict=predict))
    hit = named(found, "calibration", SAID)
    assert "once that is undone" in hit.evidence
    assert hit.hint == f"Give --calibration {OLD}."


@pytest.mark.slow
def test_a_checkpoint_that_needs_no_remedy_is_told_so():
    found = findings_of(config=replace_flags(ACT, calibration=OLD))
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
    "folded most of the time": ((0, -95, 90, 60, 0, 5), (10, 8, 9, 10, 5, 5)),
    "leaning forward": ((0, 60, 40, 20, 0, 20), (20, 20, 20, 20, 20, 20)),
    "everywhere": ((0, 0, 0, 0, 0, 50), (60, 60, 60, 60, 60, 30)),
    "zeros": ((0,) * 6, (1,) * 6),
    "radians": ((0, -0.5, 0.35, 1, -0.5, 12), (0.5, 0.9, 0.9, 0.6, 1, 19)),
    "the range of a joint": ((2, -33, 21, 60, -17, 12), (24, 52, 52, 39, 37, 19)),
}


def look(env, mean, std, with_span=False, relative=ABSOLUTE, **flags):
    values = {
        "mean": np.float64(mean),
        "std": np.float64(std),
    }
    if with_span:
        reach = 1.5 * values["std"]
        values |= {
            "min": values["mean"] - reach,
            "max": values["mean"] + reach,
        }
    action = FeatureStats("action", "ACTION", "MEAN_STD", values)
    normalisation = Normalisation({}, action, action, {}, relative)
    return find_other_calibration(make_check_context(env, normalisation, **flags))


with_or_without_span = pytest.mark.parametrize(
    "with_span",
    [False, True],
)


@with_or_without_span
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
    new = of_old(mean)
    assert look(blind_env, new, std, with_span) is None
    assert ALREADY in look(blind_env, new, std, with_span, calibration=OLD).finding


@with_or_without_span
@pytest.mark.parametrize("name", HEALTHY)
def test_recordings_in_todays_calibration_are_left_alone(blind_env, name, with_span):
    assert look(blind_env, *HEALTHY[name], with_span) is None


def test_differences_say_nothing_of_the_calibration(blind_env):
    assert (
        look(
            blind_env,
            *OF_PEOPLE,
            policy_actions="delta",
        )
        is None
    )
    assert (
        look(
            blind_env,
            *OF_PEOPLE,
            relative=RelativeActions(True, True),
        )
        is None
    )


def test_in_another_unit_the_environment_in_degrees_is_named_too():
    finding = look(
        make_env("so101/pick_place_range", {}),
        *OF_PEOPLE,
    )
    assert finding.hint == f"Give --calibration {OLD}, with --env so101/pick_place."


def test_an_arm_without_these_joints_is_left_alone():
    assert (
        look(
            make_env("so101/pick_place_ee", {}),
            *((*part, 0) for part in OF_PEOPLE),
        )
        is None
    )
