"""Tests of the doctor on what the network of a diffusion policy predicts."""

import pytest

from eval.config import SubjectConfig
from eval.doctor.prediction_type import check_prediction_type
from sim.flags import make_config
from tests.bug_plants import Plant, settings
from tests.check_contexts import open_check_context
from tests.planted_bugs import planted
from tests.small_checkpoints import save_small_diffusion


def set_type(prediction_type):
    return settings("config.json", lambda config: config.update(prediction_type=prediction_type))


@pytest.mark.parametrize(("told", "level"), [("epsilon", "fine"), ("sample", "error")])
def test_a_network_that_predicts_the_noise_is_told_so(tmp_path, told, level):
    plant = Plant("prediction type", (), files=set_type(told))
    with open_check_context(*planted(plant, tmp_path, "diffusion")) as context:
        (finding,) = check_prediction_type(context)
    assert finding.level == level
    assert f'prediction_type is "{told}"' in finding.evidence


@pytest.mark.parametrize(("told", "level"), [("epsilon", "unknown"), ("sample", "fine")])
def test_a_network_that_does_not_know_the_noise_is_not_told_to_predict_it(tmp_path, told, level):
    save_small_diffusion(tmp_path, prediction_type=told)
    config = make_config(SubjectConfig, policy="diffusion", checkpoint=str(tmp_path))
    with open_check_context(config) as context:
        (finding,) = check_prediction_type(context)
    assert finding.level == level


@pytest.mark.parametrize("policy", ["zero", "act"])
def test_other_policies_are_not_asked(policy):
    with open_check_context(make_config(SubjectConfig, policy=policy)) as context:
        assert not list(check_prediction_type(context))
