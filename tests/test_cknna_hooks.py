"""Tests on every lerobot type that a hook keeps the module's output, pooled as by hand.

All checkpoints are small.
"""

from functools import cache

import numpy as np
import pytest
import torch

from cknna.audit import audit
from cknna.bank_description import EMBEDDING
from cknna.extract import compute_features
from cknna.feature_recording_policy import FeatureRecordingPolicy
from cknna.hooks import FeatureHook
from cknna.pooling import pool_rows
from policies.checkpoint_files import open_checkpoint
from policies.embeddings import EMBEDDING_POINTS
from policies.lerobot_loading import load_lerobot_policy
from policies.lerobot_types import LEROBOT_TYPES
from policies.policy import make_memory
from sim.errors import WhiskerError
from sim.observation import Observation
from tests.small_checkpoints import save_small_checkpoint, shrunken_paligemma

# These many real tokens follow the text: the beginning of the actions, or the state.
N_TOKENS_AFTER_TEXT = {"smolvla": 1, "pi0_fast": 1}
INSTRUCTIONS = ("Go.", "Pick up the block and place it in the bowl.", "Pick it up.")
# Convolutions and products of a batch sum in another order.
ATOL = 1e-5

each_type = pytest.mark.parametrize("policy_type", LEROBOT_TYPES)
each_language_type = pytest.mark.parametrize(
    "policy_type", [name for name, row in LEROBOT_TYPES.items() if row.reads_instruction]
)


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Return a function from a type to a small policy, which is loaded at its first use."""
    folder = tmp_path_factory.mktemp("hooks")

    @cache
    def load(policy_type, **config):
        with shrunken_paligemma():
            checkpoint = save_small_checkpoint(
                policy_type, folder / f"{policy_type}{len(config)}", **config
            )
            return load_lerobot_policy(
                open_checkpoint(policy_type, str(checkpoint), trust_remote_code=True), "cpu"
            )

    return load


def memories(policy, instructions=INSTRUCTIONS):
    rng = np.random.default_rng(0)
    spec = policy.spec

    def look(instruction):
        images = {
            c: rng.integers(
                0,
                256,
                (*size, 3),
                dtype=np.uint8,
            )
            for c, size in spec.image_sizes.items()
        }
        return Observation(
            images,
            rng.normal(0, 15, 6).astype(np.float32),
            instruction,
        )

    return [
        make_memory(*[look(words) for _ in range(spec.n_obs_steps)], n_obs_steps=spec.n_obs_steps)
        for words in instructions
    ]


def rngs(n=3):
    return [np.random.default_rng(i) for i in range(n)]


def copies(of):
    return [memory.copy() for memory in of]


def collecting(policy, *paths, pool=None):
    return FeatureRecordingPolicy(policy, FeatureHook(policy, paths, pool))


def raw_outputs(policy, memory):
    """Return all outputs at the embedding point in one prediction, and the network's batch."""
    outputs = []
    batches = []
    point = EMBEDDING_POINTS[policy.spec.type]
    preprocess = policy._preprocess
    policy._preprocess = lambda observations: (
        batches.append(preprocess(observations)) or dict(batches[-1])
    )
    handles = [
        policy.network.get_submodule(path).register_forward_hook(
            lambda m, a, o: outputs.append(point.take(o).clone())
        )
        for path in point.paths(policy.network.config)
    ]
    try:
        policy.predict([memory.copy()], rngs(1))
    finally:
        del policy._preprocess
        for handle in handles:
            handle.remove()
    return [output.numpy() for output in outputs], batches[-1]


def real_tokens(policy_type, batch, n_tokens):
    """Return a mask `(row, token)` of all tokens but the padding that the tokenizer marks."""
    text = (
        next(value for key, value in batch.items() if key.endswith("attention_mask")).bool().numpy()
    )
    n_after = N_TOKENS_AFTER_TEXT.get(policy_type, 0)
    before = np.ones(
        (len(text), n_tokens - text.shape[1] - n_after),
        bool,
    )
    return np.concatenate(
        [before, text, np.ones((len(text), n_after), bool)],
        axis=1,
    )


