import pytest

from eval.preflight import check_fit, resolve_n_action_steps
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_policy import load_lerobot_policy
from policies.policy import PolicySpec
from sim.errors import WhiskerError
from tests.small_checkpoints import save_small_act


def spec(**changes):
    return PolicySpec(**({"type": "act", "image_sizes": {}, "state_dim": 6, "action_dim": 6, "chunk_size": 10}
                         | {"n_action_steps": 4, "max_action_steps": 10, "stochastic": False} | changes))  # fmt: skip


def test_a_checkpoint_for_another_robot_is_refused_with_both_sides_named(blind_env, tmp_path):
    folder = save_small_act(tmp_path / "other_robot", state_dim=14, action_dim=14)
    policy = load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")
    with pytest.raises(WhiskerError, match=r"6 numbers \(shoulder_pan\.pos.*reads 14"):
        check_fit(policy.spec, blind_env.spec)


def test_an_action_of_another_width_is_refused(blind_env):
    with pytest.raises(WhiskerError, match=r"expected \(horizon, 6\).*got \(10, 7\)"):
        check_fit(spec(action_dim=7), blind_env.spec)


def test_what_fits_passes(blind_env):
    check_fit(spec(), blind_env.spec)
    check_fit(spec(state_dim=None, action_dim=None), blind_env.spec)


def test_n_action_steps_is_the_checkpoints_unless_asked_otherwise():
    assert resolve_n_action_steps(spec(), None) == 4
    assert resolve_n_action_steps(spec(), 10) == 10


@pytest.mark.parametrize("asked", [0, -1, 11])
def test_n_action_steps_outside_the_chunk_is_refused(asked):
    with pytest.raises(WhiskerError, match="1 to 10"):
        resolve_n_action_steps(spec(), asked)


def test_an_ensemble_moves_on_by_one_step_a_prediction(small_act_ensembling):
    policy = load_lerobot_policy(open_checkpoint("act", str(small_act_ensembling)), "cpu")
    assert resolve_n_action_steps(policy.spec, None) == 1
    with pytest.raises(WhiskerError, match="predicts at every step"):
        resolve_n_action_steps(policy.spec, 2)
