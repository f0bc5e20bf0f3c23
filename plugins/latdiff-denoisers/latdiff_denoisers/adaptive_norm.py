"""Adaptive layer normalisation: how time acts in every block (Peebles & Xie 2023, arXiv:2212.09748, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from latdiff_denoisers.zero_linear import zero_linear


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Per-cell affine change of tokens: x (batch, tokens, width), shift and scale (batch, 1, width)."""
    return x * (1 + scale) + shift


class AdaptiveNorm(nn.Module):
    """LayerNorm parameters from the time embedding: ``parts`` tensors of (batch, 1, width), zero at the start."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = zero_linear(width, parts * width)

    def forward(self, time: Tensor) -> tuple[Tensor, ...]:
        modulation = self.linear(nn.functional.silu(time)).unsqueeze(1)  # (batch, 1, parts * width)
        return tuple(modulation.chunk(self.parts, dim=-1))
