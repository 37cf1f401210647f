"""The network of SpatialVLA, made of transformers' own parts and the equations between them.

SigLIP encodes the image. ZoeDepth estimates the depth of its pixels, from which each image token
gets the positions of four points in the camera's frame (SpatialVLA/SpatialVLA, modelling code of
transformers 4.47, which 5.5 no longer imports):

    p = depth(u, v) K⁻¹ (u, v, 1)ᵀ,    x = (p - (0, 0, 2)) / 2,
    token ← token + MLP([x, sin(2^i x), cos(2^i x)]),    i = 0 … n_freqs - 1.

The tokens and the prompt attend to one another in both directions, at positions from 1. Gemma 2
then decodes greedily: three tokens an action, for translation, rotation and gripper. The input of a
decoded action token is its spatial embedding times √width. Gemma 2 of transformers 5.5 multiplies
its own embeddings by √width, and no others.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from transformers import (
    DynamicCache,
    Gemma2Config,
    Gemma2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)

N_TOKENS_PER_ACTION = 3
CHUNK_SIZE = 4
_DEPTH_PAD_PX = 31
_DEPTH_SIDE_PX = 384
_CENTER_M = (0.0, 0.0, 2.0)
_HALF_RANGE_M = 2.0


@dataclass(frozen=True)
class SpatialVlaConfig:
    """Sizes of the network.

    Attributes:
        points_per_side: points of an image patch in each direction.
        n_freqs: octaves of the encoding of a point.
        first_action_token: id of the first of `n_action_tokens`.
        end_token: the id that ends the decoding.
    """

    vision: SiglipVisionConfig
    depth: ZoeDepthConfig
    text: Gemma2Config
    points_per_side: int
    n_freqs: int
    first_action_token: int
    n_action_tokens: int
    end_token: int


class PointEmbedding(nn.Module):
    """Embeds the points of an image token."""

    def __init__(self, points_per_side: int, n_freqs: int, width: int) -> None:
        super().__init__()
        n_numbers = 3 * points_per_side**2
        self.position_embedding_head = nn.Sequential(
            nn.Linear(n_numbers * (2 * n_freqs + 1), width),
            nn.LayerNorm(width),
            nn.ReLU(),
            nn.Linear(width, width),
        )
        self._n_freqs = n_freqs

    def forward(self, points: Float[Tensor, "B token numbers"]) -> Float[Tensor, "B token width"]:
        """Return the embeddings of points [m], x, y, z of one after the other."""
        dtype = self.position_embedding_head[0].weight.dtype
        center = points.new_tensor(_CENTER_M).repeat(points.shape[-1] // 3)
        x = ((points - center) / _HALF_RANGE_M).to(dtype)[..., None]
        octaves = x * 2.0 ** torch.arange(self._n_freqs, device=x.device, dtype=dtype)
        encoded = torch.cat([x, octaves.sin(), octaves.cos()], dim=-1)
        return self.position_embedding_head(encoded.flatten(2))


class Projector(nn.Module):
    """Projects image tokens to the width of the language model."""

    def __init__(self, width: int, text_width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, text_width)


class SpatialVlaNetwork(nn.Module):
    """Decodes the tokens of a chunk of actions from an image and a prompt."""

    def __init__(self, config: SpatialVlaConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = SiglipVisionModel(config.vision)
        self.vision_zoe_model = ZoeDepthForDepthEstimation(config.depth)
        # The attention with a soft cap exists in this form only.
        config.text._attn_implementation = "eager"
        self.language_model = Gemma2ForCausalLM(config.text)
        width = config.vision.hidden_size
        self.multi_modal_projector = Projector(width, config.text.hidden_size)
        self.position_embedding_3d = PointEmbedding(config.points_per_side, config.n_freqs, width)
        self.spatial_embed_tokens = nn.Embedding(config.n_action_tokens, config.text.hidden_size)

    def forward(
        self,
        image: Float[Tensor, "1 3 px px"],
        camera: Float[Tensor, "3 3"],
        prompt: Int[Tensor, "1 text"],
        n_tokens: int,
    ) -> Int[Tensor, " token"]:
        """Return the decoded tokens; 0 after the end token.

        Args:
            image: pixels from 0 to 1.
            camera: intrinsics of the image at this size [px].
            prompt: ids of the tokens after those of the image.
        """
        features = self.image_features(image, camera)
        x = torch.cat([features, self.language_model.model.embed_tokens(prompt)], dim=1)
        cache = DynamicCache()
        first_position = 1
        tokens = prompt.new_zeros(n_tokens)
        for index in range(n_tokens):
            hidden = self._run(x, first_position, cache)
            token = self.logits(hidden[:, -1]).argmax(-1)
            tokens[index] = token
            if token.item() == self.config.end_token:
                break
            first_position += x.shape[1]
            x = self._embed(token)[:, None]
        return tokens

    def image_features(
        self, image: Float[Tensor, "1 3 px px"], camera: Float[Tensor, "3 3"]
    ) -> Float[Tensor, "1 token width"]:
        """Return the image tokens as the language model takes them."""
        image = image.to(self.dtype)
        tokens = self.vision_tower((image - 0.5) / 0.5).last_hidden_state
        points = self._find_points(self.estimate_depth(image), camera)
        return self.multi_modal_projector.linear(tokens + self.position_embedding_3d(points))

    def estimate_depth(self, image: Float[Tensor, "1 3 px px"]) -> Float[Tensor, "1 1 px px"]:
        """Return the depth of each pixel [m]."""
        margin = _DEPTH_PAD_PX
        side = image.shape[-1] + 2 * margin
        padded = pad(image, (margin,) * 4, mode="reflect")
        resized = _resize(padded, _DEPTH_SIDE_PX)
        depth = self.vision_zoe_model(pixel_values=(resized - 0.5) / 0.5).predicted_depth
        return _resize(depth[:, None], side)[..., margin:-margin, margin:-margin]

    def logits(self, hidden: Float[Tensor, "*row width"]) -> Float[Tensor, "*row vocabulary"]:
        """Return the logits of the next token, with their soft cap."""
        cap = self.config.text.final_logit_softcapping
        return cap * torch.tanh(self.language_model.lm_head(hidden) / cap)

    def _find_points(
        self, depth: Float[Tensor, "1 1 px px"], camera: Float[Tensor, "3 3"]
    ) -> Float[Tensor, "1 token numbers"]:
        """Return the points [m] in the camera's frame, those of a patch together."""
        per_side = self.config.points_per_side
        n_patches = depth.shape[-1] // self.config.vision.patch_size
        n = n_patches * per_side
        step_px = self.config.vision.patch_size / per_side
        centers = (torch.arange(n, device=depth.device) + 0.5) * step_px
        v, u = torch.meshgrid(centers, centers, indexing="ij")
        rays = torch.linalg.inv(camera.to(self.dtype).float())
        rays = rays @ torch.stack([u, v, torch.ones_like(u)]).flatten(1)
        points = rays * interpolate(depth, size=(n, n), mode="area").flatten()
        grid = points.view(3, n_patches, per_side, n_patches, per_side)
        return grid.permute(1, 3, 2, 4, 0).reshape(1, n_patches**2, -1)

    def _run(
        self, x: Float[Tensor, "1 token width"], first_position: int, cache: DynamicCache
    ) -> Float[Tensor, "1 token width"]:
        """Return the hidden states of tokens that all see one another and all before them."""
        n_tokens = x.shape[1]
        mask = x.new_zeros(1, 1, n_tokens, first_position - 1 + n_tokens)
        positions = first_position + torch.arange(n_tokens, device=x.device)
        return self.language_model.model(
            inputs_embeds=x,
            attention_mask={"full_attention": mask, "sliding_attention": mask},
            position_ids=positions[None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state

    def _embed(self, token: Int[Tensor, "1"]) -> Float[Tensor, "1 width"]:
        index = token - self.config.first_action_token
        if not 0 <= index.item() < self.config.n_action_tokens:
            return self.language_model.model.embed_tokens(token)
        return self.spatial_embed_tokens(index) * math.sqrt(self.config.text.hidden_size)

    @property
    def dtype(self) -> torch.dtype:
        return self.spatial_embed_tokens.weight.dtype


def _resize(images: Float[Tensor, "1 c h w"], side_px: int) -> Float[Tensor, "1 c side side"]:
    return interpolate(images, size=(side_px, side_px), mode="bicubic", align_corners=True)
