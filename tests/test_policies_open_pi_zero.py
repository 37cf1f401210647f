"""Compares open-pi-zero with outputs of the original, and tests how its checkpoints are read.

The twin is a small checkpoint with random weights that the original wrote, with inputs, noise and
actions of the original.
"""

import pickle
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cknna.hooks import FeatureHook
from eval.config import SubjectConfig
from eval.conventions import check_conventions
from eval.doctor.check_context import CheckContext
from eval.doctor.machine_checks import check_action_steps
from eval.evaluation import set_up
from eval.preflight import check_fit
from policies.adapters import Adapters
from policies.config import PolicyConfig
from policies.loading import find_policy_name, load_policy
from policies.native.end_effector import join_action, normalise, opens, unnormalise
from policies.native.native_checkpoint import open_native_checkpoint
from policies.native.pi_zero_files import make_network, read_tensors
from policies.native.pi_zero_statistics import STATE_NAMES
from policies.native.sticky_gripper import StickyGripper
from policies.policy import make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.flags import make_config
from sim.observation import Observation
from sim.simpler_bench.env_spec import make_spec
from sim.simpler_bench.tasks import TASKS
from tests.native_checkpoints import save_fractal, save_open_pi_zero
from tests.twins import load_expected, load_twin

pytestmark = pytest.mark.usefixtures("one_thread")

