"""Tests that X-VLA in LIBERO plans and acts as in lerobot-eval, which gives it own processors."""

import json
import shutil
from contextlib import closing
from functools import partial
from threading import Thread

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cknna.bank import open_bank
from cknna.config import HookConfig
from cknna.extract import extract
from cknna.loading import Shown, load_hooked
from cknna.recordings import open_recording
from eval.run import Run
from policies.adapters import Adapters
from policies.checkpoint_files import open_checkpoint
from policies.config import PolicyConfig
from policies.lerobot_loading import load_lerobot_policy
from policies.policy import make_memory
from policies.remote.codec import CodecError, pack, unpack
from policies.remote.policy_server import PolicyServer
from policies.remote.serving import open_server
from policies.remote.whisker_messages import read_observation, write_observation
from policies.xvla_conventions import adopt_poses, plans_poses
from policies.xvla_libero import XVLALiberoPolicy
from sim.errors import WhiskerError
from sim.libero_bench.conventions import FIRST_SEED
from sim.libero_bench.env import make_libero
from sim.observation import Observation
from sim.process import EnvProcess
from sim.recorded_observations import (
    RecordedObservation,
    observations_path,
    read_run,
    save_observations,
)
from tests.lerobot_libero import EvalOptions, make_ours, roll_out, run_lerobot_eval, save_xvla
from tests.processes import only_run
from tests.test_policies_libero_parity import assert_same, load_states

