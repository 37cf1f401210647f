"""The network of open-pi-zero, written from its equations.

Three streams of tokens go through layers of the same depth, and each stream has its own weights for
projections, norms and MLP (allenzren/open-pi-zero, commit c3df7fb):

- the prefix: 256 image tokens of SigLIP, then the instruction, padded to `N_TEXT_TOKENS`;
- the state: one token, which sees the prefix and itself;
- the actions: one token a step of the chunk, which see the prefix, the state and one another.

`policies.native.pi_zero_layers` has the equations of a layer. The prefix and the state do not
depend on the actions, so their keys and values are computed once for a chunk. The velocity v(a, t)
is then integrated in Euler steps from noise at t = 0 to the plan at t = 1:

    a ← a + v(a, t) / n_steps.

Pi0 of lerobot is another network: it goes from t = 1 to 0, has no tanh, and its state is a token of
the same block as the actions.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu
from transformers import SiglipVisionConfig, SiglipVisionModel

from policies.native.pi_zero_layers import PiZeroSizes, RMSNorm, Stream

N_TEXT_TOKENS = 20
N_DENOISING_STEPS = 10
CHUNK_SIZE = 4
_PERIOD = 10_000.0


class ActionEncoder(nn.Module):
    """Joins noisy actions with their time: W₃ silu(W₂ [time, W₁ action])."""

    def __init__(self, action_dim: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(action_dim, width)
        self.linear_2 = nn.Linear(2 * width, width)
        self.linear_3 = nn.Linear(width, width)

    def forward(
        self,
        actions: Float[Tensor, "B step action"],
        time: float,
    ) -> Float[Tensor, "B step width"]:
        embedded = self.linear_1(actions)
        time_embedding = embed_time(time, embedded.shape[-1]).to(embedded)
        joined = torch.cat([time_embedding.expand_as(embedded), embedded], dim=-1)
        return self.linear_3(silu(self.linear_2(joined)))


class Projector(nn.Module):
    """Projects image tokens to the width of the prefix."""

    def __init__(self, width: int, prefix_width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, prefix_width)


class PiZeroNetwork(nn.Module):
    """Plans a chunk of normalised actions.

    Attributes:
        config: its sizes.
    """

    def __init__(self, sizes: PiZeroSizes) -> None:
        super().__init__()
        self.config = sizes
        self.embed_tokens = nn.Embedding(sizes.vocabulary, sizes.prefix_width)
        self.vision_tower = make_vision_tower(sizes)
        self.multi_modal_projector = Projector(sizes.vision_width, sizes.prefix_width)
        self.prefix = Stream(sizes, sizes.prefix_width, sizes.prefix_mlp)
        self.state = Stream(sizes, sizes.expert_width, sizes.expert_mlp)
        self.actions = Stream(sizes, sizes.expert_width, sizes.expert_mlp)
        self.norm = RMSNorm(sizes.expert_width)
        self.action_encoder = ActionEncoder(sizes.action_dim, sizes.expert_width)
        self.proprio_encoder = nn.Linear(sizes.state_dim, sizes.expert_width)
        self.action_decoder = nn.Linear(sizes.expert_width, sizes.action_dim)

    def embed_prefix(
        self,
        images: Float[Tensor, "B 3 px px"],
        tokens: Int[Tensor, "B text"],
        is_text: Bool[Tensor, "B text"],
    ) -> tuple[Float[Tensor, "B token width"], Bool[Tensor, "B token"]]:
        """Return the embeddings of image and instruction, and which of them are not padding."""
        features = self.vision_tower(images.to(self.dtype)).last_hidden_state
        # Image tokens are divided by √width and, like those of the text, multiplied by it.
        image_tokens = self.multi_modal_projector.linear(features)
        scale = math.sqrt(self.config.prefix_width)
        text_tokens = self.embed_tokens(tokens) * scale
        is_real = torch.cat([is_text.new_ones(image_tokens.shape[:2]), is_text], dim=1)
        return torch.cat([image_tokens, text_tokens], dim=1), is_real

    def forward(
        self,
        images: Float[Tensor, "B 3 px px"],
        tokens: Int[Tensor, "B text"],
        is_text: Bool[Tensor, "B text"],
        state: Float[Tensor, "B state"],
        noise: Float[Tensor, "B step action"],
    ) -> list[Float[Tensor, "B step action"]]:
        """Return the noisy chunk before each denoising step, and the plan as the last.

        Args:
            images: pixels from -1 to 1.
            state: normalised to -1 to 1.
        """
        prefix, is_real = self.embed_prefix(images, tokens, is_text)
        is_padding = ~is_real
        _, cache = self.prefix.run(prefix, 1, None, is_padding, keeps_output=False)
        scale = math.sqrt(self.config.expert_width)
        state_token = self.proprio_encoder(state.to(self.dtype))[:, None] * scale
        is_padding = torch.cat([is_padding, is_padding.new_zeros(len(state), 1)], dim=1)
        _, cache = self.state.run(state_token, 1, cache, is_padding, keeps_output=False)
        is_padding = torch.cat([is_padding, is_padding.new_zeros(noise.shape[:2])], dim=1)
        chunks = [noise.to(self.dtype)]
        for step in range(N_DENOISING_STEPS):
            time = step / N_DENOISING_STEPS
            embedded = self.action_encoder(chunks[-1], time) * scale
            output, _ = self.actions.run(embedded, 2, cache, is_padding)
            velocity = self.action_decoder(self.norm(output))
            chunks.append(chunks[-1] + velocity / N_DENOISING_STEPS)
        return [*chunks[:-1], chunks[-1].clamp(-1, 1)]

    @property
    def dtype(self) -> torch.dtype:
        return self.action_decoder.weight.dtype


def make_vision_tower(sizes: PiZeroSizes) -> SiglipVisionModel:
    """Return a SigLIP without its pooling head."""
    config = SiglipVisionConfig(
        hidden_size=sizes.vision_width,
        intermediate_size=sizes.vision_mlp,
        num_hidden_layers=sizes.vision_layers,
        num_attention_heads=sizes.vision_heads,
        image_size=sizes.image_px,
        patch_size=sizes.patch_px,
        vision_use_head=False,
    )
    return SiglipVisionModel(config)


def embed_time(time: float, width: int) -> Float[Tensor, " width"]:
    """Return [sin(t f), cos(t f)] with f_i = 10000^(-i / (half - 1)), i = 0 … half - 1."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * (-math.log(_PERIOD) / (half - 1)))
    angles = time * frequencies
    return torch.cat([angles.sin(), angles.cos()])
