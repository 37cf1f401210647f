"""Tests every lerobot type on a small checkpoint in lerobot's format, without network access.

lerobot's own `select_action` is an independent reference.
"""

import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import combinations
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lerobot.envs.utils import preprocess_observation
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from numpy.testing import assert_allclose, assert_array_equal

from eval.config import SubjectConfig
from eval.doctor.diagnosis import run_checks
from eval.drivers import plan, play_episode
from eval.evaluation import set_up
from eval.rollout import ControlStep, Decision, Request, RolloutSettings
from policies.checkpoint_files import read_config
from policies.declared_policy import read_declared_policy
from policies.embeddings import EMBEDDING_POINTS
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.small_checkpoints import (
    read_lerobot_config,
    save_small_checkpoint,
    shrunken_paligemma,
)

# Batched matrix products sum in another order than single ones, and actions are un-normalised by 15
# degrees. Pi0-FAST and VQ-BeT choose among tokens, so their actions are either equal or entirely
# different.
BATCH_ATOL_DEG = 2e-3
N_STEPS = 11

pytestmark = pytest.mark.usefixtures("no_network")
each_type = pytest.mark.parametrize("policy_type", LEROBOT_TYPES)


@pytest.fixture
def setup(policy_type, small_setup):
    return small_setup(policy_type)


@pytest.fixture
def network_policy(setup):
    """Return the policy without its adapters."""
    return getattr(setup.policy, "inner", setup.policy)


@pytest.fixture
def memory(setup):
    return look(setup, 0)


def look(setup, episode_index):
    """Return the memory of the first observations of an episode."""
    env = setup.env
    env.reset(episode_index)
    n_obs_steps = setup.policy.spec.n_obs_steps
    seen = []
    for _ in range(n_obs_steps):
        seen.append(env.observe())
        env.step(env.state())
    return make_memory(*seen, n_obs_steps=n_obs_steps)


def lerobot_rollout(setup, folder, keys):
    """Return the actions of lerobot's `select_action` at every step.

    The observations pass through lerobot's own preprocessing. The global generator is seeded before
    each prediction as the episode's own is.
    """
    env = setup.env
    n = setup.n_action_steps
    config = read_lerobot_config(folder)
    policy_class = get_policy_class(config.type)
    policy = policy_class.from_pretrained(folder, config=config).eval()
    preprocessor, postprocessor = make_pre_post_processors(config, pretrained_path=str(folder))
    actions = []
    for episode_index in (0, 1):
        env.reset(episode_index)
        for part in (policy, preprocessor, postprocessor):
            part.reset()
        for step in range(N_STEPS):
            seen = env.observe()
            pixels = {camera: image[None] for camera, image in seen.images.items()}
            gyms = {"pixels": pixels, "agent_pos": seen.state[None]}
            batch = preprocess_observation(gyms) | {"task": [seen.instruction]}
            for camera, key in keys.items():
                batch[key] = batch[f"observation.images.{camera}"]
            if step % n == 0:
                rng = episode_rng(
                    env.spec.task,
                    episode_index,
                    step // n,
                )
                torch.manual_seed(int(rng.integers(2**63)))
            with torch.inference_mode():
                action = postprocessor(policy.select_action(preprocessor(batch)))
            actions.append(action[0].float().numpy())
            env.step(actions[-1])
    return np.stack(actions)


@pytest.mark.parametrize("policy_type", [*LEROBOT_TYPES, "act ensembling"])
def test_same_actions_as_lerobot_over_chunks_and_an_episode_boundary(
    policy_type, setup, network_policy
):
    keys = network_policy._image_keys
    if policy_type == "tdmpc":
        keys = {"overhead_cam": keys["image"]}
    settings = RolloutSettings(setup.n_action_steps, N_STEPS)
    ours = []
    for episode_index in (0, 1):
        events = play_episode(setup.env, setup.policy, episode_index, settings)
        ours += [event.action for event in events if isinstance(event, ControlStep)]
    with shrunken_paligemma(), torch.random.fork_rng(devices=[]):
        theirs = lerobot_rollout(setup, setup.policy.spec.checkpoint, keys)
    assert_array_equal(ours, theirs)
    assert np.ptp(theirs, axis=0).max() > 0.1, "a policy that does nothing would pass"


@each_type
def test_what_config_json_declares_is_what_is_loaded(policy_type, network_policy, small_checkpoint):
    spec = network_policy.spec
    declared = read_declared_policy(read_config(small_checkpoint(policy_type)), "")
    assert declared.image_sizes == spec.image_sizes
    if policy_type in ("act", "smolvla", "pi0"):
        assert declared.chunk_size == spec.chunk_size
        assert declared.max_action_steps == spec.max_action_steps
    else:
        assert declared.max_action_steps in (None, spec.max_action_steps)


