"""The MLP encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import nn
from torch.distributions import Normal

from latdiff_core.counts import CountBatch
from latdiff_core.interfaces import Encoder, EncoderConfig
from latdiff_counts.layers import hidden_layers

LOG_VARIANCE_BOUND = 10.0


class MLPEncoder(Encoder):
    """An MLP on log1p of counts per 10,000, with heads for the mean and the log-variance.

    The log-variance is bounded smoothly to +-10, so that neither the KL nor its gradient can become infinite.
    """

    def __init__(self, *, genes: int, latent_dim: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.layers = hidden_layers(genes, hidden, dropout)
        self.mean = nn.Linear(hidden[-1], latent_dim)
        self.log_variance = nn.Linear(hidden[-1], latent_dim)

    def forward(self, counts: CountBatch) -> Normal:
        inputs = counts.log1p_normalised().to(self.mean.weight.dtype)  # (batch, genes)
        hidden = self.layers(inputs)  # (batch, hidden[-1])
        log_variance = LOG_VARIANCE_BOUND * (self.log_variance(hidden) / LOG_VARIANCE_BOUND).tanh()
        return Normal(self.mean(hidden), (0.5 * log_variance).exp(), validate_args=False)


class MLPEncoderConfig(EncoderConfig):
    """An MLP on log1p of counts per 10,000."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(default=(256, 128), min_length=1)
    """Widths of the hidden layers, from the genes to the latent."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout after each hidden layer."""

    def build(self, *, genes: int, latent_dim: int) -> MLPEncoder:
        return MLPEncoder(genes=genes, latent_dim=latent_dim, hidden=self.hidden, dropout=self.dropout)
