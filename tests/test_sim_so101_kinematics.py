from itertools import product

import mujoco
import numpy as np
import pytest

from sim.so101.kinematics import TopDownKinematics
from tests.derivatives import central_differences


@pytest.fixture(scope="module")
def kinematics(blind_env):
    return TopDownKinematics(blind_env.model)


@pytest.fixture(scope="module")
def home(blind_env):
    return np.array(blind_env.config.home_rad[:5])


def forward(env, q_rad):
    data = mujoco.MjData(env.model)
    data.qpos[:5] = q_rad
    mujoco.mj_kinematics(env.model, data)
    site = data.site("tcp")
    return site.xpos.copy(), site.xmat.reshape(3, 3).copy()


def test_reaches_every_grasp_straight_down_with_the_yaw_asked_for(blind_env, kinematics, home):
    for x, y, yaw_offset in product((0.16, 0.22, 0.28), (-0.12, -0.04), (-0.6, 0.0, 0.6)):
        target = np.array([x, y, 0.0125])
        yaw = np.arctan2(y, x - 0.04) + yaw_offset
        q = kinematics.solve(
            home,
            target,
            yaw,
            0.1,
            n_iterations=200,
        )
        pos, rotation = forward(blind_env, q)
        assert np.linalg.norm(pos - target) < 0.002
        assert rotation[2, 2] > np.cos(0.1)
        turned = np.arctan2(rotation[1, 0], rotation[0, 0]) - yaw
        assert np.cos(turned) > np.cos(0.1)


def test_position_comes_first_where_the_wrist_saturates(blind_env, kinematics, home):
    target = np.array([0.2, 0.0, 0.10])
    q = kinematics.solve(
        home,
        target,
        0.0,
        0.02,
        n_iterations=300,
    )
    assert np.linalg.norm(forward(blind_env, q)[0] - target) < 0.003


def test_out_of_reach_stays_inside_the_joint_limits(blind_env, kinematics):
    q = kinematics.solve(
        np.zeros(5),
        np.full(3, 2.0),
        0.0,
        0.1,
        n_iterations=100,
    )
    low, high = blind_env.model.jnt_range[:5].T
    assert (q >= low).all() and (q <= high).all()


def test_the_jacobian_is_the_derivative_of_the_error(blind_env, kinematics, home):
    """The oracle is finite differences near the target, where the rotation error is linear."""
    q = kinematics.solve(
        home,
        np.array([0.2, -0.08, 0.02]),
        0.0,
        0.1,
        200,
    )
    pos, rotation = forward(blind_env, q)
    yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
    _, jacobian = kinematics._linearise(q, pos, yaw, 1.0)
    numeric = central_differences(
        lambda q: kinematics._linearise(
            q,
            pos,
            yaw,
            1.0,
        )[0],
        q,
    )
    # The sign is negative, because the error falls as the joint moves towards the target.
    np.testing.assert_allclose(-numeric, jacobian, atol=0.02)
