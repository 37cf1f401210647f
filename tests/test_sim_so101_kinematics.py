import mujoco
import numpy as np
import pytest

from sim.so101.kinematics import TopDownKinematics


@pytest.fixture(scope="module")
def kinematics(blind_env):
    return TopDownKinematics(blind_env.model)


def forward(env, q_rad):
    data = mujoco.MjData(env.model)
    data.qpos[:5] = q_rad
    mujoco.mj_kinematics(env.model, data)
    site = data.site("tcp")
    return site.xpos.copy(), site.xmat.reshape(3, 3).copy()


@pytest.mark.parametrize(
    "x",
    [0.16, 0.22, 0.28],
)
@pytest.mark.parametrize(
    "y",
    [-0.12, -0.04],
)
@pytest.mark.parametrize(
    "yaw_offset",
    [-0.6, 0.0, 0.6],
)
def test_reaches_every_grasp_straight_down_with_the_yaw_asked_for(
    blind_env, kinematics, x, y, yaw_offset
):
    target = np.array([x, y, 0.0125])
    yaw = np.arctan2(y, x - 0.04) + yaw_offset
    q = kinematics.solve(
        np.array(blind_env.config.home_rad[:5]), target, yaw, 0.1, n_iterations=200
    )
    pos, rotation = forward(blind_env, q)
    assert np.linalg.norm(pos - target) < 0.002
    assert rotation[2, 2] > np.cos(0.1)
    assert (
        abs((np.arctan2(rotation[1, 0], rotation[0, 0]) - yaw + np.pi) % (2 * np.pi) - np.pi) < 0.1
    )


def test_position_comes_first_where_the_wrist_saturates(blind_env, kinematics):
    target = np.array([0.2, 0.0, 0.10])
    q = kinematics.solve(
        np.array(blind_env.config.home_rad[:5]), target, 0.0, 0.02, n_iterations=300
    )
    assert np.linalg.norm(forward(blind_env, q)[0] - target) < 0.003


def test_out_of_reach_stays_inside_the_joint_limits(blind_env, kinematics):
    q = kinematics.solve(
        np.zeros(5),
        np.array([2.0, 2.0, 2.0]),
        0.0,
        0.1,
        n_iterations=100,
    )
    low, high = blind_env.model.jnt_range[:5].T
    assert (q >= low).all() and (q <= high).all()


def test_the_jacobian_is_the_derivative_of_the_error(blind_env, kinematics):
    """The oracle is finite differences near the target, where the rotation error is linear."""
    q = kinematics.solve(
        np.array(blind_env.config.home_rad[:5]), np.array([0.2, -0.08, 0.02]), 0.0, 0.1, 200
    )
    pos, rotation = forward(blind_env, q)
    yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
    _, jacobian = kinematics._linearise(q, pos, yaw, 1.0)
    eps = 1e-6
    for joint in range(5):
        dq = eps * np.eye(5)[joint]
        up, _ = kinematics._linearise(
            q + dq,
            pos,
            yaw,
            1.0,
        )
        down, _ = kinematics._linearise(
            q - dq,
            pos,
            yaw,
            1.0,
        )
        # The sign is negative, because the error falls as the joint moves towards the target.
        np.testing.assert_allclose(-(up - down) / (2 * eps), jacobian[:, joint], atol=0.02)
