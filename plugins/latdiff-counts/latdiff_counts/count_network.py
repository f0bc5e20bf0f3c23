"""What NB-family decoders share: the mirrored MLP, softmax x library, and the per-gene dispersion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from latdiff_core.errors import require_shape
from latdiff_core.interfaces import Config, GeneStatistics
from latdiff_counts.layers import hidden_layers
from latdiff_counts.likelihood import LOG_THETA_RANGE


class CountNetworkConfig(Config):
    """The fields that NB-family decoders share."""

    hidden: tuple[PositiveInt, ...] = Field(default=(128, 256), min_length=1)
    """Widths of the hidden layers, from the latent to the genes."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout after each hidden layer."""
    dispersion_rate: PositiveFloat = 10.0
    """How many times faster than the network the dispersion learns."""

    def build_network(self, genes: int, latent_dim: int, statistics: GeneStatistics | None) -> CountNetwork:
        """Make the network to the means."""
        return CountNetwork(
            genes=genes, latent_dim=latent_dim, hidden=self.hidden, dropout=self.dropout, statistics=statistics
        )

    def build_dispersion(self, genes: int, statistics: GeneStatistics | None) -> GeneDispersion:
        """Make the dispersions."""
        return GeneDispersion(genes=genes, rate=self.dispersion_rate, statistics=statistics)


class CountNetwork(nn.Module):
    """Latent to hidden activations, and from there to log mu = log softmax(logits) + log library.

    The gene logits start at the data's mean profile, so that training begins at the right scale.
    """

    def __init__(
        self, *, genes: int, latent_dim: int, hidden: Sequence[int], dropout: float, statistics: GeneStatistics | None
    ) -> None:
        super().__init__()
        self.layers = hidden_layers(latent_dim, hidden, dropout)
        self.logits = nn.Linear(hidden[-1], genes)
        if statistics is not None:
            with torch.no_grad():
                self.logits.bias.copy_(statistics.fraction.log())

    def forward(self, z: Tensor, library: Tensor) -> tuple[Tensor, Tensor]:
        """Return log mu (batch, genes), in float32 or better, and the last hidden layer (batch, hidden[-1])."""
        require_shape("library", library, (len(z),))
        hidden = self.layers(z.to(self.logits.weight.dtype))
        logits = self.logits(hidden)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.log_softmax(-1) + library.to(logits.dtype).log().unsqueeze(-1), hidden


class GeneDispersion(nn.Module):
    """log theta of every gene: the data's moments plus a learned offset.

    The optimiser sees the offset divided by ``rate``, which under Adam is a learning rate ``rate`` times
    larger; weight decay pulls towards the moments instead of towards theta = 1.
    """

    start: Tensor

    def __init__(self, *, genes: int, rate: float, statistics: GeneStatistics | None) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("start", torch.zeros(genes) if statistics is None else statistics.theta.log())
        self.offset = nn.Parameter(torch.zeros(genes))

    def forward(self) -> Tensor:
        """log theta, (genes,), in float32 or better."""
        dtype = torch.promote_types(self.offset.dtype, torch.float32)
        return (self.start.to(dtype) + self.rate * self.offset.to(dtype)).clamp(*LOG_THETA_RANGE)