def everything_attached(network):
    """Return all hooks, and all methods that are set on single objects.

    transformers attaches some hooks of its own.
    """
    modules = list(network.modules())
    hooks = [(list(module._forward_hooks), list(module._forward_pre_hooks)) for module in modules]
    return hooks, [
        sorted(name for name, value in vars(module).items() if callable(value))
        for module in modules
    ]


@each_type
def test_a_row_is_what_the_module_put_out_pooled_by_hand(policy_type, policies):
    policy = policies(policy_type)
    (memory,) = memories(policy)[1:2]
    outputs, batch = raw_outputs(policy, memory)
    first = outputs[0]
    match EMBEDDING_POINTS[policy_type].layout:
        case "map":
            by_hand = np.concatenate([output.mean(axis=(2, 3)).ravel() for output in outputs])
        case "vector":
            by_hand = np.concatenate([output.ravel() for output in outputs])
        case "tokens":
            mask = real_tokens(policy_type, batch, first.shape[1])[0]
            by_hand = first[0][mask].mean(axis=0)
    row = collecting(policy).predict([memory], rngs(1)).features[EMBEDDING]
    assert row.dtype == np.float32 and row.shape == (1, len(by_hand)) and np.isfinite(row).all()
    np.testing.assert_allclose(row[0], by_hand, atol=ATOL)


@each_type
def test_plans_are_the_same_to_the_last_bit_and_nothing_stays_attached(policy_type, policies):
    policy = policies(policy_type)
    seen = memories(policy)
    before = policy.predict(copies(seen), rngs())
    attached = everything_attached(policy.network)
    collected = collecting(policy)
    assert before.features is None
    np.testing.assert_array_equal(
        before.actions,
        collected.predict(copies(seen), rngs()).actions,
    )
    compute_features(policy, collected.hook, copies(seen))
    audit(policy, collected.hook, "go")
    assert everything_attached(policy.network) == attached
    assert policy.predict(copies(seen), rngs()).features is None


@each_type
def test_a_batch_has_the_rows_of_single_calls_and_so_has_a_pass_that_ends_early(
    policy_type, policies
):
    policy = policies(policy_type)
    # The padding of a batch is longer than that of a single row. Types that attend to padding
    # therefore get the same instruction in every row.
    attends_to_padding = policy_type in ("groot",)
    seen = memories(
        policy,
        INSTRUCTIONS[1:2] * 3 if attends_to_padding else INSTRUCTIONS,
    )
    collected = collecting(policy)
    batch = collected.predict(copies(seen), rngs()).features[EMBEDDING]
    singles = [
        collected.predict([m], [rng]).features[EMBEDDING][0]
        for m, rng in zip(copies(seen), rngs(), strict=True)
    ]
    np.testing.assert_allclose(batch, np.stack(singles), atol=ATOL)
    assert np.abs(batch[0] - batch[1]).max() > 1e-3
    np.testing.assert_array_equal(
        compute_features(policy, collected.hook, copies(seen))[EMBEDDING], batch
    )


@each_type
def test_alternatives_are_not_listened_to(policy_type, policies):
    policy = (
        policies("act", use_vae=True, n_vae_encoder_layers=1)
        if policy_type == "act"
        else policies(policy_type)
    )
    (memory,) = memories(policy)[:1]
    collected = collecting(policy)
    row = collected.predict([memory.copy()], rngs(1)).features[EMBEDDING]
    alternatives = collected.sample(memory.copy(), rngs(3))
    assert alternatives.features is None and len(alternatives.actions) == 3 and len(row) == 1
    np.testing.assert_array_equal(
        alternatives.actions, policy.sample(memory.copy(), rngs(3)).actions
    )


@each_language_type
def test_what_padding_holds_does_not_matter(policy_type, policies):
    """The content of padding must not change the features.

    The test writes NaN over the padding in the module's output.
    """
    policy = policies(policy_type)
    seen = memories(policy, INSTRUCTIONS[:2])
    hook = FeatureHook(policy)
    rows = compute_features(policy, hook, copies(seen))[EMBEDDING]
    point = EMBEDDING_POINTS[policy_type]
    batch = policy._preprocess([memory.present for memory in seen])
    n_spoilt = 0

    def spoil(module, arguments, output):
        nonlocal n_spoilt
        tokens = point.take(output)
        padding = ~torch.from_numpy(real_tokens(policy_type, batch, tokens.shape[1]))
        tokens[padding] = torch.nan
        n_spoilt += int(padding.sum())

    (path,) = point.paths(policy.network.config)
    handle = policy.network.get_submodule(path).register_forward_hook(spoil)
    try:
        np.testing.assert_array_equal(
            compute_features(policy, hook, copies(seen))[EMBEDDING],
            rows,
        )
    finally:
        handle.remove()
    assert n_spoilt > 5