ENV = "tests.hand_env:family/touch"
GOOGLE_ENV = "tests.hand_env:family/touch_google"
TWIN_HEADS = 4


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Return the file of the twin with a tokenizer beside it, named as the published ones are."""
    return save_open_pi_zero(tmp_path_factory.mktemp("open_pi_zero"))


@pytest.fixture(scope="session")
def fractal(checkpoint, tmp_path_factory):
    return save_fractal(tmp_path_factory.mktemp("fractal"), checkpoint)


@pytest.fixture(scope="session")
def policy(checkpoint):
    return load_twin("open_pi_zero", checkpoint)


@pytest.fixture(scope="session")
def expected():
    return load_expected("open_pi_zero")


@pytest.fixture(scope="session")
def network(checkpoint):
    opened = open_native_checkpoint(PolicyConfig("open_pi_zero", str(checkpoint)))
    return make_network(opened, read_tensors(opened), "cpu", TWIN_HEADS)


@torch.inference_mode()
def plan(network, expected, rows=slice(None)):
    n_image = (network.config.image_px // network.config.patch_px) ** 2
    return network(
        expected["pixel_values"][rows],
        expected["input_ids"][rows, n_image:],
        expected["attention_mask"][rows, n_image:].bool(),
        expected["proprios"][rows, 0],
        expected["noise"][rows],
    )


def observe(seed=0, instruction="put carrot"):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return Observation({"image": image}, rng.uniform(-0.2, 0.4, 7).astype(np.float32), instruction)


def test_the_network_plans_what_the_original_plans(network, expected):
    np.testing.assert_allclose(plan(network, expected)[-1], expected["actions"], atol=2e-6)


def test_a_batch_of_the_network_is_its_rows(network, expected):
    rows = [plan(network, expected, slice(row, row + 1))[-1] for row in range(2)]
    np.testing.assert_allclose(torch.cat(rows), plan(network, expected)[-1], atol=2e-6)


def test_padding_changes_nothing(network, expected):
    ids = expected["input_ids"].clone()
    ids[expected["attention_mask"] == 0] = 7
    same = plan(network, expected | {"input_ids": ids})[-1]
    assert torch.equal(same, plan(network, expected)[-1])


def test_the_noisy_chunks_begin_with_the_noise_and_end_at_the_plan(network, expected):
    chunks = plan(network, expected)
    assert len(chunks) == 11 and torch.equal(chunks[0], expected["noise"])
    assert chunks[-1].abs().max() <= 1


def test_bfloat16_is_near_float32(checkpoint):
    memory = [make_memory(observe())]
    policies = [load_twin("open_pi_zero", checkpoint, dtype) for dtype in ("float32", "bfloat16")]
    exact, rounded = (each.predict(memory, [np.random.default_rng(0)]).actions for each in policies)
    low, high = load_twin("open_pi_zero", checkpoint)._statistics.action
    difference = np.abs(exact - rounded)[..., :3].max() / (high - low)[:3].max()
    assert 0 < difference < 0.05


def test_a_batch_is_its_single_calls_and_noise_is_of_the_episode(policy):
    memories = [make_memory(observe(seed, "go " * (1 + seed))) for seed in range(4)]
    rngs = [episode_rng("task", index) for index in range(4)]
    batch = policy.predict(memories, rngs).actions
    for index, memory in enumerate(memories):
        alone = policy.predict([memory], [episode_rng("task", index)]).actions
        np.testing.assert_allclose(batch[index], alone[0], atol=1e-6)
    other = policy.predict(memories[:1], [episode_rng("task", 9)]).actions
    assert np.abs(other - batch[0]).max() > 1e-3


def test_samples_differ_and_intermediate_plans_end_before_the_plan(policy):
    memory = make_memory(observe())
    samples = policy.sample(memory, [np.random.default_rng(seed) for seed in range(3)]).actions
    assert samples.shape == (3, 4, 7) and np.ptp(samples, axis=0).max() > 1e-3
    policy.records_intermediate_plans = True
    try:
        chunk = policy.predict([memory], [np.random.default_rng(0)])
    finally:
        policy.records_intermediate_plans = False
    assert chunk.intermediate_plans.shape == (1, 10, 4, 7)
    np.testing.assert_allclose(chunk.actions[0], samples[0], atol=1e-6)


def test_inputs_are_those_of_the_training(policy):
    observation = observe(instruction="go")
    flat = replace(observation, images={"image": np.full((480, 640, 3), 255, np.uint8)})
    inputs = policy.network_inputs(flat)
    np.testing.assert_allclose(inputs["observation.images.image"], 1.0)
    byte_ids = [policy._tokenizer.bos_token_id, *policy._tokenizer("go\n")["input_ids"]]
    assert inputs["observation.language.tokens"][0, :5].tolist() == [*byte_ids, 0]
    low, high = policy._statistics.state
    middle = replace(observation, state=((low + high) / 2).astype(np.float32))
    np.testing.assert_allclose(
        policy.network_inputs(middle)["observation.state"], np.zeros((1, 7)), atol=1e-5
    )
    assert not policy.out_of_range_inputs(middle)
    assert policy.out_of_range_inputs(replace(middle, state=middle.state + 100))


def test_numbers_are_mapped_to_the_bounds_and_back():
    bounds = np.array([-1.0, 2.0]), np.array([3.0, 2.5])
    values = np.array([[-1.0, 2.0], [3.0, 2.5], [1.0, 2.25]])
    np.testing.assert_allclose(normalise(values, bounds), [[-1, -1], [1, 1], [0, 0]])
    np.testing.assert_allclose(unnormalise(normalise(values, bounds), bounds), values, rtol=1e-6)


def test_roll_pitch_yaw_become_the_same_rotation_as_axis_and_angle():
    pose = np.array([0.01, 0.02, 0.03, 0.3, -0.2, 0.5])
    roll, pitch, yaw = (
        Rotation.from_rotvec(a * v) for a, v in zip(pose[3:], np.eye(3), strict=True)
    )
    (action,) = join_action(pose[None], opens(np.array([0.6])), (-1.0, 1.0))
    product = (yaw * pitch * roll).as_matrix()
    np.testing.assert_allclose(Rotation.from_rotvec(action[3:6]).as_matrix(), product, atol=1e-6)
    np.testing.assert_allclose(action[[0, 1, 2, 6]], [0.01, 0.02, 0.03, 1.0], atol=1e-6)
    assert join_action(pose[None], opens(np.array([0.5])), (1.0, -1.0))[0, 6] == 1.0


def test_the_sticky_gripper_repeats_a_command_for_fifteen_planned_actions():
    """Two of four actions are executed, but all count: 0, 1, 4, 5, 8, 9, 12, 13, 16 are sent."""
    gripper = StickyGripper()
    planned, sent = [], []
    for prediction in range(8):
        share = 0.0 if prediction == 0 else 1.0  # it closes once, then it should open
        closings, gripper = gripper.plan(np.full(4, share, np.float32))
        planned += closings.tolist()
        sent += closings[:2].tolist()
    assert planned == [1.0] * 15 + [-1.0] * 17
    assert sent == [1.0] * 8 + [-1.0] * 8
    weak, _ = StickyGripper().plan(np.array([0.4, 0.6], np.float32))
    assert weak == pytest.approx([0.2, -0.2])


def test_the_embedding_is_the_masked_mean_of_the_last_normalised_prefix(policy):
    hook = FeatureHook(policy)
    memories = [make_memory(observe(0, "go")), make_memory(observe(1, "put carrot"))]
    outputs = []
    module = policy.network.prefix.layers[-1].input_layernorm
    handle = module.register_forward_hook(lambda _, __, output: outputs.append(output))
    rngs = [np.random.default_rng(row) for row in range(2)]
    try:
        with hook.listening(2) as features:
            policy.predict(memories, rngs)
    finally:
        handle.remove()
    (tokens,) = outputs
    for row, memory in enumerate(memories):
        n_real = 16 + len(memory.present.instruction) + 2
        mean = tokens[row, :n_real].mean(0)
        np.testing.assert_allclose(features["embedding"][row], mean, atol=1e-5)


def test_an_episode_runs_in_batches_as_alone_and_records_what_whiskers_need(
    checkpoint, eval_here, tmp_path
):
    alone, batched = tmp_path / "alone", tmp_path / "batched"
    command = f"--policy open_pi_zero --checkpoint {checkpoint} --env {ENV} --episodes 2 --quiet"
    eval_here(f"{command} --samples 2 --intermediate-plans --collect-features --run-dir", alone)
    eval_here(f"{command} --batch 2 --run-dir", batched)
    (one,) = alone.glob("*/episodes/*/0.npz")
    (two,) = batched.glob("*/episodes/*/0.npz")
    with np.load(one) as first, np.load(two) as second:
        np.testing.assert_allclose(first["action"], second["action"], atol=1e-5)
        assert first["alternative_chunk"].shape == (3, 2, 4, 7)
        assert first["prediction_step"].tolist() == [0, 4, 8]


@pytest.mark.slow
def test_a_checkpoint_of_fractal_runs_with_the_rules_of_fractal(fractal, eval_here, tmp_path):
    command = f"--policy open_pi_zero --checkpoint {fractal} --env {GOOGLE_ENV} --episodes 2"
    alone, batched = tmp_path / "alone", tmp_path / "batched"
    flags = "--samples 2 --intermediate-plans --collect-features --quiet --run-dir"
    eval_here(f"{command} {flags}", alone)
    eval_here(f"{command} --batch 2 --quiet --run-dir", batched)
    (one,) = alone.glob("*/episodes/*/0.npz")
    (two,) = batched.glob("*/episodes/*/0.npz")
    with np.load(one) as first, np.load(two) as second:
        np.testing.assert_allclose(first["action"], second["action"], atol=1e-5)
        assert first["state"].shape == (13, 8)
        assert first["alternative_chunk"].shape == (6, 2, 4, 7)
        assert first["prediction_step"].tolist() == [0, 2, 4, 6, 8, 10]
        closings = first["chunk"][..., 6].ravel().tolist()
    first_strong = next(i for i, closing in enumerate(closings) if abs(closing) > 0.5)
    assert len(set(closings[first_strong : first_strong + 15])) == 1
    assert len(set(closings)) > 1


def test_the_network_of_fractal_reads_all_eight_numbers_of_its_state(fractal):
    policy = load_twin("open_pi_zero", fractal)
    middle = np.mean(policy._statistics.state, axis=0).astype(np.float32)
    plans = []
    for index in (None, *range(8)):
        state = middle.copy()
        if index is not None:
            state[index] += 0.1
        seen = replace(observe(), state=state)
        inputs = policy.network_inputs(seen)["observation.state"][0]
        changed = [] if index is None else [index]
        assert np.flatnonzero(np.abs(inputs) > 1e-5).tolist() == changed
        plans.append(policy.predict([make_memory(seen)], [np.random.default_rng(0)]).actions)
    assert all(np.abs(plan - plans[0]).max() > 1e-6 for plan in plans[1:])


def test_the_doctor_does_not_propose_more_actions_than_there_are(checkpoint):
    """Bridge's four actions take 0.8 s, and are executed as published."""
    config = make_config(SubjectConfig, policy="open_pi_zero", checkpoint=str(checkpoint), env=ENV)
    setup = set_up(config)
    with closing(setup.env):
        (finding,) = check_action_steps(CheckContext(config, setup))
    assert finding.evidence.startswith("4 of 4 actions = 0.80 s")
    assert not finding.is_problem
    assert finding.finding.startswith("the whole of the chunk")


