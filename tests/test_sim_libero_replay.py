"""Replayed demonstrations from our recorder equal the recorded episodes."""

import numpy as np
import pytest

from sim.errors import WhiskerError
from sim.libero_bench.conventions import N_SETTLE_STEPS
from sim.libero_bench.demonstrations import load_demonstrations
from sim.libero_bench.env import make_libero
from sim.libero_bench.recording import record_demonstrations
from sim.libero_bench.tasks import find_task

TASK = "libero_object/0"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = (
        tmp_path_factory.mktemp("demos")
        / "pick_up_the_alphabet_soup_and_place_it_in_the_basket_demo.hdf5"
    )
    assert (
        record_demonstrations(
            path,
            find_task(TASK),
            2,
            range(10),
        )
        == 2
    )
    return path


def test_a_replay_repeats_the_recorded_states_bit_for_bit_and_succeeds(recorded):
    env = make_libero(TASK, {}, str(recorded))
    assert env.spec.n_episodes == 2
    expert = env.make_expert()
    for index, demonstration in enumerate(load_demonstrations(recorded)):
        env.reset(index)
        expert.reset()
        success = False
        for action, state in zip(demonstration.actions, demonstration.states, strict=True):
            np.testing.assert_array_equal(env.flat_state(), state)
            np.testing.assert_array_equal(expert.action(), action)
            assert not success
            success = env.step(action).success
        assert success


def test_after_its_end_a_replay_stands_still(recorded):
    env = make_libero(TASK, {}, str(recorded))
    env.reset(1)
    expert = env.make_expert()
    demonstration = load_demonstrations(recorded)[1]
    for _ in demonstration.actions:
        last = expert.action()
    np.testing.assert_array_equal(expert.action(), [0, 0, 0, 0, 0, 0, last[6]])
    expert.reset()
    np.testing.assert_array_equal(expert.action(), demonstration.actions[0])


def test_demonstrations_of_another_task_are_refused(recorded):
    with pytest.raises(WhiskerError, match="alphabet_soup"):
        make_libero("libero_spatial/0", {}, str(recorded))


@pytest.mark.slow
def test_images_are_recorded_as_opengl_has_them(tmp_path):
    path = tmp_path / "demo.hdf5"
    task = find_task(TASK)
    assert (
        record_demonstrations(
            path,
            task,
            1,
            range(3),
            image_size_px=(32, 48),
        )
        == 1
    )
    (demonstration,) = load_demonstrations(
        path, obs_keys=("agentview_rgb", "eye_in_hand_rgb", "ee_states")
    )
    env = make_libero(
        TASK,
        dict.fromkeys(("image", "image2"), (32, 48)),
        str(path),
    )
    for action, *seen in zip(demonstration.actions[:13], *demonstration.obs.values(), strict=False):
        env.step(action)
        observation = env.observe()
        np.testing.assert_array_equal(observation.images["image"], seen[0][::-1, ::-1])
        np.testing.assert_array_equal(observation.images["image2"], seen[1][::-1, ::-1])
        np.testing.assert_allclose(observation.state[:6], seen[2], atol=1e-6)
    env.close()


def test_nothing_is_written_when_nothing_succeeds(tmp_path):
    with pytest.raises(WhiskerError, match="at least one demonstration"):
        record_demonstrations(
            tmp_path / "demo.hdf5",
            find_task(TASK),
            1,
            range(0),
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_heights_are_measured_from_where_the_object_rests(recorded):
    """Heights start from where the can comes to rest, although the recording starts lower.

    LIBERO's init state has the can 2 cm lower, in the floor.
    """
    env = make_libero(TASK, {}, str(recorded))
    env.reset(1)
    env.reset(0)
    demonstration = load_demonstrations(recorded)[0]
    heights = [env.progress()[0].measures["object_height_m"]]
    for action in demonstration.actions:
        env.step(action)
        heights.append(env.progress()[0].measures["object_height_m"])
    at_rest = heights[N_SETTLE_STEPS : 2 * N_SETTLE_STEPS]
    assert np.abs(at_rest).max() < 1e-3 and abs(heights[0]) > 0.01
    np.testing.assert_allclose(
        max(heights), heights_of_the_same_episode_from_its_init_state().max(), atol=0.005
    )


def heights_of_the_same_episode_from_its_init_state():
    """Return the heights in the recorded episode of the scripted expert, run as `eval` does."""
    env = make_libero(TASK, {})
    env.reset(0)
    expert = env.make_expert()
    heights = []
    success = False
    while not success:
        result = env.step(expert.action().astype(np.float32))
        heights.append(result.progress[0].measures["object_height_m"])
        success = result.success
    return np.array(heights)
