import numpy as np
import pytest

from sim.registry import make_env
from sim.so101.expert import PickPlaceExpert


def follow(expert, env):
    """Return the result of the last step: of the first success, or of the episode's end."""
    for _ in range(env.spec.max_steps):
        result = env.step(expert.action())
        if result.success:
            break
    return result


def run(env, episode_index, failure_mode=None):
    env.reset(episode_index)
    return follow(
        PickPlaceExpert(env, failure_mode),
        env,
    )


def test_succeeds(blind_env):
    assert all(run(blind_env, index).success for index in range(6))


def test_succeeds_with_the_brick():
    env = make_env("so101/pick_place_brick", image_sizes={})
    assert all(run(env, index).success for index in range(3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["so101/pick_place", "so101/pick_place_brick"],
)
def test_98_of_100(name):
    env = make_env(name, image_sizes={})
    assert sum(run(env, index).success for index in range(100)) >= 98


@pytest.mark.parametrize(
    "failure_mode", ["never_close", "open_half_way", "release_beside", "stop_over_bowl"]
)
def test_a_failure_mode_spoils_it(blind_env, failure_mode):
    assert not run(
        blind_env,
        0,
        failure_mode,
    ).success


def test_it_follows_from_the_state_alone(blind_env):
    first, again = (run(blind_env, 3).progress[0].object_pos_world for _ in range(2))
    assert (first == again).all()


def test_a_start_above_the_block_also_succeeds(blind_env):
    blind_env.reset(2)
    expert = PickPlaceExpert(blind_env)
    blind_env.place_arm(expert.pose_above_block(np.array([0.03, -0.02, 0.06])))
    assert follow(expert, blind_env).success
