from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from numpy.testing import assert_allclose, assert_array_equal

from eval.config import FIRST_DEMO_EPISODE, DemoConfig
from eval.demo_simulation import TargetNoise
from eval.demos import record, record_demonstrations, resolve_output
from policies.lerobot_dataset import OBJECT_POSITION_KEY, DemonstrationFrames, DemonstrationWriter
from policies.recipes.policy_parts import make_config
from policies.recipes.recipe import RECIPES
from sim.errors import WhiskerError
from sim.registry import make_env
from tests.runs import read_files

CAMERAS = ("overhead_cam", "wrist_cam")


@pytest.fixture(scope="module")
def env():
    """Yield an environment with small images."""
    sizes = dict.fromkeys(CAMERAS, (32, 32))
    with closing(make_env("so101/pick_place", image_sizes=sizes)) as env:
        yield env


@pytest.fixture(scope="module")
def demos(tmp_path_factory, env):
    root = tmp_path_factory.mktemp("demos") / "set"
    writer = DemonstrationWriter(root, env.spec, use_videos=False)
    n_kept = []
    config = DemoConfig(root, episodes=3)
    record_demonstrations(
        config,
        env,
        writer,
        lambda n, ok: n_kept.append(n),
    )
    assert n_kept[-1] == 3
    return root


def read_dataset_files(root):
    """Return the name of each file → its content.

    A table has a number that is drawn whenever it is written, and only its content is compared.
    """
    tables = {path: pq.read_table(root / path) for path in read_files(root) if "data/" in path}
    return read_files(root) | tables


@pytest.mark.slow
def test_workers_write_the_same_dataset_to_the_last_bit(tmp_path):
    """An episode fails, and is left out."""
    written = []
    for n_workers in (1, 2):
        root = tmp_path / str(n_workers)
        config = DemoConfig(root, episodes=2, noisy=0.5, noise_deg=30.0, workers=n_workers)
        ended = []
        record(config, lambda *how, ended=ended: ended.append(how))
        assert {success for _, success in ended} == {True, False}
        written.append((ended, read_dataset_files(root)))
    one, two = written
    assert "data/chunk-000/file-000.parquet" in one[1]
    assert one == two


@pytest.mark.parametrize(
    ("env_name", "output", "path"),
    [
        ("libero_goal/0", "out/bowl", "out/bowl.hdf5"),
        ("libero_goal/0", "bowl_demo.h5", "bowl_demo.h5"),
        ("libero_goal/0", "bowl.v2", "bowl.v2.hdf5"),
        ("so101/pick_place", "out/bowl", "out/bowl"),
    ],
)
def test_a_file_of_libero_gets_its_ending(env_name, output, path):
    config = DemoConfig(Path(output), env=env_name)
    assert resolve_output(config) == Path(path)


def test_lerobot_opens_it_with_image_stats(demos):
    dataset = LeRobotDataset("local/set", root=demos)
    assert dataset.num_episodes == 3
    assert dataset.fps == 30
    for camera in CAMERAS:
        std = np.asarray(dataset.meta.stats[f"observation.images.{camera}"]["std"])
        assert std.shape == (3, 1, 1)
        assert (std > 0.05).all()
    frame = dataset[0]
    assert frame["task"] == "Pick up the red block and place it in the bowl."
    assert frame["observation.images.wrist_cam"].shape == (3, 32, 32)


@pytest.fixture(scope="module")
def frames(demos):
    return DemonstrationFrames(demos)


def test_the_object_ends_in_the_bowl(frames):
    last = np.flatnonzero(np.diff(frames.episode_index, append=99))
    from_bowl_m = frames.object_pos_world[last, :2] - [0.20, 0.15]
    assert (np.linalg.norm(from_bowl_m, axis=1) < 0.055).all()


def test_images_are_lossless(frames, env):
    """If the arm starts at home, the recorded image must equal the one that is rendered there."""
    at_home = []
    for episode, first in enumerate(np.flatnonzero(np.diff(frames.episode_index, prepend=-1))):
        env.reset(FIRST_DEMO_EPISODE + episode)
        (progress,) = env.progress()
        assert_allclose(
            progress.object_pos_world,
            frames.object_pos_world[first],
            atol=1e-6,
        )
        if np.allclose(
            env.state(),
            frames.state[first],
            atol=1e-4,
        ):
            at_home.append(first)
            seen = env.observe().images["overhead_cam"]
            assert_array_equal(
                frames.images["overhead_cam"][first],
                seen.transpose(2, 0, 1),
            )
    assert at_home


def test_the_true_position_is_no_input_of_a_policy(frames):
    assert OBJECT_POSITION_KEY in frames.features
    config = make_config(RECIPES["act"], frames.features)
    inputs = {"state", *(f"images.{camera}" for camera in CAMERAS)}
    assert set(config.input_features) == {f"observation.{name}" for name in inputs}


def test_an_existing_folder_is_not_overwritten(demos, blind_env):
    with pytest.raises(WhiskerError, match="one that exists"):
        DemonstrationWriter(
            demos,
            blind_env.spec,
            use_videos=False,
        )


def test_noise_has_the_standard_deviation_asked_for_and_fades_when_quiet():
    noise = TargetNoise(0.1, dt_s=0.01, rng=np.random.default_rng(0))
    loud = np.array([noise.sample(quiet=False) for _ in range(60_000)])
    loud = loud[1000:]
    assert_allclose(
        loud[:, :5].std(axis=0),
        0.1,
        rtol=0.1,
    )
    assert not loud[:, 5].any()
    for _ in range(300):
        quiet = noise.sample(quiet=True)
    assert np.abs(quiet).max() < 1e-6
