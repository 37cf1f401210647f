"""Tests on every lerobot type that a hook keeps the module's output, pooled as by hand.

All checkpoints are small.
"""

from contextlib import ExitStack, contextmanager
from functools import cache
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from cknna.audit import audit
from cknna.bank_description import EMBEDDING
from cknna.feature_recording_policy import FeatureRecordingPolicy
from cknna.feature_work import compute_features
from cknna.hooks import FeatureHook
from cknna.pooling import pool_rows
from policies.checkpoint_files import open_checkpoint
from policies.embeddings import EMBEDDING_POINTS
from policies.lerobot_loading import load_lerobot_policy
from policies.lerobot_types import LEROBOT_TYPES
from sim.errors import WhiskerError
from tests.observations import make_random_memories
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma

# These many real tokens follow the text: the beginning of the actions, or the state.
N_TOKENS_AFTER_TEXT = {"smolvla": 1, "pi0_fast": 1}
# The prompt of a small EVO1 before the instruction, with one letter a token. There is no third
# camera, so the image of that view (#) is masked.
EVO1_VIEWS = "Image-1: <oooo>\nImage-2: <oooo>\nImage-3: <####>\n"
INSTRUCTIONS = ("Go.", "Pick up the block and place it in the bowl.", "Pick it up.")
VLM = "model.vlm_with_expert"
TEXT_MODEL = f"{VLM}.vlm.model.text_model"
# Convolutions and products of a batch sum in another order.
ATOL = 1e-5

