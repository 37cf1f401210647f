"""Our LIBERO environment equals LIBERO's own, bit for bit."""

import gc
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from sim.contract_trial import bits_of, read
from sim.errors import WhiskerError
from sim.libero_bench.conventions import axis_angle_of
from sim.libero_bench.env import make_libero
from sim.libero_bench.tasks import complete_suites, find_task
from sim.robosuite.sampling import SampleClock
from tests.stock_libero import (
    begin_stock_episode,
    close_stock_env,
    images_of,
    make_stock_env,
    proprioception_of,
)

CHUNK = 8
BOWL_ON_PLATE = "libero_spatial/0"
STOVE = "libero_goal/7"
# These are one task of each suite that papers report, and a perturbed one.
ONE_TASK_A_SUITE = (
    "libero_10/3",
    "libero_spatial_swap/4",
    *[
        pytest.param(name, marks=pytest.mark.exhaustive)
        for name in (BOWL_ON_PLATE, "libero_object/0", "libero_goal/0", "libero_90/20")
    ],
)


@pytest.fixture(scope="module")
def blind():
    with closing(make_libero(BOWL_ON_PLATE, image_sizes={})) as env:
        yield env


@pytest.fixture(scope="module")
def seeing():
    with closing(make_libero(BOWL_ON_PLATE, {"image": (128, 128)})) as env:
        yield env


def random_actions(n_steps: int, seed: int = 0) -> np.ndarray:
    """Return actions of which some exceed the controller's range; the gripper has both signs."""
    return (
        default_rng(seed)
        .normal(
            0,
            0.6,
            (n_steps, 7),
        )
        .astype(np.float32)
    )


def assert_same_moment(env, stock, observation, *, images: bool) -> None:
    state = np.concatenate([env.data.qpos, env.data.qvel])
    assert_array_equal(state, stock.get_sim_state()[1:])
    pos, quat_xyzw, fingers = np.split(proprioception_of(observation), [3, 7])
    expected = np.concatenate([pos, axis_angle_of(quat_xyzw), fingers])
    assert_array_equal(env.state(), np.float32(expected))
    if images:
        ours = env.observe().images
        for camera, image in images_of(observation).items():
            assert_array_equal(ours[camera], image)


def compare_with_stock(
    name: str, episodes: tuple[int, ...], n_steps: int, change=None
) -> list[np.ndarray]:
    """Roll the same actions out in both environments, and return our last images.

    `change` alters both worlds half way.
    """
    task = find_task(name)
    last_images = []
    with closing(make_libero(name)) as env:
        for episode in episodes:
            # LIBERO's later resets draw other fixture poses, so each episode has a new environment.
            stock = make_stock_env(task)
            observation = begin_stock_episode(stock, task, episode)
            env.reset(episode)
            assert_same_moment(
                env,
                stock,
                observation,
                images=True,
            )
            for step, action in enumerate(
                random_actions(n_steps, seed=episode),
                start=1,
            ):
                if change is not None and step == n_steps // 2:
                    change(env.data)
                    change(stock.sim.data._data)
                observation, *_ = stock.step(action)
                assert env.step(action).success == stock.check_success()
                assert_same_moment(
                    env,
                    stock,
                    observation,
                    images=step % CHUNK == 0,
                )
            last_images.append(env.observe().images["image"])
            close_stock_env(stock)
    gc.collect()
    return last_images


