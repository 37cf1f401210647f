"""Our environments of robosuite's tasks equal robosuite's own, bit for bit."""

from contextlib import closing

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from eval.grasps import find_closing_commands
from eval.preflight import check_fit
from policies.adapters import AdaptedPolicy, Adapters
from policies.baselines import RandomPolicy, ZeroPolicy
from policies.policy import make_memory
from sim.check_env import check_env
from sim.contract_trial import bits_of, read
from sim.errors import UnknownNameError, WhiskerError
from sim.registry import expand_env, family_of, list_envs, make_env, task_of
from sim.robosuite.osc_pose import CONTROLLER
from sim.robosuite_tasks.env import RobosuiteTaskEnv
from sim.robosuite_tasks.tasks import REFUSED, TASKS
from tests.stock_robosuite import (
    CAMERAS,
    begin_stock_episode,
    close_stock_env,
    images_of,
    make_stock_env,
    state_of,
    step_stock_env,
)

CHUNK = 8
# A submission is tested with these. The tests take half a minute for each.
FEW_TASKS = ("Lift", "PickPlaceCan")
TASKS_WITH_MARKS = [
    name if name in FEW_TASKS else pytest.param(name, marks=pytest.mark.exhaustive)
    for name in TASKS
]


def make(name, image_sizes=None, **options):
    return RobosuiteTaskEnv(TASKS[name], image_sizes, **options)


@pytest.fixture(scope="module")
def blind():
    with closing(make("Lift", {})) as env:
        yield env


def random_actions(n_steps, seed=0, dim=7):
    """Return actions of which some exceed the controller's range; the gripper has both signs."""
    return default_rng(seed).normal(0, 0.6, (n_steps, dim)).astype(np.float32)


def assert_same_moment(env, stock, observation, *, images):
    assert_array_equal(env.data.qpos, stock.sim.data.qpos)
    assert_array_equal(env.data.qvel, stock.sim.data.qvel)
    assert_array_equal(env.state(), state_of(observation, with_objects=True))
    if images:
        ours = env.observe().images
        for camera, image in images_of(observation).items():
            assert_array_equal(ours[camera], image)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS_WITH_MARKS)
def test_episodes_equal_those_of_the_stock_environment(name):
    """States, images, observations of the objects and success are equal in two episodes.

    The second episode has a lower index, and both environments have been used before.
    """
    stock = make_stock_env(name)
    with closing(make(name, has_object_state=True)) as env:
        for episode_index in (4, 1):
            observation = begin_stock_episode(stock, name, episode_index)
            env.reset(episode_index)
            assert_same_moment(env, stock, observation, images=True)
            actions = random_actions(2 * CHUNK, episode_index, env.spec.action.dim)
            for step, action in enumerate(actions, start=1):
                observation, *_ = step_stock_env(stock, action)
                assert env.step(action).success == stock._check_success()
                assert_same_moment(env, stock, observation, images=step % CHUNK == 0)
    close_stock_env(stock)


@pytest.mark.slow
def test_the_markers_of_wipe_disappear_as_in_the_stock_environment():
    """Images, states and the wiped markers are equal while the tool follows the markers.

    A snapshot that is restored in another episode shows the markers that were left.
    """
    stock = make_stock_env("Wipe")
    with closing(make("Wipe", has_object_state=True)) as env:
        observation = begin_stock_episode(stock, "Wipe", 4)
        env.reset(4)
        expert = env.make_expert()
        for step in range(1, 4 * CHUNK + 1):
            action = expert.action().astype(np.float32)
            observation, *_ = step_stock_env(stock, action)
            env.step(action)
            assert count_markers_left(env) == 100 - len(stock.wiped_markers)
            assert_same_moment(env, stock, observation, images=step % CHUNK == 0)
        close_stock_env(stock)
        assert 0 < count_markers_left(env) < 90
        assert env.progress()[0].measures["force_n"] > 1.0
        snapshot = env.snapshot()
        env.reset(1)
        assert count_markers_left(env) == 100
        env.restore(snapshot)
        assert_array_equal(env.snapshot(), snapshot)
        for camera, image in images_of(observation).items():
            assert_array_equal(env.observe().images[camera], image)


def test_wipe_has_no_gripper():
    """A policy's gripper cannot be adapted to it, and nothing commands one closed."""
    with closing(make("Wipe", {})) as env:
        spec = env.spec
        assert spec.action.names == ("x", "y", "z", "rx", "ry", "rz")
        assert spec.action.gripper_index is None and len(env.state()) == 7
        assert not find_closing_commands(random_actions(3, dim=6), spec.action).any()
        adapters = Adapters(gripper_range=(1.0, -1.0), gripper_offset=0.1)
        said = "--gripper-range in 'robosuite/Wipe': expected an environment whose tool has a grip"
        with pytest.raises(WhiskerError, match=said):
            check_fit(RandomPolicy(env).spec, spec, adapters)


