"""Tests every lerobot type on a small checkpoint in lerobot's format, without network access.

lerobot's own `select_action` is an independent reference.
"""

import socket
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

from eval.config import SubjectConfig
from eval.doctor.diagnosis import run_checks
from eval.drivers import plan, play_episode
from eval.evaluation import set_up
from eval.rollout import ControlStep, Decision, Request, RolloutSettings
from eval.subject import name_policy
from policies.checkpoint_files import read_config
from policies.declared_policy import read_declared_policy
from policies.embeddings import EMBEDDING_POINTS
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma

# Batched matrix products sum in another order than single ones, and actions are un-normalised by 15
# degrees. Pi0-FAST and VQ-BeT choose among tokens, so their actions are either equal or entirely
# different.
BATCH_ATOL_DEG = 2e-3
N_STEPS = 11

each_type = pytest.mark.parametrize("policy_type", LEROBOT_TYPES)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise OSError("the network is blocked in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return a function from a type to its folder, which is built at its first use."""
    folder = tmp_path_factory.mktemp("types")
    return cache(lambda policy_type: save_small_checkpoint(policy_type, folder / policy_type))


@pytest.fixture(scope="module")
def setups(checkpoints):
    made = {}

    def make(policy_type):
        if policy_type not in made:
            with shrunken_paligemma():
                made[policy_type] = set_up(subject(policy_type, checkpoints(policy_type)))
        return made[policy_type]

    yield make
    for setup in made.values():
        setup.env.close()


def subject(policy_type, folder):
    camera_map = "overhead_cam=image" if policy_type == "tdmpc" else None
    return name_policy(
        make_config(
            SubjectConfig, checkpoint=str(folder), camera_map=camera_map, trust_remote_code=True
        )
    )


def network_policy(setup):
    return getattr(setup.policy, "inner", setup.policy)


def seed_of(task, episode_index, prediction):
    return int(episode_rng(task, episode_index, prediction).integers(2**63))


def lerobot_rollout(setup, folder, episodes, keys):
    """Return the actions of lerobot's `select_action` at every step.

    The global generator is seeded before each prediction as the episode's own is.
    """
    env = setup.env
    n = setup.n_action_steps
    config = PreTrainedConfig.from_pretrained(folder)
    policy_class = get_policy_class(config.type)
    policy = policy_class.from_pretrained(folder, config=config).eval()
    preprocessor, postprocessor = make_pre_post_processors(config, pretrained_path=str(folder))
    actions = []
    for episode_index in episodes:
        env.reset(episode_index)
        for part in (policy, preprocessor, postprocessor):
            part.reset()
        for step in range(N_STEPS):
            seen = env.observe()
            batch = {
                "observation.state": torch.from_numpy(seen.state[None]),
                "task": [seen.instruction],
            }
            for camera, key in keys.items():
                batch[key] = (
                    torch.from_numpy(seen.images[camera][None])
                    .permute(0, 3, 1, 2)
                    .contiguous()
                    .float()
                    / 255
                )
            if step % n == 0:
                torch.manual_seed(seed_of(env.spec.task, episode_index, step // n))
            with torch.inference_mode():
                action = postprocessor(policy.select_action(preprocessor(batch)))
            actions.append(action[0].float().numpy())
            env.step(actions[-1])
    return np.stack(actions)


@each_type
def test_same_actions_as_lerobot_over_chunks_and_an_episode_boundary(
    policy_type, setups, checkpoints
):
    setup = setups(policy_type)
    keys = network_policy(setup)._image_keys
    if policy_type == "tdmpc":
        keys = {"overhead_cam": keys["image"]}
    ours = []
    for episode_index in (0, 1):
        events = play_episode(
            setup.env, setup.policy, episode_index, RolloutSettings(setup.n_action_steps, N_STEPS)
        )
        ours += [event.action for event in events if isinstance(event, ControlStep)]
    with shrunken_paligemma(), torch.random.fork_rng(devices=[]):
        theirs = lerobot_rollout(
            setup,
            checkpoints(policy_type),
            (0, 1),
            keys,
        )
    np.testing.assert_array_equal(np.stack(ours), theirs)
    assert np.ptp(theirs, axis=0).max() > 0.1, "a policy that does nothing would pass"


def memories_of(setup, n):
    memories = []
    for index in range(n):
        setup.env.reset(index)
        seen = []
        for _ in range(setup.policy.spec.n_obs_steps):
            seen.append(setup.env.observe())
            setup.env.step(setup.env.state())
        memories.append(make_memory(*seen, n_obs_steps=setup.policy.spec.n_obs_steps))
    return memories


@each_type
def test_what_config_json_declares_is_what_is_loaded(policy_type, setups, checkpoints):
    spec = network_policy(setups(policy_type)).spec
    declared = read_declared_policy(read_config(checkpoints(policy_type)), "")
    assert declared.image_sizes == spec.image_sizes
    if policy_type in ("act", "smolvla", "pi0"):
        assert (declared.chunk_size, declared.max_action_steps) == (
            spec.chunk_size,
            spec.max_action_steps,
        )
    else:
        assert declared.max_action_steps in (None, spec.max_action_steps)


@each_type
def test_a_batch_of_eight_plans_what_eight_single_calls_plan(policy_type, setups):
    setup = setups(policy_type)
    memories = memories_of(setup, 8)
    task = setup.env.spec.task

    def rngs():
        return [episode_rng(task, index, 3) for index in range(8)]

    torch.manual_seed(1)
    batched = setup.policy.predict([replace(m) for m in memories], rngs()).actions
    torch.manual_seed(2)
    singles = [
        setup.policy.predict([replace(m)], [rng])[0]
        for m, rng in zip(memories, rngs(), strict=True)
    ]
    np.testing.assert_allclose(batched, np.stack(singles), atol=BATCH_ATOL_DEG)
    if setup.policy.spec.stochastic:
        others = [episode_rng(task, index, 4) for index in range(8)]
        assert (
            np.abs(setup.policy.predict(memories, others).actions - batched).max()
            > 10 * BATCH_ATOL_DEG
        )


@each_type
def test_a_global_generator_is_neither_read_nor_moved(policy_type, setups):
    setup = setups(policy_type)
    (memory,) = memories_of(setup, 1)
    plans = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        plans.append(setup.policy.predict([replace(memory)], [episode_rng("t", 0, 0)]).actions)
        assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(*plans)


@pytest.mark.parametrize(
    "policy_type",
    [t for t in LEROBOT_TYPES if t != "act"],
)
def test_alternative_plans_differ_and_leave_the_executed_one_as_it_is(policy_type, setups):
    setup = setups(policy_type)
    (memory,) = memories_of(setup, 1)
    rngs = tuple(
        episode_rng(
            "t",
            0,
            0,
            k,
        )
        for k in range(8)
    )
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
    assert (
        chunk.alternatives.shape == (1, 7, setup.policy.spec.chunk_size, 6)
        and np.isfinite(chunk.alternatives).all()
    )
    assert np.abs(chunk.alternatives[0] - chunk[0]).max() > 1e-3
    executed = setup.policy.predict([memory.copy()], [episode_rng("t", 0, 0, 0)])[0]
    np.testing.assert_array_equal(chunk[0], executed)


def test_act_samples_its_latent_where_it_has_one(tmp_path, setups):
    (memory,) = memories_of(setups("act"), 1)
    rngs = [
        episode_rng(
            "t",
            0,
            0,
            k,
        )
        for k in range(3)
    ]
    with pytest.raises(WhiskerError, match="got a deterministic one"):
        setups("act").policy.sample(memory, rngs)
    folder = save_small_checkpoint(
        "act",
        tmp_path / "vae",
        use_vae=True,
        n_vae_encoder_layers=1,
    )
    setup = set_up(subject("act", folder))
    assert setup.policy.spec.can_sample and not setup.policy.spec.stochastic
    plans = setup.policy.sample(memory, rngs).actions
    executed = setup.policy.predict([memory], rngs[:1])[0]
    assert (
        len(plans) == 3
        and min(np.abs(each - other).max() for each, other in combinations([executed, *plans], 2))
        > 0
    )
    setup.env.close()


@contextmanager
def hooked(network, point):
    outputs = []
    paths = point.paths(network.config)
    hooks = [
        network.get_submodule(path).register_forward_hook(
            lambda module, args, output: outputs.append(output)
        )
        for path in paths
    ]
    yield outputs
    for hook in hooks:
        hook.remove()


@each_type
def test_the_condition_embedding_fires_once_a_chunk(policy_type, setups):
    setup = setups(policy_type)
    point = EMBEDDING_POINTS[policy_type]
    network = network_policy(setup).network
    (memory,) = memories_of(setup, 1)
    with hooked(network, point) as outputs:
        setup.policy.predict([replace(memory)], [episode_rng("t", 0, 0)])
        n_first = len(outputs)
        setup.policy.predict([replace(memory)], [episode_rng("t", 0, 1)])
    expected = n_first if point.fires is None else point.fires(network.config)
    assert n_first == expected >= 1 and len(outputs) == 2 * n_first
    embedding = point.take(outputs[0])
    assert (
        embedding.ndim
        == {
            "map": 4,
            "tokens": 3,
            "vector": 2,
        }[point.layout]
    )
    assert embedding.isfinite().all()
    if point.layout == "tokens":
        assert len(embedding) == 1 and embedding.shape[1] > 1


def test_diffusion_has_an_encoder_a_camera_by_default(tmp_path):
    """Diffusion has one encoder per camera by default.

    The list of encoders, `diffusion.rgb_encoder`, is then never called itself.
    """
    folder = save_small_checkpoint(
        "diffusion", tmp_path / "two", use_separate_rgb_encoder_per_camera=True
    )
    setup = set_up(subject("diffusion", folder))
    (memory,) = memories_of(setup, 1)
    point = EMBEDDING_POINTS["diffusion"]
    with hooked(network_policy(setup).network, point) as outputs:
        setup.policy.predict([memory], [episode_rng("t", 0, 0)])
    assert len(outputs) == point.fires(network_policy(setup).network.config) == 2
    assert {point.take(output).shape[0] for output in outputs} == {setup.policy.spec.n_obs_steps}
    setup.env.close()


def test_pi0_fast_fires_for_the_prefill_first(setups):
    setup = setups("pi0_fast")
    point = EMBEDDING_POINTS["pi0_fast"]
    (memory,) = memories_of(setup, 1)
    with hooked(network_policy(setup).network, point) as outputs:
        setup.policy.predict([memory], [episode_rng("t", 0, 0)])
    n_tokens = [point.take(output).shape[1] for output in outputs]
    assert n_tokens[0] > 1 and set(n_tokens[1:]) == {1}


@pytest.mark.parametrize(
    "policy_type",
    [
        t if t in ("act", "smolvla") else pytest.param(t, marks=pytest.mark.slow)
        for t in LEROBOT_TYPES
    ],
)
def test_the_doctor_finds_nothing_wrong_with_a_whole_checkpoint(policy_type, setups, checkpoints):
    """The doctor finds only the problems that random weights cause.

    A policy with random weights does not plan the expert's actions, and may not follow the images.
    """
    with shrunken_paligemma():
        findings = run_checks(
            subject(policy_type, checkpoints(policy_type)),
            setups(policy_type),
        )
    assert [
        str(f) for f in findings if f.is_problem and f.check not in ("agreement", "inputs")
    ] == []


def test_history_is_seen_just_before_a_decision_only(setups):
    setup = setups("diffusion")
    n_looks = 0
    observe = setup.env.observe

    def counted():
        nonlocal n_looks
        n_looks += 1
        return observe()

    setup.env.observe = counted
    try:
        events = list(
            play_episode(
                setup.env,
                setup.policy,
                0,
                RolloutSettings(4, 9),
            )
        )
    finally:
        del setup.env.observe
    # Steps 0, 4 and 8 are decisions. Steps 3 and 7 are the past of 4 and 8.
    assert [e.step for e in events if isinstance(e, Decision)] == [0, 4, 8] and n_looks == 5