@pytest.mark.parametrize(
    "policy_type",
    ["smolvla", "pi0", "pi05", "pi0_fast"],
)
def test_other_words_in_the_padding_change_nothing(policy_type, policies):
    policy = policies(policy_type)
    seen = memories(policy, INSTRUCTIONS[:2])
    hook = FeatureHook(policy)
    preprocess = policy._preprocess
    rows = compute_features(policy, hook, copies(seen))[EMBEDDING]

    def reword(observations):
        batch = preprocess(observations)
        padding = ~batch["observation.language.attention_mask"].bool()
        assert padding.any()
        batch["observation.language.tokens"] = torch.where(
            padding, 7, batch["observation.language.tokens"]
        )
        return batch

    policy._preprocess = reword
    try:
        np.testing.assert_array_equal(
            compute_features(policy, hook, copies(seen))[EMBEDDING],
            rows,
        )
    finally:
        del policy._preprocess


def test_pi0_fast_keeps_the_prefill_and_no_decoded_token(policies):
    policy = policies("pi0_fast")
    (memory,) = memories(policy)[:1]
    outputs, _ = raw_outputs(policy, memory)
    assert len(outputs) > 1 and outputs[1].shape[1] == 1
    norm = EMBEDDING_POINTS["pi0_fast"].paths(None)[0]
    rows = collecting(policy, norm, pool="last").predict([memory.copy()], rngs(1)).features
    np.testing.assert_allclose(rows[norm][0], outputs[0][0, -1], atol=ATOL)


def test_diffusion_with_an_encoder_a_camera_has_both_side_by_side(policies):
    policy = policies("diffusion", use_separate_rgb_encoder_per_camera=True)
    (memory,) = memories(policy)[:1]
    outputs, _ = raw_outputs(policy, memory)
    row = collecting(policy).predict([memory], rngs(1)).features[EMBEDDING][0]
    np.testing.assert_allclose(
        row, np.concatenate([output.ravel() for output in outputs]), atol=ATOL
    )


def test_points_of_ones_own_layer_by_layer(policies):
    """The embedding determines which outputs of a layer count.

    A layer that fires before the embedding is complete fires once per camera, and all its outputs
    count. Of a layer that fires after it, only the first output counts.
    """
    policy = policies("smolvla")
    vision = "model.vlm_with_expert.vlm.model.vision_model"
    layer = "model.vlm_with_expert.vlm.model.text_model.layers.0.mlp.down_proj"
    expert = "model.vlm_with_expert.lm_expert.layers.0.mlp.down_proj"
    hook = FeatureHook(policy, [vision, layer, expert], "mean")
    assert [(row.n_fired, row.n_used) for row in audit(policy, hook, "go")] == [
        (1, 1),
        (2, 2),
        (1, 1),
        (3, 1),
    ]
    seen = memories(policy, INSTRUCTIONS[:1] * 3)
    outputs = {path: [] for path in (vision, layer, expert)}
    handles = []
    for path, kept in outputs.items():

        def keep(module, arguments, output, kept=kept):
            kept.append((output if isinstance(output, torch.Tensor) else output[0]).clone().numpy())

        handles.append(policy.network.get_submodule(path).register_forward_hook(keep))
    same_noise = [np.random.default_rng(0) for _ in seen]
    rows = FeatureRecordingPolicy(policy, hook).predict(copies(seen), same_noise).features
    for handle in handles:
        handle.remove()
    two_cameras = np.concatenate(
        [output.mean(axis=1) for output in outputs[vision]],
        axis=1,
    )
    np.testing.assert_allclose(rows[vision], two_cameras, atol=ATOL)
    for path in (layer, expert):
        np.testing.assert_allclose(rows[path], outputs[path][0].mean(axis=1), atol=ATOL)
    early = compute_features(policy, hook, copies(seen))
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
    seen = memories(policy, INSTRUCTIONS[:1] * n_rows)
    kept = []
    handle = policy.network.get_submodule(path).register_forward_hook(
        lambda m, a, o: kept.append(o.clone().numpy())
    )
    rows = collecting(policy, path, pool="first").predict(seen, rngs(n_rows)).features[path]
    handle.remove()
    assert kept[0].shape[:2] == (4, n_rows)
    np.testing.assert_array_equal(rows, kept[0][0])