NAME = "libero_spatial/0"
N_STEPS = 20  # makes three decisions, eight steps apart
SIZES = {"image": (64, 64), "image2": (64, 64)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_xvla(tmp_path_factory.mktemp("xvla"))


def load(folder):
    policy = load_lerobot_policy(open_checkpoint("xvla", str(folder)), "cpu")
    return adopt_poses(policy, Adapters())


def look(seed=0):
    """Return an observation of noise, with a rotation of a hand that points about downwards."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    images = {name: rng.integers(0, 256, (*size, 3), np.uint8) for name, size in SIZES.items()}
    state = rng.standard_normal(8).astype(np.float32)
    return Observation(images, state, "pick up the bowl", rotation.astype(np.float32))


@pytest.mark.slow
def test_everything_is_what_it_is_in_lerobot_eval(checkpoint, tmp_path):
    options = EvalOptions(n_episodes=2, max_steps=N_STEPS, control="absolute")
    theirs = run_lerobot_eval(tmp_path, checkpoint, NAME, load_states(NAME), options)
    policy = load(checkpoint)
    make = partial(make_ours, NAME, policy.spec.image_sizes, control="absolute")
    with closing(EnvProcess(make)) as env:
        for episode_index, lerobots in enumerate(theirs):
            ours = roll_out(env, policy, episode_index, N_STEPS)
            assert lerobots["seed"] == FIRST_SEED + episode_index
            assert ours["observation.state"].shape == (3, 20)
            assert_same(ours, lerobots)
            actions = ours["action"]
            assert np.ptp(actions[:, :6], axis=0).min() > 0.01, "the arm moves and turns"
            assert set(actions[:, 6]) == {-1, 1}
            assert np.ptp(ours["observation.state"][:, :9], axis=0).min() > 1e-4


@pytest.mark.slow
def test_eval_runs_it_and_the_doctor_compares_no_number_of_a_pose(
    checkpoint, eval_succeeds, refusal_of_eval, tmp_path
):
    """The sixth number of a plan is a rotation, and the gripper of the environment's action."""
    flags = f"--checkpoint {checkpoint} --env {NAME} --episodes 1 --max-steps 10 --workers 1"
    said = refusal_of_eval(f"{flags} --run-dir", tmp_path)
    assert "expected an environment that takes absolute poses" in said
    eval_succeeds(f"{flags} --control absolute --run-dir", tmp_path)
    run = Run.open(only_run(tmp_path))
    (row,) = run.rows
    assert row.n_predictions == 2
    assert run.load_arrays(row).chunk.shape == (2, 10, 7)


@pytest.mark.slow
def test_the_state_is_the_controllers_and_survives_a_snapshot():
    with closing(make_libero(NAME, {}, control="absolute")) as env:
        down = np.array([-0.1, 0, 1.1, 3.0, 0.2, -0.1, -1], np.float32)
        for _ in range(3):
            env.step(down)
        snapshot = env.snapshot()
        seen = env.observe().tool_rotation
        controller = env._env.robots[0].controller
        assert_array_equal(seen, controller.ee_ori_mat.astype(np.float32))
        for _ in range(3):
            env.step(-down)
        assert np.abs(env.observe().tool_rotation - seen).max() > 1e-3
        env.restore(snapshot)
        assert_array_equal(env.observe().tool_rotation, seen)
        assert_array_equal(env.snapshot(), snapshot)
        env.restore(snapshot[:-9])  # as earlier versions wrote it
        assert np.abs(env.observe().tool_rotation - seen).max() < 1e-2


@pytest.mark.slow
def test_relative_control_has_neither_the_rotation_nor_a_longer_snapshot():
    with (
        closing(make_libero(NAME, {})) as relative,
        closing(make_libero(NAME, {}, control="absolute")) as absolute,
    ):
        assert relative.observe().tool_rotation is None
        assert len(absolute.snapshot()) == len(relative.snapshot()) + 9


def test_images_that_the_checkpoint_normalises_itself_are_normalised_once(checkpoint, tmp_path):
    trained = load(save_xvla(tmp_path / "trained", normalises_images=True))
    theirs = load(checkpoint).network_inputs(look())
    ours = trained.network_inputs(look())
    for key in ("observation.images.image", "observation.images.image2"):
        assert_array_equal(ours[key], theirs[key])
        assert ours[key].min() < -1


def test_only_the_wrist_camera_is_turned_back(checkpoint):
    seen = look()
    inputs = load(checkpoint).network_inputs(seen)
    mean = np.reshape([0.485, 0.456, 0.406], (3, 1, 1))
    std = np.reshape([0.229, 0.224, 0.225], (3, 1, 1))
    for camera, turn in (("image", 1), ("image2", -1)):
        pixels = seen.images[camera][::turn, ::turn].transpose(2, 0, 1) / 255
        np.testing.assert_allclose(
            inputs[f"observation.images.{camera}"][0], (pixels - mean) / std, atol=1e-5
        )


def test_an_observation_without_the_rotation_is_refused(checkpoint):
    seen = Observation(look().images, look().state, "pick up the bowl")
    policy = load(checkpoint)
    with pytest.raises(WhiskerError, match="Only LIBERO with --control absolute observes it"):
        policy.predict([make_memory(seen)], [np.random.default_rng(0)])


@pytest.mark.slow
def test_features_extracted_from_a_run_are_those_that_it_collected(
    checkpoint, eval_succeeds, tmp_path
):
    """The recording holds the rotation, and the same processors read it."""
    flags = f"--checkpoint {checkpoint} --env {NAME} --episodes 1 --max-steps 10 --workers 1"
    flags += " --control absolute --collect-features --record-observations --run-dir"
    eval_succeeds(flags, tmp_path / "runs")
    run = only_run(tmp_path / "runs")
    recording = open_recording(run)
    assert recording.has_tool_rotation
    shown = Shown(recording.env_name, recording.has_tool_rotation)
    policy, hook = load_hooked(PolicyConfig(checkpoint=str(checkpoint)), HookConfig(), shown)
    assert isinstance(policy, XVLALiberoPolicy)
    bank = extract(policy, hook, recording.observations, str(run), tmp_path / "bank")
    collected = open_bank(run)
    assert bank.n_rows == collected.n_rows == 2
    for name in (hook.name for hook in collected.description.hooks):
        np.testing.assert_allclose(bank.features(name), collected.features(name), atol=1e-5)


def test_a_recording_without_the_rotation_is_refused(checkpoint):
    """The demonstrations of LIBERO have none. In another family the policy has no need of it."""
    named = PolicyConfig(checkpoint=str(checkpoint))
    with pytest.raises(WhiskerError, match="Record them with eval --control absolute --record"):
        load_hooked(named, HookConfig(), Shown("libero"))
    policy, _ = load_hooked(named, HookConfig(), Shown("so101/pick_place"))
    assert not isinstance(policy, XVLALiberoPolicy)


def test_a_policy_behind_a_server_is_refused_its_poses(checkpoint, refusal_of_eval):
    """`whisker-serve` returns 20 numbers, of which --allow-padding would run the first seven."""
    policy = load_lerobot_policy(open_checkpoint("xvla", str(checkpoint)), "cpu")
    with open_server(PolicyServer(policy), "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        address = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        flags = f"--env {NAME} --control absolute --allow-padding --server {address}"
        said = refusal_of_eval(flags)
        server.shutdown()
        thread.join()
    assert "Give --checkpoint and --control absolute instead of --server." in said


def test_the_rotation_is_carried_by_recordings_and_messages(tmp_path):
    seen = [look(seed) for seed in range(3)]
    rows = [RecordedObservation(each, NAME, 0, step) for step, each in enumerate(seen)]
    save_observations(tmp_path / observations_path(NAME, 0), rows)
    for each, read in zip(seen, read_run(tmp_path), strict=True):
        assert_array_equal(read.observation.tool_rotation, each.tool_rotation)
    for each in seen:
        sent = read_observation(unpack(pack(write_observation(each))))
        assert_array_equal(sent.tool_rotation, each.tool_rotation)
    for wrong in (np.eye(2), np.eye(3, dtype=np.int64), [1.0]):
        with pytest.raises(CodecError, match="no 3 x 3 matrix"):
            read_observation(write_observation(seen[0]) | {"tool_rotation": wrong})


def write_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields), encoding="utf-8")
    return open_checkpoint("xvla", str(folder))


@pytest.mark.parametrize(
    ("mode", "width", "control", "expected"),
    [
        ("ee6d", 20, "absolute", True),
        ("agibot_ee6d", 7, "absolute", True),
        ("auto", 10, "absolute", True),
        ("auto", 7, None, False),
        ("auto", 7, "absolute", False),
        ("ee6d", 20, None, "Give --control absolute."),
        ("ee6d", 20, "delta", "Give --control absolute."),
        ("auto", 8, "absolute", "got auto with 8 numbers"),
        ("joint", 14, "absolute", "got joint with 14 numbers"),
    ],
)
def test_what_a_checkpoint_plans_is_read_from_its_config(
    checkpoint, tmp_path, mode, width, control, expected
):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    action = {"action": {"type": "ACTION", "shape": [width]}}
    opened = write_config(folder, action_mode=mode, output_features=action)
    assert not plans_poses(opened, "so101/pick_place", control)
    if isinstance(expected, bool):
        assert plans_poses(opened, NAME, control) == expected
        return
    with pytest.raises(WhiskerError, match=expected):
        plans_poses(opened, NAME, control)
