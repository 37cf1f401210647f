"""Tests that the doctor tells delta actions from absolute targets.

It relies on the processors' steps first, and on the statistics where there are no such steps.
"""

from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest

from eval.config import SubjectConfig
from eval.doctor.contract import check_action_range
from eval.doctor.training_env_checks import check_names, check_training_env
from eval.evaluation import set_up
from policies.normalisation import Normalisation, load_normalisation
from policies.training_record import TrainingRecord
from sim.errors import WhiskerError
from sim.flags import make_config, replace_flags
from tests.check_contexts import by_check, make_check_context
from tests.small_checkpoints import (
    ACTION_NAMES,
    HOME,
    edit_statistics,
    make_relative,
    save_small_act,
)

OTHERS = ("shoulder_pan", "gripper")
CHECK = "delta or absolute"


def around_zero(name, value):
    """Return the statistics of differences from the state. The gripper's stay as they are."""
    if name in ("action.mean", "action.min", "action.max", "action.q01", "action.q99"):
        return value - np.float32(HOME) * (np.arange(6) != 5)
    return value


def save_act(folder, steps=None, differences=True):
    """Save a small ACT with the relative-action steps of `make_relative`.

    Its statistics are those of differences or of targets.
    """
    save_small_act(folder)
    if steps is not None:
        make_relative(folder, **steps)
    if differences:
        edit_statistics(folder, around_zero)
    return folder


@pytest.fixture
def look(blind_env):
    def look(folder, mode="absolute", **flags):
        """Return the findings on the actions by check.

        The environment takes targets or differences, as `mode` says.
        """
        action = replace(blind_env.spec.action, mode=mode)
        spec = replace(blind_env.spec, action=action)
        normalisation = load_normalisation(folder)
        context = make_check_context(
            blind_env, normalisation, spec, checkpoint=str(folder), **flags
        )
        return by_check(check_action_range(context))

    return look


def test_a_state_that_the_postprocessor_adds_makes_targets_of_differences(tmp_path, look):
    found = look(save_act(tmp_path / "act", {}))
    assert {f.level for f in found.values()} == {"fine"}
    assert "differences from the state" in found["action range"].finding


def test_they_are_refused_as_differences_since_the_state_would_be_added_twice(tmp_path):
    folder = save_act(tmp_path / "act", {})
    config = make_config(
        SubjectConfig,
        checkpoint=str(folder),
        policy="act",
    )
    said = r"--policy-actions delta.*adds the state itself.*twice"
    with pytest.raises(WhiskerError, match=said) as refusal:
        set_up(replace_flags(config, policy_actions="delta"))
    assert refusal.value.hint == "Leave --policy-actions out."
    set_up(config).env.close()


def test_an_environment_of_differences_gets_no_targets(tmp_path, look):
    finding = look(save_act(tmp_path / "act", {}), mode="delta")[CHECK]
    assert finding.level == "error"
    assert "adds the state" in finding.finding


@pytest.mark.parametrize(
    ("exclude", "flag_helps"),
    [(("gripper",), True), ((), False), (OTHERS, False)],
)
def test_differences_that_nothing_makes_targets_are_named(tmp_path, look, exclude, flag_helps):
    """The flag helps only if the training left the gripper absolute too.

    `--policy-actions delta` does not add the state to the gripper's action.
    """
    folder = save_act(
        tmp_path / "act",
        {"added": False, "exclude": exclude},
    )
    finding = look(folder)[CHECK]
    assert finding.level == "error"
    assert "to which no step adds the state" in finding.finding
    assert ("--policy-actions delta" in finding.hint) is flag_helps
    if flag_helps:
        assert CHECK not in look(folder, policy_actions="delta")
    mended = make_relative(save_small_act(tmp_path / "mended"), exclude=exclude)
    assert CHECK not in look(mended)


def test_a_state_that_is_added_to_targets_is_named(tmp_path, look):
    save = partial(save_act, steps={"trained": False})
    finding = look(save(tmp_path / "act", differences=False))[CHECK]
    assert finding.level == "error"
    assert "adds the state to actions that look like targets" in finding.finding
    # The dataset may already have contained differences.
    assert CHECK not in look(save(tmp_path / "differences"))


@pytest.mark.parametrize(
    "steps",
    [None, {"trained": False, "added": False}],
)
def test_without_such_steps_the_statistics_decide(tmp_path, look, steps):
    folder = save_act(tmp_path / "act", steps)
    finding = look(folder)[CHECK]
    assert finding.level == "error"
    assert "look like differences" in finding.finding
    assert CHECK not in look(folder, policy_actions="delta")
    targets = save_act(tmp_path / "targets", steps, differences=False)
    assert CHECK not in look(targets)
    assert "look like targets" in look(targets, policy_actions="delta")[CHECK].finding


@pytest.fixture
def context(blind_env):
    return make_check_context(
        blind_env,
        Normalisation({}, None, None, {}),
    )


@pytest.mark.parametrize(
    ("words", "is_another"),
    [
        ("pick up the red block and place it in the bowl", False),
        ("  Pick_up_the_red_block  and place it\nin the bowl.", False),
        ("Pick up the blue block and place it in the bowl.", True),
    ],
)
def test_another_instruction_is_one_of_other_words(context, words, is_another):
    context.setup.policy.spec = replace(context.setup.policy.spec, reads_instruction=True)
    context.training_env = asdict(context.env) | {"instruction": words}
    found = by_check(check_training_env(context))
    assert ("instruction" in found) == is_another
    if is_another:
        assert found["instruction"].level == "warning"
        assert "blue" in found["instruction"].evidence


def look_at_names(context, **names):
    context.setup = replace(context.setup, training=TrainingRecord(**names))
    return list(check_names(context))


def test_numbers_in_another_order_than_the_datasets_are_named_by_their_names(context):
    pan, *others = ACTION_NAMES
    names = {"state_names": ACTION_NAMES, "action_names": (*others, pan)}
    (finding,) = look_at_names(context, **names)
    assert finding.check == "joint order"
    assert finding.level == "error"
    assert "actions" in finding.finding
    assert finding.evidence == "trained: shoulder_lift.pos; here: shoulder_pan.pos, and 5 more"
    (finding,) = look_at_names(context, state_names=(*others, pan))
    assert "state" in finding.finding
    assert ", ".join(ACTION_NAMES) in finding.hint


def test_names_that_say_the_same_or_nothing_are_quiet(context):
    older = tuple(f"main_{name.removesuffix('.pos')}" for name in ACTION_NAMES)
    unknown = tuple(f"motor_{index}" for index in range(6))
    for names in (ACTION_NAMES, older, unknown, ()):
        assert (
            look_at_names(
                context,
                state_names=names,
                action_names=names,
            )
            == []
        )


def test_a_gripper_that_is_a_difference_too_has_no_range(tmp_path, look):
    def all_around_zero(name, value):
        is_place = name in ("action.mean", "action.min", "action.max")
        return value - np.float32(HOME) if is_place else value

    folder = make_relative(save_small_act(tmp_path / "act"), exclude=())
    edit_statistics(folder, all_around_zero)
    finding = look(folder)["gripper"]
    assert finding.level == "unknown"
    assert "differences" in finding.finding