def count_markers_left(env):
    return env.progress()[0].measures["markers_left"]


@pytest.mark.slow
def test_two_arms_lift_a_pot_as_in_the_stock_environment():
    """States and success are equal in every step until the pot is up, contacts included."""
    stock = make_stock_env_without_images("TwoArmLift")
    begin_stock_episode(stock, "TwoArmLift", 1)
    with closing(make("TwoArmLift", {})) as env:
        env.reset(1)
        expert = env.make_expert()
        success = False
        while not success:
            action = expert.action().astype(np.float32)
            stock.step(action)
            success = env.step(action).success
            assert success == stock._check_success()
            assert_array_equal(env.data.qpos, stock.sim.data.qpos)
            assert_array_equal(env.data.qvel, stock.sim.data.qvel)
        progress = env.progress()[0]
        assert all(progress.stages.values())
        assert progress.measures["height_left_m"] < 0 and progress.measures["tilt_rad"] < 0.1
    close_stock_env(stock)


def test_two_arms_have_two_grippers():
    """Each gripper is adapted; both must be commanded closed; absolute actions are refused."""
    with closing(make("TwoArmLift", {})) as env:
        spec = env.spec
        assert spec.action.dim == 14 and len(env.state()) == 18
        assert [spec.action.names[i] for i in spec.action.gripper_indices] == [
            "robot0_gripper",
            "robot1_gripper",
        ]
        actions = np.zeros((4, 14), np.float32)
        actions[:, [6, 13]] = [[-1, -1], [-1, 1], [1, -1], [1, 1]]
        assert find_closing_commands(actions, spec.action).tolist() == [False, False, False, True]
        # The zeros of this policy then mean closed.
        policy = AdaptedPolicy(ZeroPolicy(env), Adapters(gripper_range=(0.0, 1.0)), spec)
        action = policy.predict([make_memory(env.observe())], [default_rng(0)]).actions[0, 0]
        assert np.flatnonzero(action).tolist() == [6, 13] and action[[6, 13]].tolist() == [1, 1]
    said = "--control absolute in 'robosuite/TwoArmLift': expected --control delta"
    with pytest.raises(WhiskerError, match=said):
        make("TwoArmLift", {}, control="absolute")


def make_stock_env_without_images(name, **changes):
    """Make it without a renderer, whose solver still starts where the renderer's would."""
    stock = make_stock_env(name, render=False, **changes)
    # Without a renderer, the stock environment's solver starts elsewhere (`loading`).
    load = stock._initialize_sim
    stock._initialize_sim = lambda *arguments: (load(*arguments), stock.sim.forward())
    return stock


def test_absolute_actions_equal_those_of_the_stock_environment():
    stock = make_stock_env_without_images("Lift", control_delta=False)
    begin_stock_episode(stock, "Lift", 2)
    with closing(make("Lift", {}, control="absolute")) as env:
        assert env.spec.action.mode == "absolute"
        env.reset(2)
        position = env.ee_pos_world() + np.array([0.05, -0.06, -0.07])
        # The state has the rotation of the hand's body, and the action that of its grip site.
        turned = grip_rotation(env).as_rotvec()
        action = np.concatenate([position, turned, [1.0]]).astype(np.float32)
        for _ in range(40):
            stock.step(action)
            env.step(action)
            assert_array_equal(env.data.qpos, stock.sim.data.qpos)
        assert_allclose(env.ee_pos_world(), position, atol=0.002)
        assert (grip_rotation(env) * Rotation.from_rotvec(turned).inv()).magnitude() < 0.01


def grip_rotation(env):
    return Rotation.from_matrix(env.data.site("gripper0_grip_site").xmat.reshape(3, 3))


def test_an_episode_depends_on_its_index_alone(blind):
    blind.reset(4)
    first = blind.snapshot()
    size = blind.model.geom("cube_g0").size.copy()
    blind.reset(9)
    for action in random_actions(5):
        blind.step(action)
    assert (blind.model.geom("cube_g0").size != size).any()  # each episode has its own model
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    blind.reset(4)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert_array_equal(blind.snapshot(), first)


