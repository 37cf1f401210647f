"""Tests intermediate plans against a computation by hand.

It uses the generator's own noise and the network's own velocities.
"""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch

from eval.config import EvalConfig
from eval.evaluation import set_up
from eval.subject import name_policy
from policies.action_chunk import ActionChunk
from policies.adapters import AdaptedPolicy, Adapters
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import make_memory
from sim.env import episode_rng
from sim.errors import WhiskerError
from sim.flags import make_config
from tests.small_checkpoints import HOME, SPREAD, save_small_checkpoint, shrunken_paligemma
from tests.test_policies_adapters import FakePolicy

N_INTERMEDIATE = {
    "smolvla": 3,
    "pi0": 3,
    "pi05": 3,
    "xvla": 3,
    "groot": 3,
}
# These are the last layers of a step. Their output is the velocity, except for X-VLA, where it is
# the clean chunk.
LAST_LAYER = {
    "smolvla": "model.action_out_proj",
    "pi0": "model.action_out_proj",
    "pi05": "model.action_out_proj",
    "xvla": "model.transformer",
    "groot": "_groot_model.action_head.action_decoder",
}
# The tolerance is that of float32 after three steps and a scale of 15.
ATOL_DEG = 1e-4

each_flow = pytest.mark.parametrize("policy_type", N_INTERMEDIATE)


