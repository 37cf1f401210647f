"""Makes tokenizers, processors and base models for small checkpoints, without network access.

The checkpoints keep them beside their weights.
"""

import json

VLM_IMAGE_PX = 32  # image size of a small vision tower
VLM_PATCH_PX = 8
GROOT_IMAGE_PX = 64  # gives two by two tokens: Qwen3-VL merges four patches of 16 px
PALIGEMMA_VOCAB_SIZE = 260  # the bytes, <pad>, <eos>, <bos> and <image>

FAST_PROCESSOR_CODE = (
    '"""What lerobot reads of a FAST action tokenizer: a token is one character, '
    'its number a DCT coefficient."""\n'
    """
from transformers import ProcessorMixin


class SmallFastProcessor(ProcessorMixin):
    def __init__(self, bpe_tokenizer, scale=10, min_token=0):
        self.scale = scale
        self.min_token = min_token
        super().__init__(bpe_tokenizer)
"""
)

N_EO1_TOKENS = 7  # which lerobot adds to the tokenizer for EO-1
QWEN_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
QWEN_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "mrope_section": [2, 1, 1],
    },
}
QWEN_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "out_hidden_size": 32,
}
QWEN_CHAT_TEMPLATE = (
    "{% for message in messages %}{% for item in message.content %}"
    "{% if item.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ item.text }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


def save_byte_tokenizer(folder, special_tokens=(), **named_tokens):
    """Save a byte tokenizer and return it.

    Its ids 0 to 255 are the bytes. <pad>, <eos>, <bos> and the given tokens follow.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ("<pad>", "<eos>", "<bos>", *special_tokens, *named_tokens.values())
    alphabet = (*sorted(pre_tokenizers.ByteLevel.alphabet()), *specials)
    backend = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(alphabet)},
            merges=[],
        )
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        additional_special_tokens=list(special_tokens),
        extra_special_tokens=named_tokens,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_paligemma_tokenizer(folder):
    """Save a stand-in for google/paligemma-3b-pt-224.

    lerobot's processors of the Pi0 family name that model.
    """
    save_byte_tokenizer(folder, image_token="<image>")
    return str(folder)


def save_fast_processor(folder):
    """Save a stand-in for lerobot/fast-action-tokenizer.

    The original is code in its repository, which lerobot loads with trust_remote_code, so this one
    contains code too. transformers copies that code to its modules cache, below the name of this
    folder.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # The characters are ideographs, since none of them is white space or joins its neighbour.
    first = ord("一")
    vocabulary = {chr(first + index): index for index in range(PALIGEMMA_VOCAB_SIZE)}
    backend = Tokenizer(models.WordLevel(vocabulary))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder / "bpe_tokenizer")
    (folder / "processing_small_fast.py").write_text(FAST_PROCESSOR_CODE)
    config = {
        "processor_class": "SmallFastProcessor",
        "auto_map": {"AutoProcessor": "processing_small_fast.SmallFastProcessor"},
        "scale": PALIGEMMA_VOCAB_SIZE / 2,  # coefficients are from -1 to 1
        "min_token": -first - PALIGEMMA_VOCAB_SIZE // 2,
    }
    (folder / "processor_config.json").write_text(json.dumps(config, indent=2))
    return str(folder)


def save_clip(folder, image_px):
    """Save a CLIP with its tokenizer, and return the folder's path as text.

    It stands for openai/clip-vit-base-patch16.
    """
    from transformers import CLIPConfig, CLIPModel

    tokenizer = save_byte_tokenizer(folder)
    narrow = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 32,
    }
    text = narrow | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    vision = narrow | {"image_size": image_px, "patch_size": VLM_PATCH_PX}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    return str(folder)


