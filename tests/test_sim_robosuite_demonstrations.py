"""Replays of robomimic's demonstrations equal robomimic's own, bit for bit."""

from contextlib import closing

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_array_equal

from sim.errors import UnknownNameError, WhiskerError
from sim.registry import env_of_demonstrations, make_env
from sim.robosuite_tasks.env import RobosuiteTaskEnv
from sim.robosuite_tasks.tasks import TASKS
from tests.robomimic_files import ENV_KWARGS, record_stock_demonstration, write_demonstrations
from tests.stock_robosuite import (
    close_stock_env,
    images_of,
    make_stock_env,
    state_of,
    step_stock_env,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stock():
    stock = make_stock_env("Lift")
    yield stock
    close_stock_env(stock)


@pytest.fixture(scope="module")
def demonstrations(stock):
    return [
        record_stock_demonstration(stock, "Lift", index, default_rng(index).uniform(-1, 1, (12, 7)))
        for index in range(2)
    ]


@pytest.fixture(scope="module")
def demo_file(demonstrations, tmp_path_factory):
    path = tmp_path_factory.mktemp("demos") / "lift.hdf5"
    write_demonstrations(path, "Lift", demonstrations)
    return path


def reset_as_robomimic(stock, model_xml, state):
    """Do what robomimic's `EnvRobosuite.reset_to` does in a new environment.

    In one that has been used, the gripper keeps its last command.
    """
    stock.robots[0].gripper.current_action = np.zeros(2)
    stock.reset_from_xml_string(stock.edit_model_xml(model_xml))
    stock.sim.reset()
    stock.sim.set_state_from_flattened(state)
    stock.sim.forward()
    return stock._get_observations(force_update=True)


def test_a_replay_equals_robomimics(stock, demonstrations, demo_file):
    with closing(RobosuiteTaskEnv(TASKS["Lift"], demos=demo_file)) as env:
        assert env.spec.n_episodes == 2
        expert = env.make_expert()
        for episode_index in (1, 0):
            model_xml, states, actions = demonstrations[episode_index]
            observation = reset_as_robomimic(stock, model_xml, states[0])
            env.reset(episode_index)
            expert.reset()
            for recorded in actions:
                assert_array_equal(env.data.qpos, stock.sim.data.qpos)
                assert_array_equal(env.state(), state_of(observation))
                action = expert.action()
                assert_array_equal(action, recorded)
                observation, *_ = step_stock_env(stock, action.astype(np.float32))
                env.step(action)
            for camera, image in images_of(observation).items():
                assert_array_equal(env.observe().images[camera], image)
            assert_array_equal(expert.action(), [0] * 6 + [actions[-1, 6]])
            snapshot = env.snapshot()
            env.reset(1 - episode_index)
            env.restore(snapshot)
            assert_array_equal(env.snapshot(), snapshot)


def test_the_file_names_its_environment(demo_file):
    name = env_of_demonstrations(demo_file)
    assert name == f"robosuite/Lift@{demo_file}"
    with closing(make_env(name, image_sizes={})) as env:
        assert env.spec.name == name and env.spec.task == "robosuite/Lift"
        with pytest.raises(WhiskerError, match="0 to 1: there are 2 demonstrations"):
            env.reset(2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"robots": ["Sawyer"]}, "expected robots Panda, got Sawyer"),
        ({"robots": ["Panda", "Panda"]}, r"got \['Panda', 'Panda'\]"),
        ({"control_freq": 10}, "expected control_freq 20, got 10"),
        (
            {"controller_configs": ENV_KWARGS["controller_configs"] | {"type": "IK_POSE"}},
            "expected type OSC_POSE, got IK_POSE",
        ),
        (
            {"controller_configs": ENV_KWARGS["controller_configs"] | {"control_delta": False}},
            "absolute poses: add --control absolute",
        ),
    ],
)
def test_a_file_of_another_robot_or_controller_is_refused(tmp_path, demonstrations, change, said):
    path = tmp_path / "other.hdf5"
    write_demonstrations(path, "Lift", demonstrations, **change)
    with pytest.raises(WhiskerError, match=said):
        RobosuiteTaskEnv(TASKS["Lift"], {}, demos=path)


def test_a_file_of_another_task_is_refused(tmp_path, demonstrations, demo_file):
    with pytest.raises(WhiskerError, match="expected the task 'Stack', got 'Lift'"):
        RobosuiteTaskEnv(TASKS["Stack"], {}, demos=demo_file)
    path = tmp_path / "hang.hdf5"
    write_demonstrations(path, "ToolHang", demonstrations)
    with pytest.raises(UnknownNameError, match="robosuite/ToolHang"):
        env_of_demonstrations(path)
