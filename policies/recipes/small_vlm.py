"""Make a small vision-language model for SmolVLA: configuration, tokenizer, processor, no weights.

lerobot builds SmolVLA from a folder of this kind. The folder replaces
HuggingFaceTB/SmolVLM2-500M-Video-Instruct, and is part of the checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

VLM_FOLDER = "vlm"
_SPECIAL_TOKENS = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}
_MAX_VOCABULARY = 512


@dataclass(frozen=True)
class VlmSizes:
    """Widths and depths of the model.

    Attributes:
        scale_factor: a square of scale_factor by scale_factor patches becomes one token.
    """

    image_px: int
    patch_px: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    key_value_heads: int
    scale_factor: int

    @property
    def n_image_tokens(self) -> int:
        """The number of tokens of one camera's image."""
        return (self.image_px // self.patch_px // self.scale_factor) ** 2


def save_small_vlm(folder: Path, sizes: VlmSizes, texts: Sequence[str]) -> None:
    """Write the model's folder.

    Args:
        texts: the tokenizer's training texts. It splits any other text into smaller pieces, down to
            bytes.
    """
    tokenizer = _train_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    SmolVLMConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": sizes.text_width,
            "intermediate_size": 3 * sizes.text_width,
            "num_hidden_layers": sizes.text_layers,
            "num_attention_heads": sizes.text_heads,
            "num_key_value_heads": sizes.key_value_heads,
            "head_dim": sizes.text_width // sizes.text_heads,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": sizes.vision_width,
            "intermediate_size": 3 * sizes.vision_width,
            "num_hidden_layers": sizes.vision_layers,
            "num_attention_heads": sizes.vision_heads,
            "image_size": sizes.image_px,
            "patch_size": sizes.patch_px,
        },
        scale_factor=sizes.scale_factor,
        image_token_id=tokenizer.convert_tokens_to_ids(_SPECIAL_TOKENS["image_token"]),
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)
    size = {"longest_edge": sizes.image_px}
    SmolVLMProcessor(
        SmolVLMImageProcessor(size=size, max_image_size=size),
        tokenizer,
        SmolVLMVideoProcessor(size=size, max_image_size=size),
        image_seq_len=sizes.n_image_tokens,
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    ).save_pretrained(folder)


def _train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a byte-pair tokenizer in which every word of the texts is one token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_MAX_VOCABULARY,
        special_tokens=["<pad>", "<eos>", "<bos>", *_SPECIAL_TOKENS.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(sorted(texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        extra_special_tokens=_SPECIAL_TOKENS,
    )
