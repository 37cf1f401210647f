"""Tests of the check of the gripper's motion in a recorded run.

They cover a binary gripper that receives the values of another range, and a gripper that never
closes near the object.
"""

from dataclasses import replace

import numpy as np
import pytest

from eval.doctor.action_columns import name_gripper
from eval.doctor.finding import fine
from eval.doctor.gripper_check import check_gripper
from tests.test_eval_doctor_recorded_run_checks import (
    ACTION,
    GRIPPER,
    N_STEPS,
    STATE_NAMES,
    make_episode,
)

# LIBERO declares its gripper so: -1 opens, 1 closes, and only the sign counts.
BINARY = replace(
    ACTION,
    gripper_closed=1.0,
    gripper_open=-1.0,
    gripper_closes_below=0.5,
)
GRASP = 60
RELEASE = 100


def episode(gripper, near=(50, 120)):
    """Return an episode with these gripper commands.

    The tool is at the object between the two steps of `near`, and 20 cm away otherwise.
    """
    made = make_episode()
    made.action[:, GRIPPER] = gripper
    made.ee_pos_world[:] = made.object_pos_world + np.array([0.2, 0, 0])
    made.ee_pos_world[slice(*near)] = made.object_pos_world[slice(*near)]
    return made


def look(open_value, closed_value, action=BINARY, n_success=0, near=(50, 120), **flags):
    """Check episodes with commands near these two values, that close between GRASP and RELEASE."""
    commands = np.full((4, N_STEPS), open_value, float)
    commands[:, GRASP:RELEASE] = closed_value
    way = abs(action.gripper_open - action.gripper_closed)
    commands += way / 2 * np.random.default_rng(0).normal(0, 0.01, commands.shape)
    episodes = [episode(gripper, near) for gripper in commands]
    return check_gripper(
        episodes,
        action,
        STATE_NAMES,
        n_success,
        **flags,
    )


@pytest.mark.parametrize("size", [1.0, 0.9, 0.6])
def test_a_binary_gripper_that_is_told_its_two_values_is_fine(size):
    assert look(-size, size).level == "fine"


@pytest.mark.parametrize(
    ("open_value", "closed_value"),
    [(1, 0), (0, 1)],
)
def test_zero_to_one_is_named_with_both_flags(open_value, closed_value):
    finding = look(open_value, closed_value)
    assert finding.level == "error"
    assert "commanded 0 to 1, so that it closes and never opens" in finding.finding
    assert "--gripper-range 0 1 if 1 opens" in finding.hint
    assert "--gripper-range 1 0 if 1 closes" in finding.hint
    replayed = look(open_value, closed_value, is_baseline=True).hint
    assert "--gripper-range" not in replayed
    assert "1 for closed and -1 for open" in replayed


def test_a_command_that_does_nothing_is_neither_closed_nor_open():
    finding = look(0, 0)
    assert finding.level == "warning"
    assert "never closes or opens" in finding.finding


def test_a_gripper_of_many_widths_may_stay_in_one_half():
    """Such a gripper is half open in the middle of its range, so these commands are fine."""
    assert look(50, 0, ACTION).level == "fine"


@pytest.mark.parametrize("values", [(-1, 1, BINARY), (50, 0, ACTION)])
def test_a_gripper_that_closes_elsewhere_alone_is_named(values):
    """The gripper closes and opens, but never near the object."""
    finding = look(*values, near=(10, 40))
    assert finding.level == "warning"
    assert finding.finding == "the gripper never closes on the object"
    assert finding.hint
    assert "closes near the object in 0 of the 4 episodes that come near it" in finding.evidence
    assert look(*values, near=(10, 40), n_success=1).level == "fine"


@pytest.mark.parametrize(
    "values",
    [(-1, 1, BINARY), (50, 0, ACTION)],
)
@pytest.mark.parametrize(
    ("near", "level"),
    [
        # It was closed before it arrived.
        ((70, 90), "warning"),
        # It never arrives, which is not this check's concern.
        ((0, 0), "fine"),
        # It closes shortly before it arrives.
        ((GRASP + 4, 90), "fine"),
    ],
)
def test_a_gripper_has_to_close_about_when_it_arrives(values, near, level):
    assert look(*values, near=near).level == level


def test_a_door_may_be_pushed():
    commands = np.repeat(
        [-1, 1, -1],
        [GRASP, RELEASE - GRASP, N_STEPS - RELEASE],
    )
    pushed = episode(commands, near=(10, 40))
    pushed.joint_progress[:] = 0.1
    assert check_gripper([pushed] * 3, BINARY, STATE_NAMES, 0).level == "fine"


def test_the_gripper_is_named_where_there_are_several():
    second = (GRIPPER - 1,)
    found = fine("gripper motion", "opens and closes", "0 to 1")
    assert name_gripper(found, ACTION, GRIPPER) == found
    of_second = name_gripper(found, replace(ACTION, more_gripper_indices=second), second[0])
    assert of_second.evidence == f"{ACTION.names[GRIPPER - 1]!r}: 0 to 1"
