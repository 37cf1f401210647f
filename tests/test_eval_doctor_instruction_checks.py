"""Tests of the doctor's checks of the instruction.

The instruction may be cut off, be the same for several tasks, or be read by another model's
tokenizer.
"""

from contextlib import closing

import pytest

from eval.config import SubjectConfig
from eval.doctor.check_context import CheckContext
from eval.doctor.finding import Level
from eval.doctor.instruction_checks import check_vocabulary, check_words
from eval.doctor.training_env_checks import check_training_env
from eval.evaluation import set_up
from policies.checkpoint_files import load_training_env
from sim.flags import make_config
from tests.bug_plants import Plant
from tests.planted_bugs import PLANTS_OF_SMOLVLA, planted
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma

CHECKS = (check_words, check_vocabulary, check_training_env)
BY_NAME = {plant.name: plant for plant in (*PLANTS_OF_SMOLVLA, Plant("healthy", ()))}


def find(plant, folder):
    """Return the problems that these checks find in the shipped SmolVLA with that bug."""
    config, setup = planted(plant, folder, "smolvla")
    with closing(setup.env):
        context = CheckContext(
            config, setup, training_env=load_training_env(setup.checkpoint.folder)
        )
        return [finding for check in CHECKS for finding in check(context) if finding.is_problem]


@pytest.mark.parametrize(
    ("name", "level", "says"),
    [
        (
            "the instruction cut after 6 tokens",
            Level.ERROR,
            "'Pick up the red block and place it on the plate.'",
        ),
        (
            "the instruction cut after 6 tokens",
            Level.WARNING,
            "given 'Pick up the red block and' of 'Pick up",
        ),
        (
            "the instruction cut after 3 tokens",
            Level.ERROR,
            "'Pick up the blue block and place it on the plate.'",
        ),
        ("no instruction", Level.WARNING, "here: ''"),
        (
            "an instruction of other words",
            Level.WARNING,
            "; here: 'Grasp the red block and put it in the bowl.'",
        ),
        (
            "a byte tokenizer",
            Level.WARNING,
            "the tokenizer has 263 tokens, and the network has vectors for 298",
        ),
        ("a tokenizer of more words", Level.ERROR, "1298"),
    ],
)
def test_words_that_do_not_arrive_as_in_training_are_named(tmp_path, name, level, says):
    found = find(BY_NAME[name], tmp_path)
    assert any(f.level is level and says in f"{f.finding} {f.evidence}" for f in found), found


def test_an_instruction_that_arrives_is_fine(tmp_path):
    assert not find(BY_NAME["healthy"], tmp_path)


@pytest.mark.parametrize(
    "policy_type",
    ["smolvla", "pi0", "pi05", "xvla", "groot"],
)
def test_the_words_of_every_type_are_looked_at(tmp_path, policy_type):
    """A checkpoint that was saved without changes has no problem with its instruction."""
    with shrunken_paligemma():
        folder = save_small_checkpoint(policy_type, tmp_path / policy_type)
        config = make_config(
            SubjectConfig,
            policy=policy_type,
            checkpoint=str(folder),
        )
        setup = set_up(config)
    with closing(setup.env):
        context = CheckContext(config, setup)
        found = list(check_words(context)) + list(check_vocabulary(context))
    assert not [f for f in found if f.is_problem], found
