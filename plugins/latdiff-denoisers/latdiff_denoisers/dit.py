"""The diffusion transformer on latent tokens (Peebles & Xie 2023, arXiv:2212.09748)."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Conditioner, Denoiser, DenoiserConfig, Fraction, MakeConditioner
from latdiff_denoisers.adaptive_norm import AdaptiveNorm, modulate
from latdiff_denoisers.time_embedding import TimeEmbedding
from latdiff_denoisers.zero_linear import zero_linear


class Attention(nn.Module):
    """Multi-head self-attention over the tokens of one cell."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (batch, heads, tokens, ·)
        mixed = scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class Block(nn.Module):
    """Conditioner, then attention and MLP, each behind an adaLN-Zero gate."""

    def __init__(self, width: int, heads: int, dropout: float, conditioner: Conditioner) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads, dropout)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.modulation = AdaptiveNorm(width, 6)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        time = self.conditioner.join_time(time, condition)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(time)
        x = self.conditioner(x, condition)
        x = x + gate_a * self.attention(modulate(self.norm_attention(x), shift_a, scale_a))
        return x + gate_m * self.mlp(modulate(self.norm_mlp(x), shift_m, scale_m))


class DiT(Denoiser):
    """A transformer over tokens cut from the latent, with time in adaLN-Zero and one conditioner per block.

    The latent is padded with zeros to a whole number of tokens; positions are learned. The output layer
    is zero at the start.
    """

    def __init__(
        self,
        *,
        dim: int,
        token_dim: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        make_conditioner: MakeConditioner,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.tokens = -(-dim // token_dim)
        self.padding = self.tokens * token_dim - dim
        self.embed = nn.Linear(token_dim, width)
        self.positions = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        self.time = TimeEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, make_conditioner(width)) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = AdaptiveNorm(width, 2)
        self.out = zero_linear(width, token_dim)

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        tokens = pad(z_t, (0, self.padding)).view(len(z_t), self.tokens, -1)  # (batch, tokens, token_dim)
        x = self.embed(tokens) + self.positions  # (batch, tokens, width)
        time = self.time(t)
        for block in self.blocks:
            x = block(x, time, condition)
        shift, scale = self.modulation(time)
        out = self.out(modulate(self.norm(x), shift, scale))  # (batch, tokens, token_dim)
        return out.flatten(1)[:, : self.dim]


class DiTConfig(DenoiserConfig):
    """A diffusion transformer over tokens cut from the latent."""

    kind: Literal["dit"] = "dit"
    width: PositiveInt = 128
    """Width of the tokens inside."""
    depth: PositiveInt = 4
    """Number of blocks."""
    heads: PositiveInt = 4
    """Attention heads; must divide the width."""
    token_dim: PositiveInt = 8
    """Latent dimensions per token."""
    dropout: Fraction = 0.0
    """Dropout in attention and MLP."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self

    def build(self, *, dim: int, make_conditioner: MakeConditioner) -> DiT:
        if self.width < self.token_dim:
            raise ConfigError(
                f"width {self.width} is narrower than token_dim {self.token_dim}: a token could not carry its values; "
                f"raise width to at least {self.token_dim} or lower token_dim"
            )
        if self.token_dim >= dim:
            raise ConfigError(
                f"token_dim {self.token_dim} makes one token of the {dim} diffused dimensions, and attention over one "
                f"token does nothing; give token_dim at most {max(1, dim // 2)}"
            )
        fields = self.model_dump(exclude={"kind"})
        return DiT(dim=dim, make_conditioner=make_conditioner, **fields)
