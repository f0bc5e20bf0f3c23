"""The linear layer by which conditioners begin as the identity."""

from __future__ import annotations

from torch import nn


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer whose weight and bias are zero at the start."""
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