@pytest.fixture(scope="module")
def setups(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    made = []

    @cache
    def make(policy_type):
        with shrunken_paligemma():
            checkpoint = save_small_checkpoint(policy_type, folder / policy_type)
            made.append(
                set_up(
                    name_policy(
                        make_config(EvalConfig, checkpoint=str(checkpoint), trust_remote_code=True)
                    )
                )
            )
        return made[-1]

    yield make
    for setup in made:
        setup.env.close()


@pytest.fixture
def recording(setups):
    """Yield a function that returns a setup whose policy records until the test ends."""
    policies = []

    def start(policy_type):
        policies.append(setups(policy_type).policy)
        policies[-1].records_intermediate_plans = True
        return setups(policy_type)

    yield start
    for policy in policies:
        policy.records_intermediate_plans = False


def look(setup, episode_index=0):
    setup.env.reset(episode_index)
    return make_memory(setup.env.observe())


def rng(k=0):
    return episode_rng("t", 0, k)


def drawn_noise(shape):
    generator = torch.Generator().manual_seed(int(rng().integers(2**63)))
    return torch.normal(
        0.0,
        1.0,
        shape,
        generator=generator,
    ).numpy()


def predict_and_listen(setup, policy_type):
    """Return the chunk, and the last layer's output at each step as `(step, token, 6)`."""
    outputs = []
    layer = setup.policy.network.get_submodule(LAST_LAYER[policy_type])
    hook = layer.register_forward_hook(lambda module, args, output: outputs.append(output.clone()))
    chunk = setup.policy.predict([look(setup)], [rng()])
    hook.remove()
    return chunk, np.stack([output[0, :, :6].float().numpy() for output in outputs])


@each_flow
def test_there_is_one_draft_a_step_and_recording_changes_no_plan(policy_type, setups, recording):
    quiet = setups(policy_type).policy.predict([look(setups(policy_type))], [rng()])
    assert quiet.intermediate_plans is None
    setup = recording(policy_type)
    chunk = setup.policy.predict([look(setup)], [rng()])
    np.testing.assert_array_equal(chunk.actions, quiet.actions)
    assert chunk.intermediate_plans.shape == (
        1,
        N_INTERMEDIATE[policy_type],
        setup.policy.spec.chunk_size,
        6,
    )
    assert (
        chunk.intermediate_plans.dtype == np.float32
        and setup.policy.spec.intermediate_plans == "flow"
    )
    changes = np.abs(
        np.diff(
            np.concatenate([chunk.intermediate_plans[0], chunk.actions]),
            axis=0,
        )
    ).max(axis=(1, 2))
    assert (changes > 1e-3).all(), "every intermediate plan is another, and none is the plan"


@pytest.mark.parametrize(
    "policy_type",
    ["smolvla", "pi0", "pi05"],
)
def test_drafts_are_euler_steps_from_the_generators_noise_to_the_plan(policy_type, recording):
    """The intermediate plans are Euler steps from the generator's noise to the plan.

    x₀ = noise, xᵢ₊₁ = xᵢ - v(xᵢ) / D, the plan is x_D, and an action is HOME + SPREAD x.
    """
    setup = recording(policy_type)
    chunk, velocities = predict_and_listen(setup, policy_type)
    config = setup.policy.network.config
    x = drawn_noise((1, config.chunk_size, config.max_action_dim))[0, :, :6]
    for intermediate_plan, velocity in zip(chunk.intermediate_plans[0], velocities, strict=True):
        np.testing.assert_allclose(intermediate_plan, np.float32(HOME) + SPREAD * x, atol=ATOL_DEG)
        x = x - velocity / len(velocities)
    np.testing.assert_allclose(chunk[0], np.float32(HOME) + SPREAD * x, atol=ATOL_DEG)


def test_drafts_of_xvla_mix_noise_into_what_it_foresees(recording):
    """X-VLA mixes noise into its clean chunks.

    At t = 1, 2/3, 1/3: x = t noise + (1 - t) the clean chunk of the step before.
    """
    setup = recording("xvla")
    chunk, clean = predict_and_listen(setup, "xvla")
    model = setup.policy.network.model
    noise = drawn_noise((1, model.chunk_size, model.dim_action))[0, :, :6]
    before = np.zeros_like(noise)
    for intermediate_plan, t, foreseen in zip(
        chunk.intermediate_plans[0], (1, 2 / 3, 1 / 3), clean, strict=True
    ):
        np.testing.assert_allclose(
            intermediate_plan,
            np.float32(HOME) + SPREAD * (t * noise + (1 - t) * before),
            atol=ATOL_DEG,
        )
        before = foreseen
    np.testing.assert_allclose(
        chunk[0],
        np.float32(HOME) + SPREAD * before,
        atol=ATOL_DEG,
    )


def test_drafts_of_groot_run_the_other_way_and_through_its_own_decoding(recording):
    """GR00T integrates in the other direction, and its own decoding applies to each step.

    x₀ = noise, xᵢ₊₁ = xᵢ + v(xᵢ) / D.
    """
    setup = recording("groot")
    chunk, velocities = predict_and_listen(setup, "groot")
    head = setup.policy.network._groot_model.action_head
    x = drawn_noise((1, head.config.action_horizon, head.action_dim))[:, :, :6]
    n_planned = chunk.actions.shape[1]
    for made, velocity in zip(
        [*chunk.intermediate_plans[0], chunk[0]], [*velocities, velocities[-1]], strict=True
    ):
        in_degrees = setup.policy._postprocessor(torch.from_numpy(x[:, :n_planned])).numpy()[0]
        np.testing.assert_allclose(made, in_degrees, atol=ATOL_DEG)
        x = x + velocity[-x.shape[1] :] / len(velocities)


@each_flow
def test_a_row_of_a_batch_has_the_drafts_that_it_has_alone(policy_type, recording):
    setup = recording(policy_type)
    memories = [look(setup, index) for index in (0, 1)]
    together = setup.policy.predict(
        memories,
        [
            rng(0),
            rng(1),
        ],
    ).intermediate_plans
    for row, memory in enumerate(memories):
        np.testing.assert_allclose(
            together[row],
            setup.policy.predict([memory], [rng(row)]).intermediate_plans[0],
            atol=2e-3,
        )


@each_flow
def test_lerobot_is_as_it_was_even_after_an_error(policy_type, recording, monkeypatch):
    setup = recording(policy_type)
    path, method_name, _ = LEROBOT_TYPES[policy_type].denoising
    module = setup.policy.network.get_submodule(path)
    setup.policy.predict([look(setup)], [rng()])
    assert method_name not in vars(module)

    def fail(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(
        setup.policy.network.get_submodule(LAST_LAYER[policy_type]), "forward", fail
    )
    with pytest.raises(ZeroDivisionError):
        setup.policy.predict([look(setup)], [rng()])
    assert method_name not in vars(module)


def test_the_draft_of_an_ensemble_is_the_chunk_before_it_was_averaged(
    small_act, small_act_ensembling
):
    """The intermediate plan equals the plan of the same weights without an ensemble."""
    plain = set_up(name_policy(make_config(EvalConfig, checkpoint=str(small_act))))
    setup = set_up(
        name_policy(
            make_config(EvalConfig, checkpoint=str(small_act_ensembling), intermediate_plans=True)
        )
    )
    assert (setup.policy.spec.intermediate_plans, plain.policy.spec.intermediate_plans) == (
        "ensemble",
        "none",
    )
    memory = setup.policy.reset()
    quiet = deepcopy(memory)
    for step in range(3):
        setup.env.reset(step)
        for each in (memory, quiet):
            each.observations.append(setup.env.observe())
        setup.policy.records_intermediate_plans = True
        chunk = setup.policy.predict([memory], [rng()])
        setup.policy.records_intermediate_plans = False
        unrecorded = setup.policy.predict([quiet], [rng()])
        assert (
            chunk.intermediate_plans.shape == (1, 1, 10, 6)
            and unrecorded.intermediate_plans is None
        )
        np.testing.assert_array_equal(chunk.actions, unrecorded.actions)
        np.testing.assert_array_equal(
            chunk.intermediate_plans[0, 0], plain.policy.predict([memory], [rng()])[0]
        )
        assert np.array_equal(chunk.intermediate_plans[0, 0], chunk[0]) == (step == 0)
    plain.env.close(), setup.env.close()


def test_drafts_are_adapted_as_plans_are(blind_env):
    """An intermediate plan that equals the plan is adapted to the same values.

    This includes the state and the gripper.
    """

    class WiderPolicy(FakePolicy):
        def predict(self, memories, rngs):
            actions = np.float32(np.random.default_rng(0).normal(0, 1, (len(memories), 4, 7)))
            return ActionChunk(
                actions,
                np.stack([actions, -actions, actions], axis=1),
            )

    wider = WiderPolicy(
        np.zeros((4, 7)),
        image_sizes={},
        state_dim=6,
    )
    adapters = Adapters(
        policy_actions="delta", gripper_range=(0.0, 1.0), gripper_offset=2.0, allow_padding=True
    )
    adapted = AdaptedPolicy(wider, adapters, blind_env.spec)
    memories = []
    for index in (0, 1):
        blind_env.reset(index)
        memories.append(make_memory(blind_env.observe()))
    memories[1].present.state[:] += 5
    chunk = adapted.predict(
        memories,
        [
            rng(),
            rng(),
        ],
    )
    assert chunk.intermediate_plans.shape == (2, 3, 4, 6)
    np.testing.assert_array_equal(chunk.intermediate_plans[:, 0], chunk.actions)
    np.testing.assert_array_equal(chunk.intermediate_plans[:, 2], chunk.actions)
    middle = (chunk.intermediate_plans[:, 0] + chunk.intermediate_plans[:, 1]) / 2
    states = np.stack([m.present.state for m in memories])
    np.testing.assert_allclose(
        middle[..., :5], np.repeat(states[:, None, :5], 4, axis=1), atol=1e-4
    )


def test_a_policy_that_makes_its_plans_from_nothing_is_refused(small_act):
    for config in (
        make_config(EvalConfig, policy="random", intermediate_plans=True),
        make_config(EvalConfig, checkpoint=str(small_act), intermediate_plans=True),
    ):
        with pytest.raises(
            WhiskerError,
            match=r"--intermediate-plans of policy '(random|act)'.*neither.*"
            r"Leave --intermediate-plans out",
        ):
            set_up(name_policy(config))