def save_smolvlm(
    folder,
    text=None,
    vision=None,
    image_px=VLM_IMAGE_PX,
    patch_px=VLM_PATCH_PX,
    scale_factor=2,
):
    """Save the configuration and the processor of a SmolVLM, without weights.

    They stand for HuggingFaceTB/SmolVLM2-500M-Video-Instruct.

    Args:
        text: overrides fields of the language model's configuration.
        vision: overrides fields of the vision tower's configuration.
    """
    from transformers import (
        SmolVLMConfig,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    tokenizer = save_byte_tokenizer(
        folder,
        fake_image_token="<fake_token_around_image>",
        image_token="<image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
    )
    small_text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "pad_token_id": tokenizer.pad_token_id,
    }
    small_vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    SmolVLMConfig(
        text_config=small_text | (text or {}),
        vision_config=small_vision
        | {"image_size": image_px, "patch_size": patch_px}
        | (vision or {}),
        scale_factor=scale_factor,
        image_token_id=tokenizer.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)
    size = {"longest_edge": image_px}
    SmolVLMProcessor(
        SmolVLMImageProcessor(size=size, max_image_size=size),
        tokenizer,
        SmolVLMVideoProcessor(size=size, max_image_size=size),
        image_seq_len=(image_px // patch_px // scale_factor) ** 2,
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    ).save_pretrained(folder)
    return str(folder)


def save_internvl(folder, image_px=VLM_IMAGE_PX, patch_px=VLM_PATCH_PX):
    """Save an InternVL with its tokenizer, and return the folder's path as text.

    It stands for OpenGVLab/InternVL3-1B-hf.
    """
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    tokenizer = save_byte_tokenizer(
        folder,
        context_image_token="<IMG_CONTEXT>",
        start_image_token="<img>",
        end_image_token="</img>",
    )
    narrow = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
    }
    text = narrow | {
        "num_hidden_layers": 3,
        "num_key_value_heads": 1,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = narrow | {
        "num_hidden_layers": 1,
        "image_size": [image_px, image_px],
        "patch_size": [patch_px, patch_px],
    }
    config = InternVLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.context_image_token_id,
        # Four patches become one token.
        image_seq_length=(image_px // patch_px // 2) ** 2,
    )
    InternVLForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def save_qwen3_vl(folder):
    """Save the configuration and the processors of a Qwen3-VL, without weights.

    They stand for nvidia/Cosmos-Reason2-2B.
    """
    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLVideoProcessor

    tokenizer = save_byte_tokenizer(folder, **QWEN_TOKENS)
    tokenizer.chat_template = QWEN_CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    Qwen3VLConfig(
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
        tie_word_embeddings=True,
        text_config={
            **QWEN_TEXT,
            "vocab_size": len(tokenizer),
            "head_dim": 8,
            "tie_word_embeddings": True,
        },
        vision_config={
            **QWEN_VISION,
            "num_position_embeddings": (GROOT_IMAGE_PX // 16) ** 2,
            "deepstack_visual_indexes": [0],
        },
    ).save_pretrained(folder)
    size = {"shortest_edge": GROOT_IMAGE_PX**2, "longest_edge": GROOT_IMAGE_PX**2}
    for processor in (Qwen3VLVideoProcessor, Qwen2VLImageProcessor):
        processor(
            size=size,
            patch_size=16,
            temporal_patch_size=2,
            merge_size=2,
        ).save_pretrained(folder)
    return str(folder)


def save_qwen3_vl_weights(folder):
    """Add random weights to a Qwen3-VL that `save_qwen3_vl` saved."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    config = Qwen3VLConfig.from_pretrained(folder)
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)


def save_vjepa2(folder, image_px):
    """Save a V-JEPA 2 with its processor, which takes two frames at once.

    It stands for facebook/vjepa2-vitl-fpc64-256.
    """
    from transformers import VJEPA2Config, VJEPA2Model, VJEPA2VideoProcessor

    narrow = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    predictor = {f"pred_{name}": value for name, value in narrow.items()}
    config = VJEPA2Config(crop_size=image_px, tubelet_size=2, **narrow, **predictor)
    VJEPA2Model(config).save_pretrained(folder)
    VJEPA2VideoProcessor(
        size={"shortest_edge": image_px},
        crop_size={"height": image_px, "width": image_px},
    ).save_pretrained(folder)
    return str(folder)


def save_qwen2_5_vl(folder):
    """Save the configuration and the processors of a Qwen2.5-VL, without weights.

    They stand for Qwen/Qwen2.5-VL-3B-Instruct.
    """
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = save_byte_tokenizer(folder, **QWEN_TOKENS)
    config = Qwen2_5_VLConfig(
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
        text_config={
            **QWEN_TEXT,
            "vocab_size": len(tokenizer) + N_EO1_TOKENS,
        },
        vision_config={
            **QWEN_VISION,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
    )
    config.save_pretrained(folder)
    Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(),
        tokenizer,
        Qwen2VLVideoProcessor(),
        chat_template=QWEN_CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return config


def save_groot_base(folder, backbone, state_dim, action_dim, action_horizon):
    """Save a stand-in for nvidia/GR00T-N1.7-3B.

    It has random weights and the image size, but no statistics of a robot.
    """
    from lerobot.policies.groot.groot_n1_7 import GR00TN17, GR00TN17Config

    attention = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "dropout": 0.0,
        "positional_embeddings": None,
    }
    config = GR00TN17Config(
        model_name=backbone,
        model_dtype="float32",
        dtype="float32",
        backbone_embedding_dim=32,
        select_layer=2,
        max_state_dim=state_dim,
        max_action_dim=action_dim,
        action_horizon=action_horizon,
        hidden_size=32,
        input_embedding_dim=32,
        max_seq_len=64,
        diffusion_model_cfg=attention
        | {
            "num_layers": 4,
            "norm_type": "ada_norm",
            "output_dim": 32,
            "interleave_self_attention": True,
        },
        vl_self_attention_cfg=attention | {"num_layers": 1},
        num_inference_timesteps=3,
    )
    GR00TN17(config, load_backbone_weights=False).save_pretrained(folder)
    size = [GROOT_IMAGE_PX, GROOT_IMAGE_PX]
    sizes = {"processor_kwargs": {"image_target_size": size, "image_crop_size": size}}
    (folder / "processor_config.json").write_text(json.dumps(sizes))
    return str(folder)
