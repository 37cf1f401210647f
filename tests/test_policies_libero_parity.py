"""Tests that lerobot-eval and Whisker agree on LIBERO to the last bit.

lerobot-eval runs as its own command, on the same assets and checkpoint.
"""

import json
from contextlib import closing
from functools import partial
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from lerobot.processor.env_processor import LiberoProcessorStep
from numpy.testing import assert_allclose, assert_array_equal

from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from sim.libero_bench.conventions import FIRST_SEED, axis_angle_of
from sim.libero_bench.tasks import find_task
from sim.process import EnvProcess
from tests.lerobot_libero import (
    EvalOptions,
    axis_angle_by_torch,
    make_ours,
    roll_out,
    run_lerobot_eval,
    save_act,
)

N_STEPS = 17  # makes three decisions, eight steps apart
# In this episode the task's object is thrown up. It lands on its goal after the ten steps in which
# objects settle.
THROWN = 2
# Each task has the indices at which the object and the goal begin in the qpos of its init state,
# the size of qpos, and the speed in m/s. The object's velocity begins at the object's index too.
THROWS = {
    "libero_spatial/0": (9, 37, 48, 5.5),
    "libero_object/0": (9, 16, 58, 4.0),
}
DRAWER_TASK = "libero_10/3"
IMAGES = ("observation.images.image", "observation.images.image2")
EPS = np.finfo(np.float32).eps


@pytest.fixture(scope="module")
def act(tmp_path_factory):
    """Return the checkpoint's folder and the policy."""
    return load(save_act(tmp_path_factory.mktemp("act")))


def load(folder):
    return folder, load_lerobot_policy(open_checkpoint("act", str(folder)), "cpu")


def open_ours(*args, **options):
    return closing(EnvProcess(partial(make_ours, *args, **options)))


def load_states(name):
    with np.load(find_task(name).init_states_path) as file:
        return file["states"]


def states_with_throw(name):
    states = load_states(name)
    thing, goal, n_qpos, speed = THROWS[name]
    qpos = states[THROWN, 1 : 1 + n_qpos]
    qvel = states[THROWN, 1 + n_qpos :]
    qpos[thing : thing + 3] = qpos[goal : goal + 3]
    qpos[thing + 2] += 0.15
    qvel[thing : thing + 6] = [0, 0, speed, 0, 0, 0]
    return states


def assert_same(ours, theirs):
    """Check that two episodes are equal.

    The arrays are the policy's inputs after all processors, the plans, the actions, success at
    every step, and the physics at the end.
    """
    n_physics = len(theirs.get("physics", ()))
    for key in theirs.keys() - {"seed", "done", "reward"}:
        value = theirs[key]
        mine = ours[key][:n_physics] if key == "physics" else ours[key]
        assert mine.dtype.kind == value.dtype.kind
        assert_array_equal(mine, value, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param("libero_object/0", marks=pytest.mark.exhaustive), "libero_spatial/0"]
)
def test_everything_is_what_it_is_in_lerobot_eval(name, act, tmp_path):
    checkpoint, policy = act
    states = states_with_throw(name)
    theirs = run_lerobot_eval(
        tmp_path,
        checkpoint,
        name,
        states,
        EvalOptions(n_episodes=THROWN + 1, max_steps=N_STEPS),
    )
    with open_ours(name, policy.spec.image_sizes, {THROWN: states[THROWN]}) as env:
        for episode_index, lerobots in enumerate(theirs):
            ours = roll_out(env, policy, episode_index, N_STEPS)
            assert lerobots["seed"] == FIRST_SEED + episode_index
            assert_same(ours, lerobots)
            assert_moves(ours)
            n_steps = len(ours["success"])
            assert 1 < n_steps < N_STEPS if episode_index == THROWN else n_steps == N_STEPS
            assert ours["success"].any() == (episode_index == THROWN)
    (task,) = json.loads((tmp_path / "outputs" / "eval_info.json").read_text())["per_task"]
    assert task["metrics"]["successes"] == [False, False, True]


