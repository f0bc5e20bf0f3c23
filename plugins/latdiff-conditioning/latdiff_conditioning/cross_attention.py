"""Attention of the activations to the attributes."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from latdiff_conditioning.zero_linear import zero_linear
from latdiff_core.errors import ConfigError
from latdiff_core.interfaces import Conditioner, ConditionerConfig


class CrossAttentionConditioner(Conditioner):
    """Every token attends to the attributes of its cell (Rombach et al. 2022, arXiv:2112.10752, section 3.3).

    One learned token, the sink, stands among the attributes: the softmax over a single attribute would be 1 whatever
    the query, and queries and keys would never learn. Attributes have no positions, since each has an embedding of
    its own. A residual with zero-initialised output: it starts as the identity.
    """

    def __init__(self, *, width: int, condition_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.sink = nn.Parameter(torch.randn(1, condition_width))
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(condition_width, width)
        self.value = nn.Linear(condition_width, width)
        self.out = zero_linear(width, width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        sink = self.sink.expand(len(condition), -1, -1)
        seen = torch.cat([condition, sink], dim=1)  # (batch, attributes + 1, condition width)
        parts = self.query(self.norm(hidden)), self.key(seen), self.value(seen)
        query, key, value = (self._split(part) for part in parts)
        mixed = scaled_dot_product_attention(query, key, value)  # (batch, heads, tokens, width / heads)
        changed: Tensor = hidden + self.out(mixed.transpose(1, 2).flatten(2))  # (batch, tokens, width)
        return changed

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, tokens, width / heads)


class CrossAttentionConditionerConfig(ConditionerConfig):
    """Attention of every token to the attributes of its cell."""

    kind: Literal["cross_attention"] = "cross_attention"
    heads: PositiveInt = 4
    """Attention heads; must divide the width of every block of the denoiser."""

    def build(self, *, width: int, attributes: int, condition_width: int) -> CrossAttentionConditioner:
        if width % self.heads:
            raise ConfigError(
                f"heads ({self.heads}) of the conditioner cross_attention must divide the width ({width}) of the "
                "denoiser's block; change one of the two"
            )
        return CrossAttentionConditioner(width=width, condition_width=condition_width, heads=self.heads)
