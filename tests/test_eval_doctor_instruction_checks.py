"""Tests of the doctor's checks of the instruction.

The instruction may be cut off, be the same for several tasks, or be read by another model's
tokenizer.
"""

import pytest

from eval.config import SubjectConfig
from eval.doctor.instruction_checks import check_vocabulary, check_words
from eval.doctor.training_env_checks import check_training_env
from sim.flags import make_config
from tests.bug_plants import Plant
from tests.check_contexts import open_check_context
from tests.planted_bugs import PLANTS_OF_SMOLVLA, planted
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma

BY_NAME = {plant.name: plant for plant in (*PLANTS_OF_SMOLVLA, Plant("healthy", ()))}


def problems_of(context, *checks):
    return [finding for check in checks for finding in check(context) if finding.is_problem]


def find(name, folder):
    """Return the problems that these checks find in the shipped SmolVLA with that bug."""
    with open_check_context(*planted(BY_NAME[name], folder, "smolvla")) as context:
        return problems_of(context, check_words, check_vocabulary, check_training_env)


@pytest.mark.parametrize(
    ("name", "level", "says"),
    [
        (
            "the instruction cut after 6 tokens",
            "error",
            "'Pick up the red block and place it on the plate.'",
        ),
        (
            "the instruction cut after 6 tokens",
            "warning",
            "given 'Pick up the red block and' of 'Pick up",
        ),
        (
            "the instruction cut after 3 tokens",
            "error",
            "'Pick up the blue block and place it on the plate.'",
        ),
        ("no instruction", "warning", "here: ''"),
        (
            "an instruction of other words",
            "warning",
            "; here: 'Grasp the red block and put it in the bowl.'",
        ),
        (
            "a byte tokenizer",
            "warning",
            "the tokenizer has 263 tokens, and the network has vectors for 298",
        ),
        ("a tokenizer of more words", "error", "1298"),
    ],
)
def test_words_that_do_not_arrive_as_in_training_are_named(tmp_path, name, level, says):
    found = find(name, tmp_path)
    assert any(f.level == level and says in f"{f.finding} {f.evidence}" for f in found), found


def test_an_instruction_that_arrives_is_fine(tmp_path):
    assert find("healthy", tmp_path) == []


@pytest.mark.parametrize(
    "policy_type", ["smolvla", "pi0", "pi05", "xvla", "groot", "eo1", "evo1", "vla_jepa"]
)
def test_the_words_of_every_type_are_looked_at(tmp_path, policy_type):
    """A checkpoint that was saved without changes has no problem with its instruction."""
    with shrunken_paligemma():
        folder = save_small_checkpoint(policy_type, tmp_path / policy_type)
        config = make_config(SubjectConfig, policy=policy_type, checkpoint=str(folder))
        with open_check_context(config) as context:
            assert [finding.level for finding in check_words(context)] == ["fine"]
            assert problems_of(context, check_vocabulary) == []


def test_a_prompt_of_evo1_that_is_cut_is_named(tmp_path):
    """Of 60 letters, the images and the words around them have 48."""
    folder = save_small_checkpoint("evo1", tmp_path / "evo1", max_text_length=60)
    config = make_config(SubjectConfig, checkpoint=str(folder), env="so101/pick_place_words")
    with open_check_context(config) as context:
        told = context.first_memory.present.instruction
        assert told.startswith("Pick up the red block ")
        error, warning = problems_of(context, check_words)
        assert error.level == "error"
        assert all(repr(each) in error.evidence for each in context.env.instructions)
        assert f"the network is given 'Pick up the red' of {told!r}" in warning.finding


def test_a_prompt_of_eo1_without_what_was_told_is_named(tmp_path):
    folder = save_small_checkpoint("eo1", tmp_path / "eo1")
    config = make_config(SubjectConfig, checkpoint=str(folder), env="so101/pick_place_words")
    path = folder / "vlm" / "chat_template.jinja"
    whole = path.read_text()
    assert "{{ item.text }}" in whole
    path.write_text(whole.replace("{{ item.text }}", "{{ item.text[:29] }}"))
    with open_check_context(config) as context:
        error, warning = problems_of(context, check_words)
        assert all(repr(each) in error.evidence for each in context.env.instructions)
        assert "it is cut: the network is given" in warning.finding


def test_a_prompt_of_vla_jepa_without_the_instruction_is_named(tmp_path):
    template = "Infer the dynamics from {actions} and produce {e_actions}."
    folder = save_small_checkpoint("vla_jepa", tmp_path / "vla_jepa", prompt_template=template)
    config = make_config(SubjectConfig, checkpoint=str(folder), env="so101/pick_place_words")
    with open_check_context(config) as context:
        error, warning = problems_of(context, check_words)
        assert error.level == "error"
        assert all(repr(each) in error.evidence for each in context.env.instructions)
        assert "the network is given '' of" in warning.finding
