"""The MLP encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt
from torch import nn
from torch.distributions import Normal

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Covariates, Encoder, EncoderConfig, Fraction, GeneStatistics, Sizes
from latdiff_counts.layers import GeneLinear, activation, hidden_layers
from latdiff_counts.posterior import bounded_posterior


class MLPEncoder(Encoder):
    """An MLP on log1p of counts per 10,000 and the nuisance."""

    def __init__(self, *, sizes: Sizes, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.first = GeneLinear(sizes.genes, sizes.nuisance, hidden[0])
        self.layers = nn.Sequential(*activation(hidden[0], dropout), *hidden_layers(hidden[0], hidden[1:], dropout))
        self.mean = nn.Linear(hidden[-1], sizes.latent_dim)
        self.log_variance = nn.Linear(hidden[-1], sizes.latent_dim)

    def forward(self, counts: CountBatch, covariates: Covariates) -> Normal:
        hidden = self.layers(self.first(counts, covariates.nuisance))  # (batch, hidden[-1])
        return bounded_posterior(self.mean(hidden), self.log_variance(hidden))


class MLPEncoderConfig(EncoderConfig):
    """An MLP on log1p of counts per 10,000."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(default=(256, 128), min_length=1)
    """Widths of the hidden layers, from the genes to the latent."""
    dropout: Fraction = 0.1
    """Dropout after each hidden layer."""

    def build(self, *, sizes: Sizes, statistics: GeneStatistics | None) -> MLPEncoder:
        return MLPEncoder(sizes=sizes, hidden=self.hidden, dropout=self.dropout)