def assert_moves(episode):
    """Check that the policy moves; one that sees and does nothing would agree with anything."""
    actions = episode["action"]
    decisions = episode["observation.state"]
    assert np.ptp(actions, axis=0).min() > 0.02
    assert (np.abs(actions) > 1).any(), "none that is cut"
    if len(decisions) > 1:
        assert np.abs(np.diff(decisions, axis=0)).max() > 0.3
        for key in IMAGES:
            assert np.diff(episode[key], axis=0).any()


def random_quats(
    seed,
    centre=(0, 0, 0, 0),
    spread=1.0,
):
    quats = centre + spread * np.random.default_rng(seed).standard_normal((4000, 4))
    return quats / np.linalg.norm(
        quats,
        axis=1,
        keepdims=True,
    )


POINTING_DOWN = ((1, 0, 0, 0), 0.03)


@pytest.mark.parametrize(
    "quats",
    [
        pytest.param(random_quats(0), id="any"),
        pytest.param(random_quats(0, *POINTING_DOWN), id="hand pointing down"),
        pytest.param(
            random_quats(
                0,
                (0.6, 0.8, 0, 0),
                1e-4,
            ),
            id="close to pi",
        ),
        pytest.param(
            random_quats(
                0,
                (0, 0, 0, 1),
                1e-3,
            ),
            id="close to none",
        ),
        pytest.param(
            random_quats(
                0,
                (0, 0, 0, -1),
                1e-3,
            ),
            id="close to two pi",
        ),
        pytest.param(
            np.array(
                [
                    [0, 0, 0, 1.0],
                    [0, 0, 0, -1],
                    [0, 0, 1e-9, 1 + 1e-6],
                ]
            ),
            id="none at all",
        ),
    ],
)
def test_a_rotation_is_lerobots_to_five_units_in_the_last_place(quats):
    theirs = LiberoProcessorStep()._quat2axisangle(torch.from_numpy(quats)).numpy()
    assert_array_equal([axis_angle_by_torch(quat) for quat in quats], theirs)
    ours = [axis_angle_of(quat) for quat in quats]
    assert_allclose(
        ours,
        theirs,
        rtol=5 * EPS,
        atol=0,
    )


def test_a_rotation_of_a_hand_that_points_down_is_the_nearest_float32_to_one_unit():
    """The rotation agrees to one unit with the same formula in float64.

    The formula starts from w and a length in float32, as lerobot's does. There is no comparison
    with torch, since its arc cosine has other last bits on other processors.
    """
    quats = random_quats(1, *POINTING_DOWN)
    x_y_z = quats[:, :3].astype(np.float32)
    w = quats[:, 3:].astype(np.float32)
    length = np.sqrt(np.float32(1) - w * w).astype(np.float64)
    exact = x_y_z / length * (2 * np.arccos(w.astype(np.float64)))
    ours = [axis_angle_of(quat) for quat in quats]
    assert_allclose(
        ours,
        exact,
        rtol=2 * EPS,
        atol=0,
    )


