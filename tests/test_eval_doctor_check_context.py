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