def refuse(path, **options):
    with pytest.raises(WhiskerError) as raised:
        load_twin("open_pi_zero", path, **options)
    return str(raised.value)


class Evil:
    def __reduce__(self):
        return print, ("code of the checkpoint ran",)


def test_code_in_a_checkpoint_is_refused_and_does_not_run(checkpoint, tmp_path, capsys):
    path = tmp_path / "bridge.pt"
    torch.save({"model": Evil()}, path)
    assert "expected tensors only" in refuse(path)
    path.write_bytes(pickle.dumps({"model": Evil()}))
    refuse(path)
    assert "code of the checkpoint" not in capsys.readouterr().out


def test_damaged_and_foreign_files_are_refused_in_one_sentence(checkpoint, tmp_path):
    path = tmp_path / "bridge.pt"
    path.write_bytes(checkpoint.read_bytes()[:1000])
    assert "1000 bytes that cannot be read" in refuse(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "a Git LFS pointer" in refuse(path)
    torch.save({"weights": torch.zeros(1)}, path)
    assert "one with 'weights'" in refuse(path)
    torch.save({"model": {"embed_tokens.weight": torch.zeros(2, 2)}}, path)
    assert "1 tensors without it" in refuse(path)
    assert "no such file or folder" in refuse(tmp_path / "absent.pt")
    (tmp_path / "empty").mkdir()
    assert "none that ends in .pt" in refuse(tmp_path / "empty")


def test_weights_of_other_sizes_are_named(checkpoint, tmp_path):
    path = tmp_path / "bridge.pt"
    saved = torch.load(checkpoint, weights_only=True)
    name = "_orig_mod.action_decoder.bias"
    saved["model"][name] = torch.zeros(9)
    torch.save(saved, path)
    assert "'action_decoder.bias' of 7, got of 9 (1 such tensors)" in refuse(path)
    del saved["model"][name]
    torch.save(saved, path)
    assert "'action_decoder.bias' of 7, got absent" in refuse(path)


def test_statistics_are_found_by_the_name_and_checked(checkpoint, tmp_path):
    path = tmp_path / "model.pt"
    shutil.copy(checkpoint, path)
    assert "expected a file whose name contains bridge or fractal" in refuse(path)
    shutil.copy(checkpoint, tmp_path / "fractal.pt")
    assert "expected those of a state of 7 numbers" in refuse(tmp_path / "fractal.pt")
    (tmp_path / "statistics.json").write_text('{"action": {}}')
    assert "'proprio' with the numbers 'p01' and 'p99'" in refuse(path)


def test_a_missing_tokenizer_is_named(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    shutil.copy(checkpoint, tmp_path / "bridge.pt")
    said = refuse(tmp_path / "bridge.pt")
    assert "expected that of google/paligemma-3b-pt-224 in the folder" in said
    assert "Copy tokenizer.json and tokenizer_config.json" in said


def test_a_long_instruction_is_refused(policy):
    with pytest.raises(WhiskerError, match="expected at most 20 tokens"):
        policy.predict([make_memory(observe(instruction="go " * 20))], [np.random.default_rng(0)])


def test_the_type_is_found_from_the_file(checkpoint, small_act):
    assert find_policy_name(PolicyConfig(checkpoint=str(checkpoint))) == "open_pi_zero"
    assert find_policy_name(PolicyConfig(checkpoint=str(small_act))) == "act"


def test_simplers_state_is_that_of_bridge_and_of_nothing_else(policy):
    plain, padded = (
        make_spec(TASKS["carrot_on_plate"], None, is_padded) for is_padded in (False, True)
    )
    check_fit(policy.spec, plain)
    check_conventions(policy.spec, plain, Adapters())
    with pytest.raises(WhiskerError, match=r"expected 8 numbers .* that reads 7"):
        check_fit(policy.spec, padded)
    # Fractal's state has as many numbers, but others.
    fractal = replace(policy.spec, state_dim=8, state_names=STATE_NAMES["fractal"])
    check_fit(fractal, padded)
    with pytest.raises(WhiskerError, match=r"declares .state: x, y, z, qx, qy, qz, qw, closing"):
        check_conventions(fractal, padded, Adapters())


def test_an_environment_of_joints_is_refused(checkpoint, blind_env):
    with pytest.raises(WhiskerError, match="The checkpoint was trained for another robot"):
        load_policy("open_pi_zero", blind_env, str(checkpoint), "cpu")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (PolicyConfig("act", dtype="bfloat16"), "whose checkpoint states the format"),
        (PolicyConfig("open_pi_zero", dtype="int8"), "expected float32 or bfloat16"),
    ],
)
def test_a_number_format_is_checked(named, message):
    with pytest.raises(WhiskerError, match=message):
        find_policy_name(named)
