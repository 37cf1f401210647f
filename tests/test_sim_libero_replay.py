"""Replayed demonstrations from our recorder equal the recorded episodes."""

from contextlib import closing

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sim.errors import WhiskerError
from sim.families import DemoRequest
from sim.libero_bench.conventions import N_SETTLE_STEPS
from sim.libero_bench.demonstrations import load_demonstrations
from sim.libero_bench.env import make_libero
from sim.libero_bench.recording import record_demonstrations
from sim.libero_bench.tasks import find_task

TASK = "libero_object/0"


def ask(path, n_demonstrations, n_workers=1):
    """Return the request for a file of demonstrations."""
    return DemoRequest(TASK, path, n_demonstrations, None, lambda *_: None, n_workers)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    task = find_task(TASK)
    path = tmp_path_factory.mktemp("demos") / f"{task.name}_demo.hdf5"
    assert record_demonstrations(task, ask(path, 2), range(10)) == 2
    return path


@pytest.mark.slow
def test_workers_write_the_same_file_to_the_last_bit(recorded, tmp_path):
    path = tmp_path / recorded.name
    assert record_demonstrations(find_task(TASK), ask(path, 2, n_workers=2), range(10)) == 2
    assert path.read_bytes() == recorded.read_bytes()


@pytest.fixture(scope="module")
def replay(recorded):
    """Return the environment that starts as the demonstrations do."""
    with closing(make_libero(TASK, {}, str(recorded))) as env:
        yield env


def test_a_replay_repeats_the_recorded_states_bit_for_bit_and_succeeds(recorded, replay):
    assert replay.spec.n_episodes == 2
    expert = replay.make_expert()
    for index, demonstration in enumerate(load_demonstrations(recorded)):
        replay.reset(index)
        expert.reset()
        success = False
        for action, state in zip(demonstration.actions, demonstration.states, strict=True):
            assert_array_equal(replay.flat_state(), state)
            assert_array_equal(expert.action(), action)
            assert not success
            success = replay.step(action).success
        assert success


def test_after_its_end_a_replay_stands_still(recorded, replay):
    replay.reset(1)
    expert = replay.make_expert()
    actions = load_demonstrations(recorded)[1].actions
    for _ in actions:
        expert.action()
    assert_array_equal(
        expert.action(),
        [0, 0, 0, 0, 0, 0, actions[-1, 6]],
    )
    expert.reset()
    assert_array_equal(expert.action(), actions[0])


def test_demonstrations_of_another_task_are_refused(recorded):
    with pytest.raises(WhiskerError, match="alphabet_soup"):
        make_libero("libero_spatial/0", {}, str(recorded))


@pytest.mark.slow
def test_images_are_recorded_as_opengl_has_them(tmp_path):
    path = tmp_path / "demo.hdf5"
    size_px = (32, 48)
    assert (
        record_demonstrations(
            find_task(TASK),
            ask(path, 1),
            range(3),
            size_px,
        )
        == 1
    )
    keys = ("agentview_rgb", "eye_in_hand_rgb", "ee_states")
    (demonstration,) = load_demonstrations(path, obs_keys=keys)
    moments = zip(demonstration.actions[:13], *demonstration.obs.values(), strict=False)
    with closing(
        make_libero(
            TASK,
            dict.fromkeys(("image", "image2"), size_px),
            str(path),
        )
    ) as env:
        for action, image, image2, ee_state in moments:
            env.step(action)
            seen = env.observe()
            assert_array_equal(seen.images["image"], image[::-1, ::-1])
            assert_array_equal(seen.images["image2"], image2[::-1, ::-1])
            assert_allclose(seen.state[:6], ee_state, atol=1e-6)


def test_nothing_is_written_when_nothing_succeeds(tmp_path):
    with pytest.raises(WhiskerError, match="at least one demonstration"):
        record_demonstrations(
            find_task(TASK),
            ask(tmp_path / "demo.hdf5", 1),
            range(0),
        )
    assert not list(tmp_path.iterdir())


def follow_expert(env):
    """Return the object's heights in episode 0, from its start to success."""
    env.reset(0)
    expert = env.make_expert()
    heights_m = [env.progress()[0].measures["object_height_m"]]
    success = False
    while not success:
        result = env.step(expert.action().astype(np.float32))
        heights_m.append(result.progress[0].measures["object_height_m"])
        success = result.success
    return heights_m


@pytest.mark.slow
def test_heights_are_measured_from_where_the_object_rests(replay):
    """Heights start from where the can comes to rest, although the recording starts lower.

    LIBERO's init state has the can 2 cm lower, in the floor.
    """
    replay.reset(1)
    heights_m = follow_expert(replay)
    at_rest = heights_m[N_SETTLE_STEPS : 2 * N_SETTLE_STEPS]
    assert np.abs(at_rest).max() < 1e-3 and abs(heights_m[0]) > 0.01
    from_init_state = follow_expert(make_libero(TASK, {}))
    assert max(heights_m) == pytest.approx(max(from_init_state), abs=0.005)
