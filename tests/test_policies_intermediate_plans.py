"""Tests intermediate plans against a computation by hand.

It uses the generator's own noise and the network's own velocities.
"""

from copy import deepcopy
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from eval.config import EvalConfig
from eval.evaluation import set_up
from policies.action_chunk import ActionChunk
from policies.adapters import AdaptedPolicy, Adapters
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.small_checkpoints import CHUNK, HOME, SPREAD
from tests.test_policies_adapters import FakePolicy

# These are the last layers of a step. Their output is the velocity, except for X-VLA, where it is
# the clean chunk.
LAST_LAYER = {
    "smolvla": "model.action_out_proj",
    "pi0": "model.action_out_proj",
    "pi05": "model.action_out_proj",
    "xvla": "model.transformer",
    "groot": "_groot_model.action_head.action_decoder",
    "evo1": "model.action_head.mlp_head",
    "vla_jepa": "model.action_model.action_decoder",
}
N_STEPS = 3
# The tolerance is that of float32 after three steps and a scale of 15.
ATOL_DEG = 1e-4

each_flow = pytest.mark.parametrize("policy_type", LAST_LAYER)


@pytest.fixture
def setup(policy_type, small_setup):
    """Yield a setup whose policy records until the test ends."""
    setup = small_setup(policy_type)
    setup.policy.records_intermediate_plans = True
    yield setup
    setup.policy.records_intermediate_plans = False


@pytest.fixture
def last_layer(policy_type, setup):
    return setup.policy.network.get_submodule(LAST_LAYER[policy_type])


def look(env, episode_index=0):
    env.reset(episode_index)
    return make_memory(env.observe())


def rng(k=0):
    return episode_rng("t", 0, k)


def predict(setup):
    return setup.policy.predict(
        [look(setup.env)],
        [rng()],
    )


def draw_noise(n_tokens, dim):
    """Return the six columns of the generator's noise that stand for joints."""
    generator = torch.Generator().manual_seed(int(rng().integers(2**63)))
    return torch.normal(
        0.0,
        1.0,
        (1, n_tokens, dim),
        generator=generator,
    ).numpy()[0, :, :6]


def in_degrees(x):
    return np.float32(HOME) + SPREAD * x


@pytest.fixture
def chunk_and_outputs(setup, last_layer):
    """Return a chunk, and the last layer's output at each step as `(step, token, 6)`."""
    outputs = []
    hook = last_layer.register_forward_hook(
        lambda module, args, output: outputs.append(output.clone())
    )
    chunk = predict(setup)
    hook.remove()
    return chunk, np.stack([output[0, :, :6].float().numpy() for output in outputs])


@each_flow
def test_there_is_one_plan_a_step_and_recording_changes_no_plan(setup):
    chunk = predict(setup)
    setup.policy.records_intermediate_plans = False
    quiet = predict(setup)
    assert quiet.intermediate_plans is None
    assert_array_equal(chunk.actions, quiet.actions)
    spec = setup.policy.spec
    assert spec.intermediate_plans == "flow"
    assert chunk.intermediate_plans.shape == (1, N_STEPS, spec.chunk_size, 6)
    assert chunk.intermediate_plans.dtype == np.float32
    stages = np.concatenate([chunk.intermediate_plans[0], chunk.actions])
    changes = np.abs(np.diff(stages, axis=0)).max(axis=(1, 2))
    assert changes.min() > 1e-3, "every intermediate plan is another, and none is the plan"


@pytest.mark.parametrize("policy_type", ["smolvla", "pi0", "pi05"])
def test_intermediate_plans_are_euler_steps_from_the_generators_noise_to_the_plan(
    setup, chunk_and_outputs
):
    """The intermediate plans are Euler steps from the generator's noise to the plan.

    x₀ = noise, xᵢ₊₁ = xᵢ - v(xᵢ) / D, the plan is x_D, and an action is HOME + SPREAD x.
    """
    chunk, velocities = chunk_and_outputs
    config = setup.policy.network.config
    x = draw_noise(config.chunk_size, config.max_action_dim)
    for made, velocity in zip(chunk.intermediate_plans[0], velocities, strict=True):
        assert_allclose(made, in_degrees(x), atol=ATOL_DEG)
        x = x - velocity / N_STEPS
    assert_allclose(
        chunk[0],
        in_degrees(x),
        atol=ATOL_DEG,
    )


@pytest.mark.parametrize("policy_type", ["xvla"])
def test_intermediate_plans_of_xvla_mix_noise_into_what_it_foresees(setup, chunk_and_outputs):
    """X-VLA mixes noise into its clean chunks.

    At t = 1, 2/3, 1/3: x = t noise + (1 - t) the clean chunk of the step before.
    """
    chunk, clean = chunk_and_outputs
    model = setup.policy.network.model
    noise = draw_noise(model.chunk_size, model.dim_action)
    before = np.zeros_like(noise)
    times = (1, 2 / 3, 1 / 3)
    for made, t, foreseen in zip(chunk.intermediate_plans[0], times, clean, strict=True):
        assert_allclose(
            made,
            in_degrees(t * noise + (1 - t) * before),
            atol=ATOL_DEG,
        )
        before = foreseen
    assert_allclose(
        chunk[0],
        in_degrees(before),
        atol=ATOL_DEG,
    )


