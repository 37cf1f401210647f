"""Tests that prompts of one length are the same prompts, on small checkpoints."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cknna.bank_description import EMBEDDING
from cknna.feature_recording_policy import FeatureRecordingPolicy
from cknna.hooks import FeatureHook
from policies.checkpoint_files import open_checkpoint
from policies.lerobot_loading import load_lerobot_policy
from policies.vla_jepa_prompts import MAX_INSTRUCTION_TOKENS
from sim.errors import WhiskerError
from tests.observations import make_random_memories
from tests.small_checkpoints import save_small_checkpoint

# The network computes in bfloat16. A number that rounds the other way moves a plan by 0.01 degrees.
PLAN_ATOL_DEG = 0.05
FEATURE_ATOL = 0.02
# The small tokenizer has a token for each of their bytes.
INSTRUCTIONS = ("Go.", "Pick up the block and place it in the bowl.", "x" * MAX_INSTRUCTION_TOKENS)

pytestmark = pytest.mark.usefixtures("no_network", "one_thread")


@pytest.fixture(params=["left", "right"])
def policy(request, tmp_path):
    """Return a policy whose own padding is on that side."""
    folder = save_small_checkpoint(
        "vla_jepa", tmp_path / "vla_jepa", tokenizer_padding_side=request.param
    )
    return load_lerobot_policy(open_checkpoint(None, str(folder)), "cpu")


def predict(policy, memories):
    """Return the plans, the features, and the shape of the prompts of each forward pass."""
    shapes = []
    language_model = policy.network.model.qwen.model.model.language_model

    def note(module, arguments, named):
        shapes.append(tuple(named["inputs_embeds"].shape[:2]))

    recording = FeatureRecordingPolicy(policy, FeatureHook(policy))
    with language_model.register_forward_pre_hook(note, with_kwargs=True):
        rngs = [np.random.default_rng(row) for row in range(len(memories))]
        chunk = recording.predict([memory.copy() for memory in memories], rngs)
    return chunk.actions, chunk.features[EMBEDDING], shapes


def test_padded_prompts_have_one_length_and_give_the_same_plans_and_features(policy):
    memories = make_random_memories(policy.spec, INSTRUCTIONS)
    plain = [predict(policy, [memory]) for memory in memories]
    assert len({shape for *_, shapes in plain for shape in shapes}) == len(INSTRUCTIONS)
    policy.pad_instructions()
    for memory, (plan, features, _) in zip(memories, plain, strict=True):
        padded_plan, padded_features, shapes = predict(policy, [memory])
        # That of the longest instruction, which has no padding even then.
        assert shapes == plain[-1][-1]
        assert_allclose(padded_plan, plan, rtol=0, atol=PLAN_ATOL_DEG)
        assert_allclose(padded_features, features, rtol=0, atol=FEATURE_ATOL)
    policy.pad_instructions(False)
    for memory, (plan, _, shapes) in zip(memories, plain, strict=True):
        again, _, shapes_again = predict(policy, [memory])
        assert shapes_again == shapes
        assert_array_equal(again, plan)
    plans = np.concatenate([plan for plan, *_ in plain])
    assert np.ptp(plans, axis=0).max() > 10 * PLAN_ATOL_DEG, "they are different episodes"


def test_an_instruction_of_more_tokens_is_one_clear_error(policy):
    (memory,) = make_random_memories(policy.spec, [INSTRUCTIONS[-1] + "x"])
    assert np.isfinite(predict(policy, [memory])[0]).all()
    policy.pad_instructions()
    with pytest.raises(WhiskerError, match=r"at most 96 tokens .*got about 97"):
        predict(policy, [memory])
