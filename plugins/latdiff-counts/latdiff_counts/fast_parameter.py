"""Parameters that learn faster than the network, without an optimiser that knows of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FastParameter(nn.Module):
    """A start, plus a learned offset that reaches the optimiser divided by ``rate``.

    Under Adam, whose steps do not depend on the gradient's size, this is a learning rate ``rate`` times larger; weight
    decay pulls towards the start instead of towards 0. The start belongs to the weights.
    """

    start: Tensor

    def __init__(self, start: Tensor, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("start", start)
        self.offset = nn.Parameter(torch.zeros_like(start))

    def forward(self) -> Tensor:
        """The value in float32 or better, in the shape of the start."""
        dtype = torch.promote_types(self.offset.dtype, torch.float32)
        return self.start.to(dtype) + self.rate * self.offset.to(dtype)