@pytest.mark.parametrize(
    ("policy_type", "action_dim"),
    [
        ("groot", 16),
        ("vla_jepa", 6),
    ],
)
def test_intermediate_plans_that_run_the_other_way_and_through_their_own_decoding(
    action_dim, setup, chunk_and_outputs
):
    """GR00T and VLA-JEPA integrate in the other direction, and their own decoding clips each step.

    x₀ = noise, xᵢ₊₁ = xᵢ + v(xᵢ) / D.
    """
    chunk, velocities = chunk_and_outputs
    n_tokens = CHUNK["chunk_size"]
    x = draw_noise(n_tokens, action_dim)

    def decode(x):
        planned = torch.from_numpy(x[None, : len(chunk[0])])
        return setup.policy._postprocessor(planned).numpy()[0]

    for made, velocity in zip(chunk.intermediate_plans[0], velocities, strict=True):
        assert_allclose(made, decode(x), atol=ATOL_DEG)
        x = x + velocity[-n_tokens:] / N_STEPS
    assert_allclose(
        chunk[0],
        decode(x),
        atol=ATOL_DEG,
    )


@pytest.mark.parametrize("policy_type", ["evo1"])
def test_intermediate_plans_of_evo1_begin_with_numbers_from_minus_one_to_one(setup, last_layer):
    """EVO1 begins with uniform noise, and adds the velocity of the whole chunk at each step.

    x₀ = 2 u - 1 with u from 0 to 1, xᵢ₊₁ = xᵢ + v(xᵢ) / D.
    """
    velocities = []
    with last_layer.register_forward_hook(lambda *call: velocities.append(call[-1].clone())):
        chunk = predict(setup)
    config = setup.policy.network.config
    shape = (config.chunk_size, config.max_action_dim)
    generator = torch.Generator().manual_seed(int(rng().integers(2**63)))
    x = 2 * torch.rand(1, shape[0] * shape[1], generator=generator) - 1
    for made, velocity in zip(chunk.intermediate_plans[0], velocities, strict=True):
        assert_allclose(made, in_degrees(x.view(shape)[:, :6].numpy()), atol=ATOL_DEG)
        x = x + velocity / N_STEPS
    assert_allclose(chunk[0], in_degrees(x.view(shape)[:, :6].numpy()), atol=ATOL_DEG)


@each_flow
def test_a_row_of_a_batch_has_the_intermediate_plans_that_it_has_alone(setup):
    memories = [look(setup.env, 0), look(setup.env, 1)]
    together = setup.policy.predict(
        memories,
        [
            rng(0),
            rng(1),
        ],
    )
    for row, memory in enumerate(memories):
        alone = setup.policy.predict(
            [memory],
            [rng(row)],
        ).intermediate_plans[0]
        assert_allclose(together.intermediate_plans[row], alone, atol=2e-3)


@each_flow
def test_lerobot_is_as_it_was_even_after_an_error(policy_type, setup, last_layer, monkeypatch):
    path, method_name, _ = LEROBOT_TYPES[policy_type].denoising
    module = setup.policy.network.get_submodule(path)
    predict(setup)
    assert method_name not in vars(module)
    monkeypatch.setattr(last_layer, "forward", Mock(side_effect=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        predict(setup)
    assert method_name not in vars(module)


def test_the_intermediate_plan_of_an_ensemble_is_the_chunk_before_it_was_averaged(
    small_act, small_setup
):
    """The intermediate plan equals the plan of the same weights without an ensemble."""
    plain = load_lerobot_policy(open_checkpoint("act", str(small_act)), "cpu")
    assert plain.spec.intermediate_plans == "none"
    setup = small_setup("act ensembling")
    policy = setup.policy
    assert policy.spec.intermediate_plans == "ensemble"
    memory = policy.reset()
    quiet = deepcopy(memory)
    for step in range(3):
        setup.env.reset(step)
        for each in (memory, quiet):
            each.observations.append(setup.env.observe())
        policy.records_intermediate_plans = True
        chunk = policy.predict([memory], [rng()])
        policy.records_intermediate_plans = False
        unrecorded = policy.predict([quiet], [rng()])
        assert unrecorded.intermediate_plans is None
        assert_array_equal(chunk.actions, unrecorded.actions)
        own = plain.predict([memory], [rng()]).actions
        assert_array_equal(chunk.intermediate_plans, own[None])
        assert np.array_equal(own, chunk.actions) == (step == 0)


def test_intermediate_plans_are_adapted_as_plans_are(blind_env):
    """An intermediate plan that equals the plan is adapted to the same values.

    This includes the state and the gripper.
    """

    class WiderPolicy(FakePolicy):
        def predict(self, memories, rngs):
            actions = np.random.default_rng(0).normal(size=(len(memories), 4, 7))
            stages = np.stack([actions, -actions, actions], axis=1)
            return ActionChunk(np.float32(actions), np.float32(stages))

    adapters = Adapters(
        policy_actions="delta",
        gripper_range=(0.0, 1.0),
        gripper_offset=2.0,
        allow_padding=True,
    )
    wider = WiderPolicy(
        np.zeros((4, 7)),
        image_sizes={},
        state_dim=6,
    )
    adapted = AdaptedPolicy(wider, adapters, blind_env.spec)
    memories = [look(blind_env, 0), look(blind_env, 1)]
    memories[1].present.state[:] += 5
    chunk = adapted.predict(memories, [rng(), rng()])
    first, negated, last = np.moveaxis(chunk.intermediate_plans, 1, 0)
    assert_array_equal(first, chunk.actions)
    assert_array_equal(last, chunk.actions)
    middle = (first + negated)[..., :5] / 2
    for row, memory in zip(middle, memories, strict=True):
        assert_allclose(
            row,
            [memory.present.state[:5]] * 4,
            atol=1e-4,
        )


def test_a_policy_that_makes_its_plans_from_nothing_is_refused(small_act):
    config = make_config(
        EvalConfig,
        checkpoint=str(small_act),
        intermediate_plans=True,
    )
    said = "--intermediate-plans of policy 'act'.*neither.*Leave --intermediate-plans out"
    with pytest.raises(WhiskerError, match=said):
        set_up(config)