@pytest.mark.slow
def test_an_episode_of_more_than_a_chunk_with_a_stove_turned_on_equals_the_stock_environment():
    def turn_knob(data):
        data.joint("flat_stove_1_button").qpos = 1.0

    (on,) = compare_with_stock(
        STOVE,
        (2,),
        CHUNK + 2,
        turn_knob,
    )
    with closing(make_libero(STOVE, {"image": (256, 256)})) as env:
        env.reset(2)
        for action in random_actions(CHUNK + 2, seed=2):
            env.step(action)
        assert (env.observe().images["image"] != on).any()  # the burner glows


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_TASK_A_SUITE)
def test_two_episodes_of_three_chunks_equal_the_stock_environment(name):
    compare_with_stock(
        name,
        episodes=(3, 4),
        n_steps=3 * CHUNK,
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("libero_10/3", marks=pytest.mark.slow),
        pytest.param("libero_90/0", marks=pytest.mark.slow),
        "libero_spatial/4",
    ],
)
def test_a_reset_equals_the_first_one_of_a_new_stock_environment(name):
    """A reset gives the fixture poses of a new stock environment.

    The tasks have drawers, whose poses LIBERO draws again with every hard reset. Our second reset
    is a soft one.
    """
    task = find_task(name)
    env = make_libero(name, image_sizes={})
    for episode in (7, 3):
        stock = make_stock_env(task, render=False)
        begin_stock_episode(stock, task, episode)
        env.reset(episode)
        assert_array_equal(env.model.body_pos, stock.sim.model.body_pos)
        assert_array_equal(env.model.body_quat, stock.sim.model.body_quat)
        assert_array_equal(env.data.qpos, stock.sim.data.qpos)
        stock.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "suite",
    complete_suites(),
)
def test_every_complete_suite_runs_and_equals_the_stock_physics(suite):
    """The suite runs in a process of its own, because built scenes keep gigabytes of memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(compare_physics_with_stock, suite).result()


def compare_physics_with_stock(suite: str) -> None:
    task = find_task(f"{suite}/0")
    env = make_libero(task.env_name, image_sizes={})
    stock = make_stock_env(task, render=False)
    begin_stock_episode(stock, task, 1)
    env.reset(1)
    for action in random_actions(10):
        stock.step(action)
        assert env.step(action).success == stock.check_success()
    assert_array_equal(env.data.qpos, stock.sim.data.qpos)
    stock.close()


def test_an_episode_depends_on_its_index_alone(blind):
    blind.reset(4)
    first = blind.snapshot()
    poses = blind.model.body_pos.copy()
    blind.reset(9)
    for action in random_actions(5):
        blind.step(action)
    np.random.seed(5)  # noqa: NPY002
    blind.reset(4)
    assert_array_equal(blind.snapshot(), first)
    blind.reset(5)
    assert (blind.model.body_pos != poses).any()


def test_a_reset_leaves_numpys_global_generator_as_it_was(blind):
    np.random.seed(11)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    blind.reset(2)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_restore_continues_bit_for_bit_in_another_environment_and_shows_the_same():
    sizes = dict.fromkeys(("image", "image2"), (64, 64))
    env = make_libero(STOVE, sizes)
    other = make_libero(STOVE, sizes)
    env.reset(3)
    env.data.joint("flat_stove_1_button").qpos = 1.0
    for action in random_actions(11):
        env.step(action)
    other.reset(8)
    other.restore(env.snapshot())
    assert_same_state(other, env)
    for action in random_actions(30, seed=1):
        env.step(action)
        other.step(action)
        assert_array_equal(other.snapshot(), env.snapshot())
    assert_same_state(other, env)
    env.close()
    other.close()


def assert_same_state(env, other) -> None:
    assert read(env) == read(other)
    assert bits_of(env.snapshot()) == bits_of(other.snapshot())
    assert bits_of(env.observe()) == bits_of(other.observe())


def test_looking_changes_nothing(seeing, blind):
    for env in (seeing, blind):
        env.reset(0)
    for action in random_actions(12):
        seeing.observe()
        for env in (seeing, blind):
            env.step(action)
    assert_array_equal(seeing.snapshot(), blind.snapshot())


def test_a_projected_point_lies_where_the_camera_sees_it(seeing):
    """The bowl appears where the projection says, although the images are mirrored."""
    seeing.reset(0)
    bowl = seeing.progress()[0].object_pos_world
    before = seeing.observe().images["image"].astype(int)
    # The bowl is moved far away, so pixels change around its previous place.
    seeing.data.joint("akita_black_bowl_1_joint0").qpos[2] += 5.0
    seeing.step(np.zeros(7))
    after = seeing.observe().images["image"].astype(int)
    rows, columns = np.nonzero(np.abs(after - before).sum(axis=-1) > 60)
    u, v, w = seeing.projection("image") @ np.append(bowl, 1.0)
    assert abs(np.median(columns) - u / w) < 6
    assert abs(np.median(rows) - v / w) < 6


def test_absolute_control_goes_where_it_is_told():
    env = make_libero(BOWL_ON_PLATE, {}, control="absolute")
    target = env.ee_pos_world() + np.array([0.05, -0.06, -0.07])
    rotation = env.state()[3:6]
    for _ in range(40):
        env.step(np.concatenate([target, rotation, [-1.0]]))
    assert_allclose(
        env.ee_pos_world(),
        target,
        atol=0.01,
    )
    assert env.spec.action.mode == "absolute"


def test_relative_control_has_the_published_scale(blind):
    """An action of 1 puts the target 5 cm from the hand's current position.

    The hand's first position is the reference of the first step. Larger actions are clipped.
    """
    blind.reset(0)
    start = blind.ee_pos_world()
    up = np.array([0, 0, 1.0, 0, 0, 0, -1])
    assert not blind.step(up).clipped
    target = blind._env.robots[0].controller.goal_pos
    assert_allclose(
        target - start,
        [0, 0, 0.05],
        atol=2e-3,
    )
    assert blind.step(1.5 * up).clipped


def test_the_state_is_position_rotation_and_fingers(blind):
    blind.reset(0)
    state = blind.state()
    assert state.shape == (8,) and state.dtype == np.float32
    assert np.linalg.norm(state[:3] - blind.ee_pos_world()) < 1e-3
    assert abs(np.linalg.norm(state[3:6]) - np.pi) < 0.2  # the hand points down
    assert state[6] > 0.03 > -0.03 > state[7]  # open after the settle steps


@pytest.mark.parametrize(
    "index",
    [-1, 50, 1000],
)
def test_an_init_state_out_of_range_is_refused(blind, index):
    with pytest.raises(WhiskerError, match="50 init states"):
        blind.reset(index)


def test_an_unknown_camera_is_refused():
    with pytest.raises(WhiskerError, match="image2"):
        make_libero(BOWL_ON_PLATE, {"wrist": (8, 8)})


@pytest.mark.parametrize("n_samples", [1, 2])
def test_the_sample_clock_is_robosuites(n_samples):
    from robosuite.utils.observables import Observable, sensor

    looks = []

    @sensor(modality="test")
    def look(_):
        looks.append(True)
        return np.zeros(1)

    observable = Observable("look", look, sampling_rate=20)
    observable.reset()
    clock = SampleClock(1 / 20, 0.002)
    clock.restart(n_samples)
    for _ in range(n_samples):
        observable.update(0.002, {}, force=True)
    # Within thirty seconds, rounding moves the sample from one physics step to another.
    for _ in range(25 * 600):
        looks.clear()
        observable.update(0.002, {})
        assert clock.tick() == bool(looks)
        assert clock.time_s == observable._time_since_last_sample


def test_axis_angle_turns_the_axis_by_the_angle():
    # The angles are up to almost a full turn.
    for axis_angle in default_rng(0).uniform(-3.6, 3.6, (200, 3)):
        quat_xyzw = Rotation.from_rotvec(axis_angle).as_quat()
        # In float32, acos loses half of its digits for small rotations.
        assert_allclose(axis_angle_of(quat_xyzw), axis_angle, atol=3e-3)
    assert_array_equal(
        axis_angle_of(np.array([0.0, 0, 0, 1])),
        np.zeros(3),
    )
