import pytest

from eval.config import DoctorConfig, EvalConfig
from eval.lerobot_flags import OURS, refuse_lerobot_flags
from sim.errors import WhiskerError
from sim.flags import find_flags


def test_each_of_lerobots_flags_is_answered_with_one_that_there_is():
    own = {flag.spelling for flag in find_flags(EvalConfig)}
    assert set(OURS.values()) - {""} <= own
    assert not own & OURS.keys()


def test_ours_pass():
    refuse_lerobot_flags(
        ["--policy", "act", "--env=libero_goal", "--n_action_steps", "2", "--no-doctor"], EvalConfig
    )


@pytest.mark.parametrize(
    ("config_type", "said"),
    [
        (
            EvalConfig,
            "Say --env in place of --env.type, --episodes in place of --eval.n_episodes. "
            "Leave out --policy.x.",
        ),
        (
            DoctorConfig,
            "Say --env in place of --env.type. Leave out --eval.n_episodes, --policy.x.",
        ),
    ],
)
def test_a_command_line_of_lerobot_eval_is_translated(config_type, said):
    arguments = ["--env.type=libero", "--eval.n_episodes", "10", "--policy.x=1", "--policy=act"]
    with pytest.raises(WhiskerError) as refusal:
        refuse_lerobot_flags(arguments, config_type)
    assert refusal.value.hint == said
    assert refusal.value.subject == "--env.type, --eval.n_episodes, --policy.x"
