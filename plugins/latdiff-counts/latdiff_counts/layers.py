"""The layers that the MLP encoders and every decoder are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latdiff_core.counts import CountBatch


def hidden_layers(inputs: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Per width: Linear, LayerNorm, GELU, Dropout; (batch, inputs) to (batch, widths[-1])."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), *activation(width, dropout)]
        inputs = width
    return nn.Sequential(*layers)


def activation(width: int, dropout: float) -> tuple[nn.Module, ...]:
    """What follows each linear layer: LayerNorm, GELU, Dropout."""
    return nn.LayerNorm(width), nn.GELU(), nn.Dropout(dropout)


class GeneLinear(nn.Module):
    """A linear layer on log1p of counts per 10,000 and further numbers, which multiplies no zeros.

    The weights of the genes are (genes, width), a row per gene, so that the rows of a cell's genes can be summed.
    """

    def __init__(self, genes: int, others: int, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(genes + others)  # that of nn.Linear
        self.genes, self.others, self.bias = (
            nn.Parameter(torch.empty(*shape, width).uniform_(-bound, bound)) for shape in ((genes,), (others,), ())
        )

    def forward(self, counts: CountBatch, others: Tensor) -> Tensor:
        """Cells and their further numbers, (batch, others), to (batch, width)."""
        rest = others.to(self.others.dtype) @ self.others + self.bias
        return counts.times(counts.log1p_values(), self.genes) + rest
