"""The layers of open-pi-zero's network, through which each stream of tokens goes.

A layer computes, for queries q of one stream and keys and values k, v of all tokens that it sees,

    s = 50 tanh(q·k / (50 √d)),    x ← x + W_o softmax(s) v,    x ← x + MLP(norm(x)),

with rotary positions in q and k, and norm(x) = (1 + w) x / rms(x) before the projections and the
MLP. There is a single head of keys and values.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu

_SOFT_CAP = 50.0
_PERIOD = 10_000.0
_NORM_EPS = 1e-6

# Keys and values of the tokens that a stream sees, `(B, token, head_dim)`, one pair a layer.
type Cache = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class PiZeroSizes:
    """Sizes of the network, all of which but the vision heads show in the shapes of its weights.

    Attributes:
        head_dim: width of an attention head; keys and values have a single head.
        image_px: side of the square image.
        vision_heads: attention heads of SigLIP; 16 in PaliGemma's.
    """

    vocabulary: int
    prefix_width: int
    prefix_mlp: int
    expert_width: int
    expert_mlp: int
    n_layers: int
    n_heads: int
    head_dim: int
    vision_width: int
    vision_mlp: int
    vision_layers: int
    image_px: int
    patch_px: int
    state_dim: int
    action_dim: int
    vision_heads: int = 16


class RMSNorm(nn.Module):
    """Scales x to (1 + w) x / rms(x), computed in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "*row width"]) -> Float[Tensor, "*row width"]:
        exact = x.float()
        exact = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + _NORM_EPS)
        return (exact * (1 + self.weight.float())).to(x.dtype)


class Attention(nn.Module):
    """The four projections of one stream in one layer."""

    def __init__(self, width: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, n_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(width, head_dim, bias=False)
        self.v_proj = nn.Linear(width, head_dim, bias=False)
        self.o_proj = nn.Linear(n_heads * head_dim, width, bias=False)


class GatedMLP(nn.Module):
    """Computes W_down(gelu(W_gate x) ⊙ W_up x), with the tanh form of gelu."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Float[Tensor, "*row width"]) -> Float[Tensor, "*row width"]:
        gate = gelu(self.gate_proj(x), approximate="tanh")
        return self.down_proj(gate * self.up_proj(x))


class Layer(nn.Module):
    """One layer of one stream."""

    def __init__(self, width: int, inner: int, n_heads: int, head_dim: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, n_heads, head_dim)
        self.mlp = GatedMLP(width, inner)
        self.input_layernorm = RMSNorm(width)
        self.post_attention_layernorm = RMSNorm(width)
        self._n_heads = n_heads

    def keys_and_values(
        self,
        normed: Float[Tensor, "B token width"],
        angles: Float[Tensor, "token half"],
    ) -> tuple[Float[Tensor, "B token head"], Float[Tensor, "B token head"]]:
        return rotate(self.self_attn.k_proj(normed), angles), self.self_attn.v_proj(normed)

    def forward(
        self,
        x: Float[Tensor, "B token width"],
        normed: Float[Tensor, "B token width"],
        angles: Float[Tensor, "token half"],
        seen: tuple[Tensor, Tensor],
        is_hidden: Bool[Tensor, "B key"],
    ) -> Float[Tensor, "B token width"]:
        """Return the stream after the layer.

        Args:
            normed: the stream after the layer's first norm.
            seen: keys and values of all tokens that this stream sees, its own the last.
            is_hidden: the padding among these tokens.
        """
        keys, values = seen
        n_rows, n_tokens, _ = x.shape
        queries = self.self_attn.q_proj(normed).view(n_rows, n_tokens, self._n_heads, -1)
        queries = rotate(queries.transpose(1, 2), angles)
        scores = queries @ keys[:, None].transpose(-1, -2) / math.sqrt(keys.shape[-1])
        scores = _SOFT_CAP * torch.tanh(scores / _SOFT_CAP)
        scores = scores.masked_fill(is_hidden[:, None, None], -torch.inf)
        weights = scores.softmax(-1, dtype=torch.float32).to(x.dtype)
        heads = (weights @ values[:, None]).transpose(1, 2).flatten(2)
        x = x + self.self_attn.o_proj(heads)
        return x + self.mlp(self.post_attention_layernorm(x))


class Stream(nn.Module):
    """The layers of one set of weights."""

    def __init__(self, sizes: PiZeroSizes, width: int, inner: int) -> None:
        super().__init__()
        layers = [Layer(width, inner, sizes.n_heads, sizes.head_dim) for _ in range(sizes.n_layers)]
        self.layers = nn.ModuleList(layers)

    def run(
        self,
        x: Float[Tensor, "B token width"],
        first_position: int,
        seen: Cache | None,
        is_padding: Bool[Tensor, "B key"],
        keeps_output: bool = True,
    ) -> tuple[Tensor, Cache]:
        """Return the stream after its last layer, and the keys and values of it and all it sees.

        Args:
            first_position: the rotary position of its first token.
            seen: keys and values of the streams before it.
            is_padding: which of all these tokens are padding, its own the last.
            keeps_output: False leaves out what only the last output needs.
        """
        positions = first_position + torch.arange(x.shape[1], device=x.device)
        cache: Cache = []
        for index, layer in enumerate(self.layers):
            normed = layer.input_layernorm(x)
            head_dim = layer.self_attn.k_proj.out_features
            angles = compute_angles(positions, head_dim)
            own = layer.keys_and_values(normed, angles)
            if seen is not None:
                own = tuple(torch.cat(pair, dim=1) for pair in zip(seen[index], own, strict=True))
            cache.append(own)
            if keeps_output or index + 1 < len(self.layers):
                x = layer(x, normed, angles, own, is_padding)
        return x, cache


def compute_angles(positions: Int[Tensor, " token"], head_dim: int) -> Float[Tensor, "token half"]:
    """Return the rotary angles position · 10000^(-2i / head_dim), i = 0 … head_dim/2 - 1."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    return positions.float()[:, None] * _PERIOD**-exponents


def rotate(
    x: Float[Tensor, "*row token head"],
    angles: Float[Tensor, "token half"],
) -> Float[Tensor, "*row token head"]:
    """Rotate each pair (x_i, x_{i + half}) by its angle."""
    cosine = angles.cos()
    sine = angles.sin()
    first, second = x.float().chunk(2, dim=-1)
    rotated = [first * cosine - second * sine, second * cosine + first * sine]
    return torch.cat(rotated, dim=-1).to(x.dtype)
