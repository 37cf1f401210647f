"""The table of condition embeddings: for each policy type, the module that computes it.

The condition embedding is the network's representation of the observation before it plans. A
forward hook on the row's `paths` captures it during the policy's own forward pass. Modules that
lerobot calls as `.forward()` never fire a hook (smolvla's `vlm_with_expert` and `text_model`, the
Pi family's `paligemma_with_expert` and `language_model`, xvla's `model`, groot's `_groot_model` and
`action_head`); the modules of this table are called as modules. All rows are of lerobot 0.6.1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, Literal

type Layout = Literal["map", "tokens", "vector"]


@dataclass(frozen=True)
class TokenMask:
    """Names a method of lerobot whose arguments or result contain the mask of non-padding tokens.

    Attributes:
        path: submodule name of the object that has the method; "" is the policy itself.
        method: name of the method, which is called once before the embedding is computed.
        take: returns the mask `(B, tokens)` from the method's arguments, by name, and its result.
        of_last_tokens: the mask covers only the last tokens; all tokens before them are real.
        goes_on: the mask also covers tokens after those of the embedding.
        only_token: returns the id of the only token that counts, given the network. What `take`
            returns are then token ids. None: it returns a mask.
    """

    path: str
    method: str
    take: Callable[[Mapping[str, Any], Any], Any]
    of_last_tokens: bool = False
    goes_on: bool = False
    only_token: Callable[[Any], int] | None = None


@dataclass(frozen=True)
class EmbeddingPoint:
    """Describes the condition embedding of one policy type.

    Attributes:
        paths: returns the submodule names for `get_submodule`, given the network: a single name, or
            one per camera.
        layout: of the tensor: "map" `(B, channels, h, w)`, "tokens" `(B, tokens, D)`, "vector"
            `(B, D)`, where B may be a batch times observation steps times cameras.
        pooling: the operation that reduces it to one vector.
        source: the method in lerobot that calls the module.
        meaning: the inputs that the embedding depends on.
        fires: returns the number of calls of all paths together in the prediction of a chunk, given
            the config. None: the module is called once for the prefill, which gives the embedding,
            and then once per decoded token.
        take: returns the tensor from the module's output.
        mask: where lerobot keeps the mask of padding tokens; "" if there is no padding.
        token_mask: the method from which a hook gets the mask.
        cameras_first: B lists all rows of one camera before the next camera; otherwise it lists all
            cameras of one row before the next row.
        batched: one forward pass covers a whole batch; otherwise every row has its own.
    """

    paths: Callable[[Any], tuple[str, ...]]
    layout: Layout
    pooling: str
    source: str
    meaning: str
    fires: Callable[[Any], int] | None = lambda config: 1
    take: Callable[[Any], Any] = lambda output: output
    mask: str = ""
    token_mask: TokenMask | None = None
    cameras_first: bool = False
    batched: bool = True


# The outputs of modules below these have the tokens first: (tokens, B, D).
TOKENS_FIRST: dict[str, tuple[str, ...]] = {"act": ("model.encoder", "model.decoder")}


def _always(path: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda network: (path,)


def _diffusion_encoders(config: Any) -> tuple[str, ...]:
    if not config.use_separate_rgb_encoder_per_camera:
        return ("diffusion.rgb_encoder",)
    # The ModuleList itself is never called.
    return tuple(f"diffusion.rgb_encoder.{i}" for i in range(len(config.image_features)))


def _clip_encoders(config: Any) -> tuple[str, ...]:
    encoders = "observation_encoder.vision_encoder"
    if not config.use_separate_rgb_encoder_per_camera:
        return (encoders,)
    return tuple(f"{encoders}s.{i}" for i in range(len(config.image_features)))


def _last_qwen_layer(network: Any) -> tuple[str, ...]:
    # The actions see its output before the final norm.
    layers = "model.qwen.model.model.language_model.layers"
    return (f"{layers}.{len(network.get_submodule(layers)) - 1}",)


_SPACE = "mean over space, cameras concatenated"
_CONCATENATED = "observation steps and cameras concatenated"
_TOKENS = "mean over the tokens that are not padding"
_IMAGES = "camera images"
_IMAGES_TEXT = "camera images and instruction"
_IMAGES_TEXT_STATE = "camera images, instruction and state"
_EMBED_PREFIX = TokenMask("model", "embed_prefix", lambda arguments, result: result[1])
_FIRST = itemgetter(0)
_PALIGEMMA = "model.paligemma_with_expert.paligemma.model.language_model.norm"

EMBEDDING_POINTS: dict[str, EmbeddingPoint] = {
    "act": EmbeddingPoint(
        paths=_always("model.backbone"),
        fires=lambda config: len(config.image_features),
        take=itemgetter("feature_map"),
        layout="map",
        pooling=_SPACE,
        source="act/modeling_act.py, ACT.forward",
        meaning=_IMAGES,
    ),
    "diffusion": EmbeddingPoint(
        paths=lambda network: _diffusion_encoders(network.config),
        fires=lambda config: len(_diffusion_encoders(config)),
        layout="vector",
        pooling=_CONCATENATED,
        source="diffusion/modeling_diffusion.py, DiffusionModel._prepare_global_conditioning",
        meaning=_IMAGES,
    ),
    "multi_task_dit": EmbeddingPoint(
        paths=lambda network: _clip_encoders(network.config),
        fires=lambda config: len(_clip_encoders(config)),
        layout="map",
        pooling=_CONCATENATED,
        source="multi_task_dit/modeling_multi_task_dit.py, ObservationEncoder.encode",
        meaning=_IMAGES,
    ),
    "vqbet": EmbeddingPoint(
        paths=_always("vqbet.rgb_encoder"),
        layout="vector",
        pooling=_CONCATENATED,
        source="vqbet/modeling_vqbet.py, VQBeTModel.forward",
        meaning=_IMAGES,
    ),
    "tdmpc": EmbeddingPoint(
        paths=_always("model._encoder.image_enc_layers"),
        layout="vector",
        pooling="none",
        source="tdmpc/modeling_tdmpc.py, TDMPCObservationEncoder.forward",
        meaning=_IMAGES,
        batched=False,
    ),
    "gaussian_actor": EmbeddingPoint(
        paths=_always("actor.encoder.image_encoder"),
        layout="map",
        pooling=_SPACE,
        source=(
            "gaussian_actor/modeling_gaussian_actor.py, "
            "GaussianActorObservationEncoder.get_cached_image_features"
        ),
        meaning=_IMAGES,
        cameras_first=True,
    ),
    "smolvla": EmbeddingPoint(
        paths=_always("model.vlm_with_expert.vlm.model.text_model.norm"),
        layout="tokens",
        pooling=_TOKENS,
        mask="second result of model.embed_prefix; the last token is the state's",
        source="smolvla/smolvlm_with_expert.py, SmolVLMWithExpertModel.forward: the prefill",
        meaning=_IMAGES_TEXT_STATE,
        token_mask=_EMBED_PREFIX,
    ),
    "pi0": EmbeddingPoint(
        paths=_always(_PALIGEMMA),
        take=_FIRST,
        layout="tokens",
        pooling=_TOKENS,
        mask="second result of model.embed_prefix; no token holds the state",
        source="pi0/modeling_pi0.py, PaliGemmaWithExpertModel.forward: the prefill",
        meaning=_IMAGES_TEXT,
        token_mask=_EMBED_PREFIX,
    ),
    "pi05": EmbeddingPoint(
        paths=_always(_PALIGEMMA),
        take=_FIRST,
        layout="tokens",
        pooling=_TOKENS,
        mask="second result of model.embed_prefix; the state is in the text",
        source="pi05/modeling_pi05.py, PaliGemmaWithExpertModel.forward: the prefill",
        meaning=_IMAGES_TEXT_STATE,
        token_mask=_EMBED_PREFIX,
    ),
    "pi0_fast": EmbeddingPoint(
        paths=_always(_PALIGEMMA),
        fires=None,
        take=_FIRST,
        layout="tokens",
        pooling=_TOKENS,
        mask="second result of model.embed_prefix_fast; the state is in the text",
        source=(
            "pi0_fast/modeling_pi0_fast.py, "
            "PI0FastPytorch.sample_actions_fast_kv_cache: the prefill"
        ),
        meaning=_IMAGES_TEXT_STATE,
        token_mask=replace(_EMBED_PREFIX, method="embed_prefix_fast"),
    ),
    "xvla": EmbeddingPoint(
        paths=_always("model.vlm.language_model.encoder"),
        take=lambda output: output.last_hidden_state,
        layout="tokens",
        pooling=_TOKENS,
        mask="ones for the images, then observation.language.attention_mask",
        source="xvla/modeling_xvla.py, XVLAModel.forward_vlm",
        meaning="images of the first camera, and the instruction",
        token_mask=TokenMask(
            "",
            "_build_model_inputs",
            lambda arguments, result: arguments["batch"]["observation.language.attention_mask"],
            of_last_tokens=True,
        ),
    ),
    "groot": EmbeddingPoint(
        paths=_always("_groot_model.action_head.vl_self_attention"),
        layout="tokens",
        pooling=_TOKENS,
        mask="backbone_attention_mask of _groot_model.backbone",
        source="groot/groot_n1_7.py, the action head's process_backbone_output",
        meaning=_IMAGES_TEXT,
        token_mask=TokenMask(
            "_groot_model.backbone",
            "forward",
            lambda arguments, result: result["backbone_attention_mask"],
        ),
    ),
    "eo1": EmbeddingPoint(
        paths=_always("model.vlm_backbone.model.language_model.norm"),
        fires=None,
        layout="tokens",
        pooling=_TOKENS,
        mask="attention_mask of the processor; one token holds the state",
        source="eo1/modeling_eo1.py, EO1VisionFlowMatchingModel.sample_actions: the prefill",
        meaning=_IMAGES_TEXT_STATE,
        token_mask=TokenMask(
            "model.vlm_backbone.model",
            "get_rope_index",
            lambda arguments, result: arguments["attention_mask"],
            goes_on=True,
        ),
    ),
    "evo1": EmbeddingPoint(
        # What it returns is the last of the hidden states, which the action head attends to.
        paths=_always("model.embedder.model.language_model.norm"),
        layout="tokens",
        pooling=_TOKENS,
        mask="result of model.embedder._mask_absent_image_tokens; no token holds the state",
        source="evo1/internvl3_embedder.py, InternVL3Embedder._forward_vlm",
        meaning=_IMAGES_TEXT,
        token_mask=TokenMask(
            "model.embedder",
            "_mask_absent_image_tokens",
            lambda arguments, result: result,
        ),
    ),
    "vla_jepa": EmbeddingPoint(
        paths=_last_qwen_layer,
        layout="tokens",
        pooling="mean over the embodied action tokens",
        mask="the embodied action tokens: the actions see no others",
        source="vla_jepa/modeling_vla_jepa.py, VLAJEPAModel._encode_qwen",
        meaning=_IMAGES_TEXT,
        token_mask=TokenMask(
            "model.qwen",
            "build_inputs",
            lambda arguments, result: result["input_ids"],
            only_token=lambda network: network.model.embodied_action_token_id,
        ),
    ),
    "open_pi_zero": EmbeddingPoint(
        # Its prefix has no final norm, and its last layer gives keys and values only. This is what
        # the actions see last of it: the normalised input of that layer.
        paths=lambda network: (f"prefix.layers.{network.config.n_layers - 1}.input_layernorm",),
        layout="tokens",
        pooling=_TOKENS,
        mask="second result of embed_prefix; no token holds the state",
        source="policies/native/pi_zero_network.py, PiZeroNetwork.forward: the prefix",
        meaning=_IMAGES_TEXT,
        token_mask=replace(_EMBED_PREFIX, path=""),
    ),
    "spatialvla": EmbeddingPoint(
        paths=_always("language_model.model.norm"),
        fires=None,
        layout="tokens",
        pooling="mean over the tokens",
        source="policies/native/spatial_vla_network.py, SpatialVlaNetwork.forward: the prefill",
        meaning=_IMAGES_TEXT,
        batched=False,
    ),
}