@pytest.mark.parametrize(
    ("policy_type", "path", "pool", "said"),
    [
        ("act", "model.bakbone", None, r"Closest: model\.backbone"),
        ("act", "backbone", None, "got none; 'the network' has model"),
        ("act", "model.backbone", "masked-mean", "expected a policy type that masks tokens"),
        (
            "smolvla",
            "model.vlm_with_expert",
            None,
            r"calls it as `\.forward\(\)`.* Near it, these are: model\.",
        ),
        (
            "smolvla",
            "model.vlm_with_expert.vlm.model.text_model.layers",
            None,
            "ModuleList, which is never called",
        ),
        ("smolvla", "model.vlm_with_expert.vlm.lm_head", None, "it has no part in a prediction"),
        (
            "smolvla",
            "model.vlm_with_expert.lm_expert.norm",
            "masked-mean",
            "expected a mask of the tokens",
        ),
        ("pi0_fast", "model.paligemma_with_expert", None, "calls it as"),
    ],
)
def test_a_hook_point_that_cannot_be_is_one_clear_error(policy_type, path, pool, said, policies):
    with pytest.raises(WhiskerError, match=said):
        audit(
            policies(policy_type),
            FeatureHook(policies(policy_type), [path], pool),
            "go",
        )


@each_type
def test_the_audit_says_what_is_hooked(policy_type, policies):
    policy = policies(policy_type)
    point = EMBEDDING_POINTS[policy_type]
    (row,) = audit(policy, FeatureHook(policy), "Pick it up.")
    assert row.paths == point.paths(policy.network.config) and row.mask == point.mask
    assert (
        row.n_fired >= row.n_used >= 1
        and len(row.output_shape)
        == {
            "map": 4,
            "tokens": 3,
            "vector": 2,
        }[point.layout]
    )
    assert row.pooling == point.pooling and row.meaning and row.source
    assert collecting(policy).predict(memories(policy)[:1], rngs(1)).features[EMBEDDING].shape == (
        1,
        row.dim,
    )


def test_tokens_are_pooled_as_asked():
    tokens = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[False, True, True, False], [True, True, True, True]])
    for pool, by_hand in {
        "mean": tokens.mean(dim=1),
        "masked-mean": torch.stack(
            [
                tokens[0, 1:3].mean(dim=0),
                tokens[1].mean(dim=0),
            ]
        ),
        "first": torch.stack([tokens[0, 1], tokens[1, 0]]),
        "last": torch.stack([tokens[0, 2], tokens[1, 3]]),
    }.items():
        torch.testing.assert_close(
            pool_rows(tokens, 2, pool, mask),
            by_hand,
        )
    torch.testing.assert_close(pool_rows(tokens, 2, "last"), tokens[:, 3])
    # The sums of bfloat16 values are in float32.
    assert pool_rows(tokens.bfloat16(), 2, "mean").dtype == torch.float32


def test_several_parts_of_a_row_stand_side_by_side():
    vectors = torch.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(pool_rows(vectors, 2, "mean"), vectors.reshape(2, 6))
    np.testing.assert_array_equal(
        pool_rows(vectors, 2, "mean", cameras_first=True),
        torch.cat([vectors[:2], vectors[2:]], dim=1),
    )
    maps = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(pool_rows(maps, 2, "mean"), maps.flatten(2).mean(dim=2))
    for bad in (torch.zeros(3, 2), torch.zeros(2), torch.zeros(2, 1, 1, 1, 1)):
        with pytest.raises(WhiskerError, match="output at a hook point"):
            pool_rows(bad, 2, "mean")