each_type = pytest.mark.parametrize(
    "policy_type",
    LEROBOT_TYPES,
)
each_type_of_tokens = pytest.mark.parametrize(
    "policy_type", [name for name in LEROBOT_TYPES if EMBEDDING_POINTS[name].layout == "tokens"]
)


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Return a function from a type to a small policy, which is loaded at its first use."""
    folder = tmp_path_factory.mktemp("hooks")

    @cache
    def load(policy_type, **config):
        path = folder / f"{policy_type}{len(config)}"
        with shrunken_paligemma():
            save_small_checkpoint(policy_type, path, **config)
            checkpoint = open_checkpoint(policy_type, str(path), trust_remote_code=True)
            return load_lerobot_policy(checkpoint, "cpu")

    return load


def rngs(n):
    return [np.random.default_rng(i) for i in range(n)]


def copies(memories):
    return [memory.copy() for memory in memories]


def predict(policy, memories):
    return policy.predict(copies(memories), rngs(len(memories)))


def collecting(policy, *paths, pool=None):
    return FeatureRecordingPolicy(
        policy,
        FeatureHook(policy, paths, pool),
    )


def embed(policy, memories):
    return compute_features(policy, FeatureHook(policy), copies(memories))[EMBEDDING]


@contextmanager
def captured_outputs(policy, *paths, take=lambda output: output):
    """Yield a list to which the outputs of those modules are added, one at each call."""
    outputs = []

    def capture(module, arguments, output):
        outputs.append(take(output).clone().numpy())

    with ExitStack() as hooks:
        for path in paths:
            module = policy.network.get_submodule(path)
            hooks.enter_context(module.register_forward_hook(capture))
        yield outputs


def raw_outputs(policy, memory):
    """Return all outputs at the embedding point in one prediction."""
    point = EMBEDDING_POINTS[policy.spec.type]
    paths = point.paths(policy.network)
    with captured_outputs(policy, *paths, take=point.take) as outputs:
        predict(policy, [memory])
    return outputs


def real_tokens(policy, memories, n_tokens):
    """Return a mask `(row, token)` of all tokens but the padding that the tokenizer marks.

    VLA-JEPA writes the tokens that count itself, into the prompt. They are followed by a full stop.
    """
    if policy.spec.type == "evo1":
        return real_tokens_of_evo1(memories, n_tokens)
    batch = policy._preprocess([memory.present for memory in memories])
    if policy.spec.type == "vla_jepa":
        n_embodied = policy.network.config.num_embodied_action_tokens_per_instruction
        positions = torch.arange(n_tokens) - (n_tokens - n_embodied - len("."))
        is_embodied = (positions >= 0) & (positions < n_embodied)
        return is_embodied.expand(len(memories), n_tokens).numpy()
    (key,) = (key for key in batch if key.endswith("attention_mask"))
    text = batch[key].bool().numpy()
    if policy.spec.type == "eo1":
        return text[:, :n_tokens]  # the actions are in the text, after the prefix
    n_after = N_TOKENS_AFTER_TEXT.get(policy.spec.type, 0)
    n_before = n_tokens - text.shape[1] - n_after
    return np.pad(text, ((0, 0), (n_before, n_after)), constant_values=True)


def real_tokens_of_evo1(memories, n_tokens):
    """Return the mask for EVO1, which has no tokens before its network."""
    mask = np.zeros((len(memories), n_tokens), bool)
    for row, memory in zip(mask, memories, strict=True):
        prompt = EVO1_VIEWS + memory.present.instruction
        row[: len(prompt)] = [token != "#" for token in prompt]
    return mask


def everything_attached(network):
    """Return all hooks, and all methods that are set on single objects.

    transformers attaches some hooks of its own.
    """
    attached = []
    for module in network.modules():
        set_here = sorted(name for name, value in vars(module).items() if callable(value))
        attached += list(module._forward_hooks), list(module._forward_pre_hooks), set_here
    return attached


@each_type
def test_a_row_is_what_the_module_put_out_pooled_by_hand(policy_type, policies):
    policy = policies(policy_type)
    memories = make_random_memories(policy.spec, INSTRUCTIONS[1:2])
    outputs = raw_outputs(policy, *memories)
    match EMBEDDING_POINTS[policy_type].layout:
        case "map":
            by_hand = np.concatenate([output.mean(axis=(2, 3)).ravel() for output in outputs])
        case "vector":
            by_hand = np.concatenate([output.ravel() for output in outputs])
        case "tokens":
            (tokens,) = outputs[0]
            (mask,) = real_tokens(policy, memories, len(tokens))
            by_hand = tokens[mask].mean(axis=0)
    (row,) = predict(collecting(policy), memories).features[EMBEDDING]
    assert row.dtype == np.float32 and np.isfinite(row).all()
    np.testing.assert_allclose(row, by_hand, atol=ATOL)


@each_type
def test_plans_are_the_same_to_the_last_bit_and_nothing_stays_attached(policy_type, policies):
    policy = policies(policy_type)
    memories = make_random_memories(policy.spec, INSTRUCTIONS)
    before = predict(policy, memories)
    attached = everything_attached(policy.network)
    collected = collecting(policy)
    assert before.features is None
    np.testing.assert_array_equal(
        before.actions,
        predict(collected, memories).actions,
    )
    embed(policy, memories)
    audit(policy, collected.hook, "go")
    assert everything_attached(policy.network) == attached
    assert predict(policy, memories).features is None


@each_type
def test_a_batch_has_the_rows_of_single_calls_and_so_has_a_pass_that_ends_early(
    policy_type, policies
):
    policy = policies(policy_type)
    # The padding of a batch is longer than that of a single row. Types that attend to padding
    # therefore get the same instruction in every row.
    instructions = INSTRUCTIONS[1:2] * 3 if policy_type == "groot" else INSTRUCTIONS
    memories = make_random_memories(policy.spec, instructions)
    collected = collecting(policy)
    batch = predict(collected, memories).features[EMBEDDING]
    for row, memory, rng in zip(
        batch,
        copies(memories),
        rngs(3),
        strict=True,
    ):
        (single,) = collected.predict([memory], [rng]).features[EMBEDDING]
        np.testing.assert_allclose(row, single, atol=ATOL)
    assert np.abs(batch[0] - batch[1]).max() > 1e-3
    np.testing.assert_array_equal(embed(policy, memories), batch)


@each_type
def test_alternatives_are_not_listened_to(policy_type, policies):
    config = (
        {
            "use_vae": True,
            "n_vae_encoder_layers": 1,
        }
        if policy_type == "act"
        else {}
    )
    policy = policies(policy_type, **config)
    (memory,) = make_random_memories(policy.spec, INSTRUCTIONS[:1])
    collected = collecting(policy)
    assert len(predict(collected, [memory]).features[EMBEDDING]) == 1
    alternatives = collected.sample(memory.copy(), rngs(3))
    assert alternatives.features is None and len(alternatives.actions) == 3
    without = policy.sample(memory.copy(), rngs(3))
    np.testing.assert_array_equal(alternatives.actions, without.actions)


@each_type_of_tokens
def test_what_padding_holds_does_not_matter(policy_type, policies):
    """The content of padding must not change the features.

    The test writes NaN over the padding in the module's output.
    """
    policy = policies(policy_type)
    memories = make_random_memories(policy.spec, INSTRUCTIONS[:2])
    rows = embed(policy, memories)
    point = EMBEDDING_POINTS[policy_type]
    n_spoilt = 0

    def spoil(module, arguments, output):
        nonlocal n_spoilt
        tokens = point.take(output)
        padding = ~real_tokens(policy, memories, tokens.shape[1])
        tokens[padding] = torch.nan
        n_spoilt += padding.sum()

    (path,) = point.paths(policy.network)
    with policy.network.get_submodule(path).register_forward_hook(spoil):
        np.testing.assert_array_equal(embed(policy, memories), rows)
    assert n_spoilt > 5


@pytest.mark.parametrize(
    "policy_type",
    ["smolvla", "pi0", "pi05", "pi0_fast"],
)
def test_other_words_in_the_padding_change_nothing(policy_type, policies, monkeypatch):
    policy = policies(policy_type)
    memories = make_random_memories(policy.spec, INSTRUCTIONS[:2])
    preprocess = policy._preprocess
    rows = embed(policy, memories)

    def reword(observations):
        batch = preprocess(observations)
        padding = ~batch["observation.language.attention_mask"].bool()
        assert padding.any()
        batch["observation.language.tokens"][padding] = 7
        return batch

    monkeypatch.setattr(policy, "_preprocess", reword)
    np.testing.assert_array_equal(embed(policy, memories), rows)


def test_pi0_fast_keeps_the_prefill_and_no_decoded_token(policies):
    policy = policies("pi0_fast")
    (memory,) = make_random_memories(policy.spec, INSTRUCTIONS[:1])
    prefill, decoded, *_ = raw_outputs(policy, memory)
    assert decoded.shape[1] == 1
    (norm,) = EMBEDDING_POINTS["pi0_fast"].paths(None)
    (row,) = predict(
        collecting(policy, norm, pool="last"),
        [memory],
    ).features[norm]
    np.testing.assert_allclose(row, prefill[0, -1], atol=ATOL)


def test_vla_jepa_has_the_tokens_that_its_action_head_is_given(policies, monkeypatch):
    policy = policies("vla_jepa")
    head = policy.network.model.action_model
    predict_action = Mock(side_effect=head.predict_action)
    monkeypatch.setattr(head, "predict_action", predict_action)
    rows = predict(
        collecting(policy),
        make_random_memories(policy.spec, INSTRUCTIONS),
    ).features[EMBEDDING]
    ((tokens, _), _) = predict_action.call_args
    np.testing.assert_allclose(rows, tokens.mean(dim=1), atol=ATOL)


def test_diffusion_with_an_encoder_a_camera_has_both_side_by_side(policies):
    policy = policies("diffusion", use_separate_rgb_encoder_per_camera=True)
    (memory,) = make_random_memories(policy.spec, INSTRUCTIONS[:1])
    by_hand = np.concatenate(raw_outputs(policy, memory), axis=None)
    (row,) = predict(collecting(policy), [memory]).features[EMBEDDING]
    np.testing.assert_allclose(row, by_hand, atol=ATOL)


def test_points_of_ones_own_layer_by_layer(policies):
    """The embedding determines which outputs of a layer count.

    A layer that fires before the embedding is complete fires once per camera, and all its outputs
    count. Of a layer that fires after it, only the first output counts.
    """
    policy = policies("smolvla")
    vision = f"{VLM}.vlm.model.vision_model"
    layer = f"{TEXT_MODEL}.layers.0.mlp.down_proj"
    expert = f"{VLM}.lm_expert.layers.0.mlp.down_proj"
    hook = FeatureHook(policy, [vision, layer, expert], "mean")
    fired_and_used = [(row.n_fired, row.n_used) for row in audit(policy, hook, "go")]
    assert fired_and_used == [
        (1, 1),
        (2, 2),
        (1, 1),
        (3, 1),
    ]
    memories = make_random_memories(policy.spec, INSTRUCTIONS[:1] * 3)
    with (
        captured_outputs(policy, vision, take=lambda output: output[0]) as of_vision,
        captured_outputs(policy, layer) as of_layer,
        captured_outputs(policy, expert) as of_expert,
    ):
        same_noise = [np.random.default_rng(0) for _ in memories]
        recording = FeatureRecordingPolicy(policy, hook)
        rows = recording.predict(copies(memories), same_noise).features
    two_cameras = np.concatenate(
        [output.mean(axis=1) for output in of_vision],
        axis=1,
    )
    np.testing.assert_allclose(rows[vision], two_cameras, atol=ATOL)
    np.testing.assert_allclose(rows[layer], of_layer[0].mean(axis=1), atol=ATOL)
    np.testing.assert_allclose(rows[expert], of_expert[0].mean(axis=1), atol=ATOL)
    early = compute_features(policy, hook, copies(memories))
    for path, expected in rows.items():
        np.testing.assert_allclose(early[path], expected, atol=ATOL)


@pytest.mark.parametrize(
    "n_rows",
    [1, 3, 4],
)
def test_act_has_its_tokens_first(n_rows, policies):
    """The tokens are the first dimension of ACT's output.

    ACT has four tokens, so a batch of four could be taken for tokens.
    """
    policy = policies("act")
    path = "model.encoder.layers.0"
    memories = make_random_memories(policy.spec, INSTRUCTIONS[:1] * n_rows)
    with captured_outputs(policy, path) as outputs:
        rows = predict(
            collecting(policy, path, pool="first"),
            memories,
        ).features[path]
    assert outputs[0].shape[:2] == (4, n_rows)
    np.testing.assert_array_equal(rows, outputs[0][0])


@pytest.mark.parametrize(
    ("policy_type", "path", "pool", "said"),
    [
        ("act", "model.bakbone", None, r"Closest: model\.backbone"),
        ("act", "backbone", None, "got none; 'the network' has model"),
        ("act", "model.backbone", "masked-mean", "expected a policy type that masks tokens"),
        ("smolvla", VLM, None, r"calls it as `\.forward\(\)`.* Near it, these are: model\."),
        ("smolvla", f"{TEXT_MODEL}.layers", None, "ModuleList, which is never called"),
        ("smolvla", f"{VLM}.vlm.lm_head", None, "it has no part in a prediction"),
        ("smolvla", f"{VLM}.lm_expert.norm", "masked-mean", "expected a mask of the tokens"),
        ("pi0_fast", "model.paligemma_with_expert", None, "calls it as"),
    ],
)
def test_a_hook_point_that_cannot_be_is_one_clear_error(policy_type, path, pool, said, policies):
    policy = policies(policy_type)
    with pytest.raises(WhiskerError, match=said):
        audit(
            policy,
            FeatureHook(policy, [path], pool),
            "go",
        )


@each_type
def test_the_audit_says_what_is_hooked(policy_type, policies):
    policy = policies(policy_type)
    point = EMBEDDING_POINTS[policy_type]
    (row,) = audit(policy, FeatureHook(policy), "Pick it up.")
    n_axes = {
        "map": 4,
        "tokens": 3,
        "vector": 2,
    }[point.layout]
    assert row.paths == point.paths(policy.network)
    assert row.n_fired >= row.n_used >= 1 and len(row.output_shape) == n_axes
    assert (row.mask, row.pooling) == (point.mask, point.pooling) and row.meaning and row.source
    memories = make_random_memories(policy.spec, INSTRUCTIONS[:1])
    assert predict(collecting(policy), memories).features[EMBEDDING].shape == (1, row.dim)


def test_tokens_are_pooled_as_asked():
    tokens = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[False, True, True, False], [True, True, True, True]])
    by_hand = {
        "mean": (tokens[0].mean(dim=0), tokens[1].mean(dim=0)),
        "masked-mean": (tokens[0, 1:3].mean(dim=0), tokens[1].mean(dim=0)),
        "first": (tokens[0, 1], tokens[1, 0]),
        "last": (tokens[0, 2], tokens[1, 3]),
    }
    for pool, rows in by_hand.items():
        torch.testing.assert_close(
            pool_rows(tokens, 2, pool, mask),
            torch.stack(rows),
        )
    torch.testing.assert_close(pool_rows(tokens, 2, "last"), tokens[:, 3])
    # The sums of bfloat16 values are in float32.
    assert pool_rows(tokens.bfloat16(), 2, "mean").dtype == torch.float32


def test_several_parts_of_a_row_stand_side_by_side():
    vectors = torch.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(pool_rows(vectors, 2, "mean"), vectors.reshape(2, 6))
    np.testing.assert_array_equal(
        pool_rows(
            vectors,
            2,
            "mean",
            cameras_first=True,
        ),
        torch.cat([vectors[:2], vectors[2:]], dim=1),
    )
    maps = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(pool_rows(maps, 2, "mean"), maps.flatten(2).mean(dim=2))
    for bad in (torch.zeros(3, 2), torch.zeros(2), torch.zeros(2, 1, 1, 1, 1)):
        with pytest.raises(WhiskerError, match="output at a hook point"):
            pool_rows(bad, 2, "mean")
