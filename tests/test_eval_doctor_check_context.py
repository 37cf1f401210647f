from time import sleep

import pytest

from eval.config import SubjectConfig
from eval.doctor.check_context import CheckContext
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.check_contexts import open_check_context


@pytest.mark.parametrize(
    ("part", "method", "subject"),
    [
        ("env", "observe", "first observation of 'so101/pick_place'"),
        ("policy", "predict", "first plan of policy 'zero' in 'so101/pick_place'"),
    ],
)
def test_the_first_failure_is_that_of_the_part_that_failed(part, method, subject, monkeypatch):
    def fail(*_):
        raise ImportError("no driver")

    with open_check_context(make_config(SubjectConfig, policy="zero")) as context:
        context.rehearse()
        monkeypatch.setattr(getattr(context.setup, part), method, fail)
        with pytest.raises(WhiskerError) as refusal:
            CheckContext(context.config, context.setup).rehearse()
    assert refusal.value.subject == subject
    assert "ImportError: no driver" in refusal.value.got


def test_waiting_for_the_processor_does_not_count_as_time_of_a_prediction(monkeypatch):
    with open_check_context(make_config(SubjectConfig, policy="zero")) as context:
        predict = context.setup.policy.predict

        def predict_late(*arguments):
            sleep(1.0)  # as on a machine that is busy with something else
            return predict(*arguments)

        monkeypatch.setattr(context.setup.policy, "predict", predict_late)
        assert context.prediction_s < 0.5
