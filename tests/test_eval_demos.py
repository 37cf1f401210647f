from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from eval.config import FIRST_DEMO_EPISODE, DemoConfig
from eval.demos import TargetNoise, record_demonstrations, resolve_output
from policies.lerobot_dataset import OBJECT_POSITION_KEY, DemonstrationFrames, DemonstrationWriter
from policies.recipes.policy_parts import make_config
from policies.recipes.recipe import RECIPES
from sim.errors import WhiskerError
from sim.registry import make_env


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    root = tmp_path_factory.mktemp("demos") / "set"
    env = make_env(
        "so101/pick_place",
        image_sizes={
            "overhead_cam": (32, 32),
            "wrist_cam": (32, 32),
        },
    )
    writer = DemonstrationWriter(root, env.spec, use_videos=False)
    kept = []
    record_demonstrations(
        DemoConfig(root, episodes=3), env, writer, lambda n, ok: kept.append((n, ok))
    )
    env.close()
    assert kept[-1][0] == 3
    return root


@pytest.mark.parametrize(
    ("env", "output", "path"),
    [
        ("libero_goal/0", "out/bowl", "out/bowl.hdf5"),
        ("libero_goal/0", "bowl_demo.h5", "bowl_demo.h5"),
        ("libero_goal/0", "bowl.v2", "bowl.v2.hdf5"),
        ("so101/pick_place", "out/bowl", "out/bowl"),
    ],
)
def test_a_file_of_libero_gets_its_ending(env, output, path):
    assert resolve_output(DemoConfig(Path(output), env=env)) == Path(path)


def test_lerobot_opens_it_with_image_stats(demos):
    dataset = LeRobotDataset("local/set", root=demos)
    assert dataset.num_episodes == 3 and dataset.fps == 30
    for camera in ("overhead_cam", "wrist_cam"):
        std = np.asarray(dataset.meta.stats[f"observation.images.{camera}"]["std"])
        assert std.shape == (3, 1, 1) and (std > 0.05).all()
    frame = dataset[0]
    assert frame["task"] == "Pick up the red block and place it in the bowl."
    assert frame["observation.images.wrist_cam"].shape == (3, 32, 32)


def test_images_are_lossless_and_the_object_ends_in_the_bowl(demos):
    frames = DemonstrationFrames(demos)
    last = np.flatnonzero(np.diff(frames.episode_index, append=99))
    assert (
        np.linalg.norm(
            frames.object_pos_world[last, :2] - [0.20, 0.15],
            axis=1,
        )
        < 0.055
    ).all()
    # If the arm starts at home, the recorded image of the overhead camera must equal the one that
    # the environment renders there.
    env = make_env("so101/pick_place", image_sizes={"overhead_cam": (32, 32)})
    for episode in range(3):
        env.reset(FIRST_DEMO_EPISODE + episode)
        first = int(np.flatnonzero(frames.episode_index == episode)[0])
        np.testing.assert_allclose(
            env.progress()[0].object_pos_world, frames.object_pos_world[first], atol=1e-6
        )
        if np.allclose(env.state(), frames.state[first], atol=1e-4):
            seen = env.observe().images["overhead_cam"]
            np.testing.assert_array_equal(
                frames.images["overhead_cam"][first], seen.transpose(2, 0, 1)
            )
            break
    else:
        pytest.fail("no episode starts at home")
    env.close()


def test_the_true_position_is_no_input_of_a_policy(demos):
    frames = DemonstrationFrames(demos)
    assert OBJECT_POSITION_KEY in frames.features
    config = make_config(RECIPES["act"], frames.features)
    assert set(config.input_features) == {
        f"observation.{k}" for k in ("state", "images.overhead_cam", "images.wrist_cam")
    }


def test_an_existing_folder_is_not_overwritten(demos, blind_env):
    with pytest.raises(WhiskerError, match="one that exists"):
        DemonstrationWriter(demos, blind_env.spec, use_videos=False)


def test_noise_has_the_standard_deviation_asked_for_and_fades_when_quiet():
    noise = TargetNoise(
        0.1,
        dt_s=0.01,
        rng=np.random.default_rng(0),
    )
    loud = np.array([noise.sample(quiet=False) for _ in range(60_000)])[1000:]
    np.testing.assert_allclose(loud[:, :5].std(axis=0), 0.1, rtol=0.1)
    assert (loud[:, 5] == 0).all()
    quiet = np.array([noise.sample(quiet=True) for _ in range(300)])
    assert np.abs(quiet[-1]).max() < 1e-6
