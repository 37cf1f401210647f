from contextlib import closing

import pytest

from eval.config import SubjectConfig
from eval.doctor.check_context import CheckContext
from eval.evaluation import set_up
from sim.errors import WhiskerError
from sim.flags import make_config


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

    config = make_config(SubjectConfig, policy="zero")
    setup = set_up(config)
    with closing(setup.env):
        CheckContext(config, setup).rehearse()
        monkeypatch.setattr(getattr(setup, part), method, fail)
        with pytest.raises(WhiskerError) as refusal:
            CheckContext(config, setup).rehearse()
    assert refusal.value.subject == subject and "ImportError: no driver" in refusal.value.got