@pytest.mark.parametrize("n_steps", [pytest.param(0, marks=pytest.mark.slow), 11])
def test_restore_continues_bit_for_bit_in_another_model_and_shows_the_same(n_steps):
    """No step was made in the first case: the controller then has numbers of the reset."""
    sizes = dict.fromkeys(CAMERAS, (48, 48))
    with closing(make("Lift", sizes)) as env, closing(make("Lift", sizes)) as other:
        env.reset(3)
        for action in random_actions(n_steps):
            env.step(action)
        snapshot = env.snapshot()
        other.reset(8)
        other.step(random_actions(1)[0])
        other.restore(snapshot)
        for each in (env, other):
            each.observe()
        for action in random_actions(10, seed=1):
            assert read(env) == read(other)
            assert bits_of(env.observe()) == bits_of(other.observe())
            env.step(action)
            other.step(action)
            assert_array_equal(other.snapshot(), env.snapshot())


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS_WITH_MARKS)
def test_every_environment_keeps_its_contract(name):
    """The environment is in this process, where its images can be counted."""
    checks = check_env(lambda: make(name, {"agentview": (32, 32)}))
    not_ok = {check.name: check.sentence for check in checks if check.verdict != "ok"}
    assert not_ok.keys() <= {"success"}, not_ok


def test_a_projected_point_lies_where_the_camera_sees_it():
    """The cube appears where the projection says, and the image is not mirrored."""
    with closing(make("Lift", {"agentview": (128, 128)})) as env:
        env.reset(0)
        cube = env.progress()[0].object_pos_world
        before = env.observe().images["agentview"].astype(int)
        # The cube is moved far away, so pixels change around its previous place.
        env.data.joint("cube_joint0").qpos[2] += 5.0
        env.step(np.zeros(7))
        after = env.observe().images["agentview"].astype(int)
        rows, columns = np.nonzero(np.abs(after - before).sum(axis=-1) > 60)
        u, v, w = env.projection("agentview") @ np.append(cube, 1.0)
        assert abs(np.median(columns) - u / w) < 3
        assert abs(np.median(rows) - v / w) < 3


def test_the_controller_is_robosuites_own(blind):
    stock = make_stock_env("Lift", render=False)
    assert stock.robots[0].controller_config.items() >= CONTROLLER.items()
    low, high = stock.action_spec
    action = blind.spec.action
    assert (list(low), list(high)) == (list(action.low), list(action.high))
    assert stock.control_timestep == 0.05
    close_stock_env(stock)


def test_the_objects_that_a_task_does_not_use_are_out_of_sight():
    with closing(make("PickPlaceCan", {})) as env:
        assert [loose.name for loose in env.loose_objects()] == ["Can_main"]


def test_the_family_knows_its_environments_without_building_one():
    listed = {listing.name for listing in list_envs()}
    for task in TASKS.values():
        assert {task.task_name, f"{task.task_name}_low_dim"} <= listed
        assert task_of(f"{task.task_name}_low_dim") == task.task_name
    assert family_of("robosuite/Lift").in_own_process
    assert expand_env("robosuite/Door") == ("robosuite/Door",)


def test_an_environment_lives_in_a_process_of_its_own():
    with closing(make_env("robosuite/Lift_low_dim", image_sizes={})) as env:
        assert env.spec.name == "robosuite/Lift_low_dim" and env.spec.task == "robosuite/Lift"
        assert env.spec.state_names[9:] == (
            *(f"cube_pos_{i}" for i in range(3)),
            *(f"cube_quat_{i}" for i in range(4)),
            *(f"gripper_to_cube_pos_{i}" for i in range(3)),
        )
        env.reset(1)
        assert len(env.state()) == 19


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("robosuite/Lfit", "Did you mean 'robosuite/Lift'"),
        ("robosuite/ToolHang", "environment 'robosuite/ToolHang'"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones(name, said):
    with pytest.raises(UnknownNameError, match=said):
        make_env(name)


def test_each_task_of_robosuite_runs_here_or_is_refused_with_the_reason(blind):
    from robosuite.environments.base import REGISTERED_ENVS

    # LIBERO registers its own classes too.
    own = {n for n, env in REGISTERED_ENVS.items() if env.__module__.startswith("robosuite.")}
    assert own == TASKS.keys() | REFUSED.keys()
    for name, reason in REFUSED.items():
        with pytest.raises(WhiskerError) as refused:
            make_env(f"robosuite/{name}")
        assert reason in str(refused.value)


def test_bad_input_is_named(blind):
    with pytest.raises(WhiskerError, match="episode -1 of 'robosuite/Lift': expected 0 or a later"):
        blind.reset(-1)
    with pytest.raises(WhiskerError, match="camera 'sideview': expected one of agentview"):
        make("PickPlaceCan", {"sideview": (8, 8)})
