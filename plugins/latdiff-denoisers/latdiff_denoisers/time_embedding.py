"""The embedding of diffusion time that every denoiser starts from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 128
SCALE = 1000.0
"""Times in [0, 1] are spread over the 1,000 steps that the sinusoids were made for."""


def sinusoid(t: Tensor, frequencies: int = FREQUENCIES) -> Tensor:
    """Cosines and sines of t at geometrically spaced frequencies, (batch,) to (batch, 2 x frequencies).

    The number of frequencies, not the width, is the argument: no width is odd or too small.
    Vaswani et al. 2017 (arXiv:1706.03762), section 3.5.
    """
    exponents = torch.arange(frequencies, device=t.device, dtype=torch.float32) / frequencies
    angles = SCALE * t.float().unsqueeze(-1) * torch.exp(-math.log(1e4) * exponents)  # (batch, frequencies)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedding(nn.Module):
    """Sinusoids of the time and a two-layer MLP, (batch,) to (batch, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        embedded: Tensor = self.net(sinusoid(t).to(self.net[0].weight.dtype))
        return embedded
