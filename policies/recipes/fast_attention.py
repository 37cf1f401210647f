"""SmolVLA's forward pass without what makes a GPU wait: the same numbers up to rounding, several times as fast."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput


@contextmanager
def fast_attention(vlm_with_expert: Any) -> Iterator[None]:
    """Swap two parts of lerobot's `SmolVLMWithExpertModel` while it trains.

    Attention goes through torch's fused kernel. The vision tower takes its images to be whole and
    of the declared size, so that it need not look at a mask, which would copy numbers to the CPU.
    """
    vision = vlm_with_expert.vlm.model.vision_model
    own = vision.forward
    vlm_with_expert.get_attention_interface = lambda: _attend
    vision.forward = lambda pixel_values, patch_attention_mask=None: _see(vision, pixel_values)
    try:
        yield
    finally:
        del vlm_with_expert.get_attention_interface
        del vision.forward
        assert vision.forward == own


def _attend(
    mask: Tensor, batch_size: int, head_dim: int, query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """Grouped-query attention.

    Args:
        mask: `(B, L, S)`, true where a query may look.
        query: `(B, L, heads, head_dim)`.
        key, value: `(B, S, key_value_heads, head_dim)`.
    """
    query, key, value = (part.transpose(1, 2).to(value.dtype) for part in (query, key, value))
    output = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask[:, None], enable_gqa=True
    )
    return output.transpose(1, 2).reshape(batch_size, -1, output.shape[1] * head_dim)


def _see(vision: nn.Module, pixel_values: Tensor) -> BaseModelOutput:
    """Return the tokens of whole images of the declared size."""
    embeddings = vision.embeddings
    patches = embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
    encoded = vision.encoder(
        inputs_embeds=patches + embeddings.position_embedding.weight, attention_mask=None
    )
    return BaseModelOutput(last_hidden_state=vision.post_layernorm(encoded.last_hidden_state))