@pytest.mark.slow
@pytest.mark.exhaustive
def test_images_of_the_published_size_too(tmp_path):
    name = "libero_object/0"
    checkpoint, policy = load(save_act(tmp_path / "act", image_px=256))
    assert set(policy.spec.image_sizes.values()) == {(256, 256)}
    options = EvalOptions(
        n_episodes=1,
        max_steps=N_STEPS,
        image_px=256,
    )
    (theirs,) = run_lerobot_eval(tmp_path, checkpoint, name, load_states(name), options)
    with open_ours(name, policy.spec.image_sizes) as env:
        ours = roll_out(env, policy, 0, N_STEPS)
    assert ours["observation.images.image"].shape == (3, 3, 256, 256)
    assert_same(ours, theirs)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_where_lerobot_puts_a_cabinet_depends_on_how_often_it_was_reset(act, tmp_path):
    """The pose of a cabinet in lerobot depends on the number of resets before.

    In a hard reset, each drawer draws once more from the generator that then gives the cabinet's
    pose. This also holds in a batch, whose environments each begin anew. A batch changes only the
    last bits of an action.
    """
    checkpoint, policy = act
    states = load_states(DRAWER_TASK)
    options = EvalOptions(n_episodes=4, max_steps=1, batch_size=2)
    theirs = run_lerobot_eval(tmp_path, checkpoint, DRAWER_TASK, states, options)
    # Each of the two environments is made, reset once as a trial and reset once for its first
    # episode, which is three draws. The second episode adds one.
    sizes = policy.spec.image_sizes
    with open_ours(DRAWER_TASK, sizes, n_draws=(3, 3, 4, 4)) as env:
        for episode_index, lerobots in enumerate(theirs):
            ours = roll_out(env, policy, episode_index, 1)
            for key in (*IMAGES, "observation.state", "task"):
                assert_array_equal(ours[key], lerobots[key], err_msg=key)
            assert_allclose(ours["action"], lerobots["action"], atol=1e-5)
    # Whatever was reset before, our episodes equal the first episodes of lerobot's environments.
    with open_ours(DRAWER_TASK, sizes) as env:
        for episode_index, lerobots in enumerate(theirs):
            ours = roll_out(env, policy, episode_index, 1)
            is_same = np.array_equal(ours[IMAGES[0]], lerobots[IMAGES[0]])
            assert is_same == (episode_index < 2)


@pytest.mark.slow
def test_a_synchronous_batch_of_lerobot_spends_init_states_on_episodes_that_nobody_counts():
    """An environment that ends early is reset in the next step, which takes the next init state."""
    from lerobot.envs import libero
    from lerobot.envs.configs import LiberoEnv
    from lerobot.scripts import lerobot_eval

    resets = []

    class Robosuite(mock.Mock):
        robots = (SimpleNamespace(controller=SimpleNamespace(ee_ori_mat=np.eye(3))),)

        def seed(self, seed):
            self.given_seed = seed

        def set_init_state(self, state):
            self.n_steps = -10
            self.init_state = int(state[0])
            resets.append((self.init_state, self.given_seed))

        def step(self, action):
            self.n_steps += 1
            images = {
                f"{camera}_image": np.zeros(
                    (8, 8, 3),
                    np.uint8,
                )
                for camera in ("agentview", "robot0_eye_in_hand")
            }
            sizes = {
                "eef_pos": 3,
                "eef_quat": 4,
                "gripper_qpos": 2,
                "gripper_qvel": 2,
                "joint_pos": 7,
                "joint_vel": 7,
            }
            states = {f"robot0_{key}": np.ones(size) for key, size in sizes.items()}
            return images | states, 0.0, self.check_success(), {}

        def check_success(self):
            return self.init_state == 0 and self.n_steps >= 2

    class Policy(torch.nn.Module):
        def reset(self):
            """Do nothing, since the policy has no memory."""

        def select_action(self, observation):
            return torch.zeros(len(observation["observation.state"]), 7)

    config = LiberoEnv(
        task_ids=[0],
        episode_length=6,
        observation_height=8,
        observation_width=8,
    )
    states = mock.Mock(return_value=np.arange(50.0)[:, None])
    with (
        mock.patch.object(libero, "get_task_init_states", states),
        mock.patch.object(lerobot_eval, "PreTrainedPolicy", Policy),
    ):
        batch = config.create_envs(n_envs=2, use_async_envs=False)["libero_10"][0]
        for env in batch.envs:
            env._env = Robosuite()
        processors = (
            *config.get_env_processors(),
            lambda batch: batch,
            lambda action: action,
        )
        result = lerobot_eval.eval_policy(
            batch, Policy(), *processors, n_episodes=6, start_seed=FIRST_SEED
        )
    batch.close()
    counted = [state for state, seed in resets if seed is not None]
    assert [state for state, seed in resets if seed is None] == [2]
    assert sorted(counted) == [0, 1, 3, 4, 5, 6], "without the autoreset: 0 to 5"
    assert [episode["success"] for episode in result["per_episode"]] == [True, *[False] * 5]