@each_type
def test_a_batch_of_eight_plans_what_eight_single_calls_plan(setup):
    memories = [look(setup, index) for index in range(8)]

    def rngs(prediction):
        return [episode_rng(setup.env.spec.task, index, prediction) for index in range(8)]

    torch.manual_seed(1)
    batched = setup.policy.predict([replace(m) for m in memories], rngs(3)).actions
    torch.manual_seed(2)
    for row, memory, rng in zip(batched, memories, rngs(3), strict=True):
        alone = setup.policy.predict([replace(memory)], [rng])[0]
        assert_allclose(row, alone, atol=BATCH_ATOL_DEG)
    if setup.policy.spec.stochastic:
        others = setup.policy.predict(memories, rngs(4)).actions
        assert np.abs(others - batched).max() > 10 * BATCH_ATOL_DEG


@each_type
def test_a_global_generator_is_neither_read_nor_moved(setup, memory):
    plans = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        plans.append(
            setup.policy.predict(
                [replace(memory)],
                [episode_rng("t", 0)],
            )[0]
        )
        assert torch.equal(before, torch.get_rng_state())
    assert_array_equal(*plans)


def rngs_of_samples(n):
    return tuple(episode_rng("t", 0, 0, k) for k in range(n))


@pytest.mark.parametrize("policy_type", [name for name in LEROBOT_TYPES if name != "act"])
def test_alternative_plans_differ_and_leave_the_executed_one_as_it_is(setup, memory):
    rngs = rngs_of_samples(8)
    chunk = plan(
        setup.policy,
        Request(
            0,
            0,
            memory.copy(),
            rngs,
            None,
        ),
    )
    assert chunk.alternatives.shape == (
        1,
        7,
        setup.policy.spec.chunk_size,
        6,
    )
    assert np.isfinite(chunk.alternatives).all()
    assert np.abs(chunk.alternatives[0] - chunk[0]).max() > 1e-3
    executed = setup.policy.predict(
        [memory.copy()],
        rngs_of_samples(1),
    )[0]
    assert_array_equal(chunk[0], executed)


@pytest.mark.parametrize("policy_type", ["act"])
def test_act_without_a_latent_has_no_alternatives(setup, memory):
    with pytest.raises(WhiskerError, match="got a deterministic one"):
        setup.policy.sample(memory, rngs_of_samples(3))


def test_act_samples_its_latent_where_it_has_one(tmp_path):
    folder = save_small_checkpoint(
        "act",
        tmp_path / "vae",
        use_vae=True,
        n_vae_encoder_layers=1,
    )
    setup = set_up(make_config(SubjectConfig, checkpoint=str(folder)))
    policy = setup.policy
    assert policy.spec.can_sample
    assert not policy.spec.stochastic
    memory = look(setup, 0)
    plans = policy.sample(memory, rngs_of_samples(3)).actions
    assert len(plans) == 3
    executed = policy.predict([memory], rngs_of_samples(1))[0]
    for each, other in combinations([executed, *plans], 2):
        assert not np.array_equal(each, other)
    setup.env.close()


@contextmanager
def hooked(network, point):
    """Yield a list of what passes the embedding point from now on."""
    outputs = []
    with ExitStack() as hooks:
        for path in point.paths(network):
            hooks.enter_context(
                network.get_submodule(path).register_forward_hook(
                    lambda module, args, output: outputs.append(output)
                )
            )
        yield outputs


@each_type
def test_the_condition_embedding_fires_once_a_chunk(policy_type, setup, network_policy, memory):
    point = EMBEDDING_POINTS[policy_type]
    network = network_policy.network
    with hooked(network, point) as outputs:
        setup.policy.predict(
            [replace(memory)],
            [episode_rng("t", 0, 0)],
        )
        n_first = len(outputs)
        setup.policy.predict(
            [replace(memory)],
            [episode_rng("t", 0, 1)],
        )
    assert n_first >= 1
    assert len(outputs) == 2 * n_first
    if point.fires is not None:
        assert n_first == point.fires(network.config)
    embedding = point.take(outputs[0])
    n_dims = {
        "map": 4,
        "tokens": 3,
        "vector": 2,
    }
    assert embedding.ndim == n_dims[point.layout]
    assert embedding.isfinite().all()
    if point.layout == "tokens":
        n_rows, n_tokens, _ = embedding.shape
        assert n_rows == 1
        assert n_tokens > 1


each_inner_folder = pytest.mark.parametrize(
    ("policy_type", "inner", "file"),
    [
        ("multi_task_dit", "clip", "model.safetensors"),
        ("eo1", "vlm", "tokenizer.json"),
        ("vla_jepa", "qwen", "config.json"),
    ],
)


@pytest.fixture
def moved(policy_type, inner, tmp_path):
    """Return a checkpoint that was moved, and names the folder inside it relatively."""
    folder = save_small_checkpoint(policy_type, tmp_path / "first")
    for name in ("config.json", "policy_preprocessor.json"):
        path = folder / name
        path.write_text(path.read_text().replace(str(folder / inner), inner))
    return folder.rename(tmp_path / "moved")


