"""The hidden layers that the MLP encoder and every decoder are made of."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def hidden_layers(inputs: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Per width: Linear, LayerNorm, GELU, Dropout; (batch, inputs) to (batch, widths[-1])."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers)
