"""Parameters that learn faster than the network, without an optimiser that knows of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FastParameter(nn.Module):
    """A start, plus a learned offset that reaches the optimiser divided by ``rate``.

    Under Adam, whose steps do not depend on the gradient's size, this is a learning rate ``rate`` times larger; weight
    decay pulls towards the start instead of towards 0. The start belongs to the weights.

    ``log_prior`` is that of independent normals around the start, of standard deviation ``std``.
    """

    start: Tensor

    def __init__(self, start: Tensor, rate: float, std: float = math.inf) -> None:
        super().__init__()
        self.rate = rate
        self.std = std
        self.register_buffer("start", start)
        self.offset = nn.Parameter(torch.zeros_like(start))

    def forward(self) -> Tensor:
        """The value in float32 or better, in the shape of the start."""
        dtype = torch.promote_types(self.offset.dtype, torch.float32)
        return self.start.to(dtype) + self.rate * self.offset.to(dtype)

    def log_prior(self) -> Tensor:
        """Log density of the value up to a constant, one number in float32 or better."""
        dtype = torch.promote_types(self.offset.dtype, torch.float32)
        return -0.5 * (self.rate / self.std * self.offset.to(dtype)).square().sum()