@each_inner_folder
def test_a_moved_checkpoint_finds_the_folder_inside(policy_type, inner, file, moved, small_setup):
    setup = set_up(make_config(SubjectConfig, checkpoint=str(moved)))
    expected = small_setup(policy_type)
    plans = []
    for each in (setup, expected):
        plans.append(each.policy.predict([look(each, 0)], [episode_rng("t", 0)])[0])
    assert_array_equal(*plans)
    setup.env.close()


@pytest.mark.parametrize(
    ("policy_type", "inner", "files"),
    [
        ("smolvla", "vlm", {"config.json", "tokenizer.json"}),
        ("eo1", "vlm", {"chat_template.jinja", "tokenizer.json"}),
        ("evo1", "vlm", {"config.json", "tokenizer.json"}),
        ("vla_jepa", "qwen", {"chat_template.jinja", "tokenizer.json"}),
        ("multi_task_dit", "clip", {"model.safetensors", "tokenizer.json"}),
    ],
)
def test_the_files_of_a_folder_inside_belong_to_the_checkpoint(
    policy_type, inner, files, small_checkpoint, small_setup
):
    """`--resume` and a branch in the viewer compare these hashes."""
    folder = small_checkpoint(policy_type)
    hashes = small_setup(policy_type).policy.spec.files_sha256
    assert "model.safetensors" in hashes
    for file in files:
        content = (folder / inner / file).read_bytes()
        assert hashes[f"{inner}/{file}"] == hashlib.sha256(content).hexdigest()


@each_inner_folder
def test_an_incomplete_folder_inside_is_named(policy_type, inner, file, moved):
    (moved / inner / file).unlink()
    with pytest.raises(WhiskerError, match=f"a folder '{inner}' inside"):
        set_up(make_config(SubjectConfig, checkpoint=str(moved)))


def test_diffusion_has_an_encoder_a_camera_by_default(tmp_path):
    """Diffusion has one encoder per camera by default.

    The list of encoders, `diffusion.rgb_encoder`, is then never called itself.
    """
    folder = save_small_checkpoint(
        "diffusion",
        tmp_path / "two",
        use_separate_rgb_encoder_per_camera=True,
    )
    setup = set_up(make_config(SubjectConfig, checkpoint=str(folder)))
    network = setup.policy.network
    point = EMBEDDING_POINTS["diffusion"]
    with hooked(network, point) as outputs:
        setup.policy.predict(
            [look(setup, 0)],
            [episode_rng("t", 0)],
        )
    assert len(outputs) == point.fires(network.config) == 2
    assert {len(point.take(output)) for output in outputs} == {setup.policy.spec.n_obs_steps}
    setup.env.close()


@pytest.mark.parametrize("policy_type", ["pi0_fast"])
def test_pi0_fast_fires_for_the_prefill_first(policy_type, setup, network_policy, memory):
    point = EMBEDDING_POINTS[policy_type]
    with hooked(network_policy.network, point) as outputs:
        setup.policy.predict([memory], [episode_rng("t", 0)])
    first, *later = (point.take(output).shape[1] for output in outputs)
    assert first > 1
    assert set(later) == {1}


@pytest.mark.parametrize(
    "policy_type",
    [
        "act",
        *(pytest.param(t, marks=pytest.mark.slow) for t in LEROBOT_TYPES if t != "act"),
    ],
)
def test_the_doctor_finds_nothing_wrong_with_a_whole_checkpoint(
    policy_type, setup, small_checkpoint
):
    """The doctor finds only the problems that random weights cause.

    A policy with random weights does not plan the expert's actions, and may not follow the images.
    """
    config = make_config(
        SubjectConfig,
        checkpoint=str(small_checkpoint(policy_type)),
        camera_map="overhead_cam=image" if policy_type == "tdmpc" else None,
        trust_remote_code=True,
    )
    with shrunken_paligemma():
        findings = run_checks(config, setup)
    problems = {finding.check: str(finding) for finding in findings if finding.is_problem}
    assert problems.keys() <= {"agreement", "inputs"}, problems


@pytest.mark.parametrize("policy_type", ["diffusion"])
def test_history_is_seen_just_before_a_decision_only(setup, monkeypatch):
    observe = Mock(side_effect=setup.env.observe)
    monkeypatch.setattr(setup.env, "observe", observe)
    events = list(
        play_episode(
            setup.env,
            setup.policy,
            0,
            RolloutSettings(4, 9),
        )
    )
    # Steps 0, 4 and 8 are decisions. Steps 3 and 7 are the past of 4 and 8.
    assert [event.step for event in events if isinstance(event, Decision)] == [0, 4, 8]
    assert observe.call_count == 5
